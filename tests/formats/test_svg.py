import io
from xml.etree import ElementTree

import numpy as np
import pytest
from finished_runs import HOSTILE
from PIL import Image

resvg = pytest.importorskip("resvg_py")


def drawn(path):
    data = bytes(resvg.svg_to_bytes(svg_string=path.read_text("utf-8")))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def test_drawn_by_resvg_each_pixel_has_its_class_color(run):
    folder = run.export("svg")
    colors = np.zeros((len(HOSTILE) + 1, 4), np.uint8)  # the last, of unlabelled: transparent
    colors[:-1] = [(*entry.color, 255) for entry in run.open().classes]
    for rel, labels in run.labels.items():
        np.testing.assert_array_equal(drawn(folder / f"{rel}.svg"), colors[labels])


def test_names_are_escaped(run):
    file = run.export("svg") / "a.svg"
    paths = ElementTree.parse(file).getroot().findall("{http://www.w3.org/2000/svg}path")
    present = np.unique(run.labels["a"][run.labels["a"] >= 0]).tolist()
    assert [path.get("id") for path in paths] == [f"class-{i}" for i in present]
    names = {path.get("aria-label") for path in paths}
    assert HOSTILE[2] in names or 2 not in present
    assert present[-1] == 4 or names


def test_more_than_255_classes(huge_vocabulary):
    file = huge_vocabulary.export("svg") / "a.svg"
    assert len(ElementTree.parse(file).getroot()) == len(np.unique(huge_vocabulary.labels["a"])) - 1
