import json
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from finished_runs import HOSTILE, blobs
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg_cli.formats.label_studio import brush_rle


def decoded(data):
    """The values of thi.ng's rle-pack, a bit at a time, by its published decoder."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def read(count):
        nonlocal place
        place += count
        assert place <= len(bits), "the data ends too early"
        return int(bits[place - count : place], 2)

    total, width = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < total:
        repeated, length = read(1), read(sizes[read(2)]) + 1
        values += [read(width)] * length if repeated else [read(width) for _ in range(length)]
    assert len(values) == total
    return np.array(values, np.uint8)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=20), st.booleans())
def test_any_runs(lengths, begins_with_255):
    counts = np.array([0, *lengths] if begins_with_255 else lengths)
    expected = np.repeat(np.arange(len(counts)) % 2 * 255, counts)
    np.testing.assert_array_equal(decoded(brush_rle(counts)), expected)


@pytest.mark.parametrize("length", [1, 8, 9, 16, 17, 256, 257, 65535, 65536, 65537, 131072, 200000])
def test_the_borders_between_the_kinds_of_lengths(length):
    counts = np.array([length, length, 3])
    expected = np.repeat([0, 255, 0], counts)
    np.testing.assert_array_equal(decoded(brush_rle(counts)), expected)


def test_the_converter_reads_it():
    brush = pytest.importorskip("label_studio_converter.brush")
    counts = np.array([5, 70_000, 300, 1, 9])
    expected = np.repeat([0, 255, 0, 255, 0], counts)
    np.testing.assert_array_equal(brush.decode_rle(brush_rle(counts)), expected)


def read_back(folder):
    """Name of the photo -> label map; labels by their place in the set-up."""
    setup = ElementTree.parse(folder / "labeling_config.xml").getroot()
    (image,), (brush,) = setup.findall("Image"), setup.findall("BrushLabels")
    labels = [label.get("value") for label in brush.findall("Label")]
    maps = {}
    for task in json.loads((folder / "tasks.json").read_text("utf-8")):
        address = task["data"][image.get("value").removeprefix("$")]
        (prediction,) = task["predictions"]
        found = None
        for result in prediction["result"]:
            assert result["type"] == "brushlabels" and result["value"]["format"] == "rle"
            assert result["from_name"] == brush.get("name")
            assert result["to_name"] == brush.get("toName") == image.get("name")
            size = result["original_height"], result["original_width"]
            found = np.full(size, -1, np.int32) if found is None else found
            pixels = decoded(result["value"]["rle"]).reshape(*size, 4)
            assert (pixels == pixels[..., :1]).all()
            (label,) = result["value"]["brushlabels"]
            assert (found[pixels[..., 3] > 0] == -1).all()
            found[pixels[..., 3] > 0] = labels.index(label)
        maps[address] = found
        assert prediction["score"] == 0.5
    return labels, maps


def test_the_same_pixels(run):
    run.record()
    labels, maps = read_back(run.export("label-studio"))
    assert labels[:2] == ["sky", "天空"] and len(set(labels)) == len(HOSTILE)
    assert labels[2] == HOSTILE[2]
    assert labels[3] == "#x\nnewline\t\ufffd[2J\x9b", "XML has no escape characters"
    for address, rel in zip(sorted(maps, key=unquote), sorted(run.labels), strict=True):
        np.testing.assert_array_equal(maps[address], run.labels[rel])
    assert set(map(unquote, maps)) == {
        f"/data/local-files/?d={name}" for name in ("a.png", "deep er/a.jpg", "été/天空 #1.png")
    }


def test_labels_have_the_colors_of_their_classes(run):
    run.record()
    folder = run.export("label-studio")
    setup = ElementTree.parse(folder / "labeling_config.xml").getroot()
    shown = [label.get("background") for label in setup.iter("Label")]
    colors = [bytes(entry.color).hex() for entry in run.open().classes]  # red, green, blue
    assert shown == [f"#{color}" for color in colors]
    tasks = json.loads((folder / "tasks.json").read_text("utf-8"))
    assert {task["predictions"][0]["model_version"] for task in tasks} == {"ovseg mini"}


def test_the_address_of_the_photos(make_run):
    made = make_run().add("a b", blobs((30, 40)))
    folder = made.export("label-studio", photos_at="https://example.org/x/")
    (task,) = json.loads((folder / "tasks.json").read_text())
    assert task["data"]["image"] == "https://example.org/x/a%20b.png"


def test_more_than_255_classes(huge_vocabulary):
    _, maps = read_back(huge_vocabulary.export("label-studio"))
    (labels,) = maps.values()
    np.testing.assert_array_equal(labels, huge_vocabulary.labels["a"])
