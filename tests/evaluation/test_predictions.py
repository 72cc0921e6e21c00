"""Label maps of other programs."""

import json
import re
import struct
import tracemalloc
import zlib
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ovseg_cli import png
from ovseg_cli.data.benchmarks import benchmark, open_benchmark
from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.evaluation.predictions import PredictionFiles
from ovseg_cli.segmentation import UNLABELED

PHOTO = np.zeros((2, 3, 3), np.uint8)
U = UNLABELED


def write(folder, ids, kind=np.uint8, keys=("a", "b/c")):
    for key in keys:
        file = folder / f"{key}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(ids, kind)).save(file)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_values_are_positions_and_255_is_unlabelled(pets, tmp_path, kind):
    write(tmp_path / "out", [[0, 1, 2], [255, 2, 0]], kind)
    labels, confidence = PredictionFiles(tmp_path / "out", pets)("b/c", PHOTO)
    assert labels.tolist() == [[0, 1, 2], [U, 2, 0]]
    assert labels.dtype == np.int32
    assert confidence is None


def test_65535_is_unlabelled_and_255_a_class_where_there_are_so_many(pets, tmp_path):
    many = replace(pets, names=tuple(map(str, range(300))), ids=tuple(range(300)))
    write(tmp_path / "out", [[0, 255, 299], [65535, 254, 0]], np.uint16)
    labels, _ = PredictionFiles(tmp_path / "out", many)("a", PHOTO)
    assert labels.tolist() == [[0, 255, 299], [U, 254, 0]]
    write(tmp_path / "out", [[0, 255, 29], [255, 254, 0]])  # in 8 bits 255 is no class
    labels, _ = PredictionFiles(tmp_path / "out", many)("a", PHOTO)
    assert labels.tolist() == [[0, U, 29], [U, 254, 0]]


def test_background_comes_after_the_names(pets_outside, tmp_path):
    write(tmp_path / "out", [[0, 1, 2], [255, 2, 0]])
    labels, _ = PredictionFiles(tmp_path / "out", pets_outside)("a", PHOTO)
    assert labels.tolist() == [[0, 1, 2], [U, 2, 0]]


@pytest.mark.parametrize(("values", "ids"), [([0, 1, 2], "position"), ([0, 3, 7], "file")])
def test_some_names_alone_do_not_move_the_others_positions(pets, tmp_path, values, ids):
    """A map of cat, dog and bird, of which first bird and then cat are scored: dog is neither."""
    write(tmp_path / "out", [values, [255, values[2], values[0]]])
    some = pets.only(["bird", "cat"])
    made = PredictionFiles(tmp_path / "out", some, ids=ids, whole=pets)
    assert made("a", PHOTO)[0].tolist() == [[1, 2, 0], [U, 0, 1]]


def test_background_stays_none_of_some_names(pets_outside, tmp_path):
    write(tmp_path / "out", [[0, 1, 2], [255, 2, 0]])  # dog, bird, background
    some = pets_outside.only(["bird"])
    labels, _ = PredictionFiles(tmp_path / "out", some, whole=pets_outside)("a", PHOTO)
    assert labels.tolist() == [[1, 0, 1], [U, 1, 1]]


def test_the_ids_of_the_set_s_own_files(pets, pets_outside, tmp_path):
    write(tmp_path / "out", [[0, 3, 7], [255, 5, 0]])
    labels, _ = PredictionFiles(tmp_path / "out", pets, ids="file")("a", PHOTO)
    assert labels.tolist() == [[0, 1, 2], [U, U, 0]]
    labels, _ = PredictionFiles(tmp_path / "out", pets_outside, ids="file")("a", PHOTO)
    assert labels.tolist() == [[2, 0, 1], [U, U, 2]]


def test_a_palette_s_indices_count(pets, tmp_path):
    (tmp_path / "b").mkdir()
    for key in ("a", "b/c"):
        picture = Image.frombytes("P", (3, 2), bytes([0, 1, 2, 255, 2, 0]))
        picture.putpalette(bytes(range(255, -1, -1)) * 3)
        picture.save(tmp_path / f"{key}.png")
    labels, _ = PredictionFiles(tmp_path, pets)("a", PHOTO)
    assert labels.tolist() == [[0, 1, 2], [U, 2, 0]]


def test_missing_files_are_named(pets, tmp_path):
    write(tmp_path / "out", [[0]], keys=["a"])
    with pytest.raises(UsageError, match=r"out lacks 1 of 2 label maps: b/c\.png$"):
        PredictionFiles(tmp_path / "out", pets)
    many = replace(pets, keys=tuple(f"k{number}" for number in range(9)))
    with pytest.raises(UsageError, match=r"lacks 9 of 9 .*: k0\.png, .*k4\.png and 4 more"):
        PredictionFiles(tmp_path / "out", many)


def test_maps_may_be_called_as_photos_whose_names_hold_more_than_their_key(tmp_path):
    """As `ovseg segment leftImg8bit/val -r` writes them."""
    photos = tmp_path / "leftImg8bit/val"
    write(photos, np.zeros((2, 3, 3)), keys=["ulm/ulm_0_leftImg8bit"])
    city = open_benchmark(benchmark("cityscapes19"), tmp_path)
    with pytest.raises(UsageError, match=r"lacks 1 of 1 label maps: ulm/ulm_0\.png"):
        PredictionFiles(tmp_path / "out", city)
    write(tmp_path / "out", [[0, 1, 18], [255, 2, 0]], keys=["ulm/ulm_0_leftImg8bit"])
    labels, _ = PredictionFiles(tmp_path / "out", city)("ulm/ulm_0", PHOTO)
    assert labels.tolist() == [[0, 1, 18], [U, 2, 0]]
    write(tmp_path / "out", [[3, 1, 18], [255, 2, 0]], keys=["ulm/ulm_0"])  # counts before it
    labels, _ = PredictionFiles(tmp_path / "out", city)("ulm/ulm_0", PHOTO)
    assert labels[0, 0] == 3


@pytest.mark.parametrize(
    ("ids", "kind", "error", "message"),
    [
        ([[0, 1], [2, 0]], np.uint8, InputError, "a.png is 2×2 pixels, its photo 3×2"),
        (
            [[0, 1, 3], [2, 0, 0]],
            np.uint8,
            UsageError,
            "a.png has the value 3: a class is its position, 0 to 2; for values as in the set's "
            "own label files: --prediction-ids file",
        ),
        ([[0, 1, 256], [2, 0, 0]], np.uint16, UsageError, "a.png has the value 256"),
        (
            [[[0] * 3] * 3] * 2,
            np.uint8,
            InputError,
            "holds colours, 3 values a pixel (such as RGB)",
        ),
    ],
)
def test_maps_that_do_not_fit_are_named(pets, tmp_path, ids, kind, error, message):
    write(tmp_path / "out", ids, kind)
    with pytest.raises(error, match=re.escape(message)):
        PredictionFiles(tmp_path / "out", pets)("a", PHOTO)


def test_a_damaged_map(pets, tmp_path):
    write(tmp_path / "out", [[0, 1, 2], [2, 0, 0]])
    (tmp_path / "out/a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a\.png cannot be read"):
        PredictionFiles(tmp_path / "out", pets)("a", PHOTO)


def test_of_255_classes_the_last_is_254_and_255_is_unlabelled_in_16_bits_too(pets, tmp_path):
    many = replace(pets, names=tuple(map(str, range(255))), ids=tuple(range(255)))
    write(tmp_path / "out", [[0, 255, 254], [65535, 1, 0]], np.uint16)
    labels, _ = PredictionFiles(tmp_path / "out", many)("a", PHOTO)
    assert labels.tolist() == [[0, U, 254], [U, 1, 0]]


def named(folder, ids, text, kind=np.uint8):
    """Both maps as `ovseg segment` writes them, with that text as their names."""
    folder.mkdir(exist_ok=True)
    (folder / "b").mkdir(exist_ok=True)
    for key in ("a", "b/c"):
        content = png.encoded_map(np.array(ids, kind), {"Vocabulary": text})
        (folder / f"{key}.png").write_bytes(content)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["cat", "dog", "bird"], [[0, 1, 2], [U, 2, 0]]),
        (["bird", "cat", "dog"], [[2, 0, 1], [U, 1, 2]]),
        (["Bird", "CAT", "dog", "rest"], [[2, 0, 1], [U, 1, 2]]),
    ],
)
def test_a_map_that_has_names_is_read_by_these(pets, tmp_path, names, labels):
    named(tmp_path / "out", [[0, 1, 2], [255, 2, 0]], json.dumps(names))
    assert PredictionFiles(tmp_path / "out", pets)("a", PHOTO)[0].tolist() == labels
    made = PredictionFiles(tmp_path / "out", pets, ids="position")
    assert made("a", PHOTO)[0].tolist() == [[0, 1, 2], [U, 2, 0]]


@pytest.mark.parametrize("last", ["background", "everything else"])
def test_the_name_of_other_is_none_of_the_set_s(pets, pets_outside, tmp_path, last):
    named(tmp_path / "out", [[0, 1, 2], [255, 2, 0]], json.dumps(["bird", "dog", last]))
    labels, _ = PredictionFiles(tmp_path / "out", pets_outside)("a", PHOTO)
    assert labels.tolist() == [[1, 0, 2], [U, 2, 1]]
    named(tmp_path / "out", [[0, 1, 3], [2, 3, 0]], json.dumps(["bird", "dog", "cat", last]))
    labels, _ = PredictionFiles(tmp_path / "out", pets)("a", PHOTO)  # all there is has a name
    assert labels.tolist() == [[2, 1, U], [0, U, 2]]


def test_a_map_with_names_may_have_more_or_just_those_that_are_scored(pets, tmp_path):
    some = pets.only(["bird", "cat"])
    named(tmp_path / "out", [[0, 1, 2], [255, 2, 0]], '["dog", "bird", "cat"]')
    labels, _ = PredictionFiles(tmp_path / "out", some, whole=pets)("a", PHOTO)
    assert labels.tolist() == [[2, 0, 1], [U, 1, 2]]
    named(tmp_path / "out", [[0, 1, 2], [255, 2, 0]], '["cat", "bird", "rest"]')
    labels, _ = PredictionFiles(tmp_path / "out", some, whole=pets)("a", PHOTO)
    assert labels.tolist() == [[1, 0, 2], [U, 2, 1]]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "dog"], 'they lack "bird"'),
        (["cat", "dog", "crow"], 'they lack "bird" and have "crow"'),
        (["cat", "cow", "dog", "bird"], 'they have "cow"'),
        (["a", "b", "\x1b[2J"], 'they lack "cat", "dog", "bird" and have "a", "b", "\\x1b[2J"'),
    ],
)
def test_maps_of_other_names_are_refused(pets, tmp_path, names, message):
    named(tmp_path / "out", [[0, 1, 1], [255, 1, 0]], json.dumps(names))
    with pytest.raises(UsageError, match=r"a\.png: .*" + re.escape(message)):
        PredictionFiles(tmp_path / "out", pets)("a", PHOTO)


@pytest.mark.parametrize("text", ["cat, dog", "{}", "3", "[1, 2]", "[" * 100_000, '{"0": "cat"}'])
def test_what_another_program_calls_its_vocabulary_is_passed_over(pets, tmp_path, text):
    named(tmp_path / "out", [[0, 1, 2], [255, 2, 0]], text)
    labels, _ = PredictionFiles(tmp_path / "out", pets)("a", PHOTO)
    assert labels.tolist() == [[0, 1, 2], [U, 2, 0]]


@pytest.mark.parametrize("count", [0, 65536])
def test_names_that_no_map_can_have(pets, tmp_path, count):
    named(tmp_path / "out", [[0, 1, 2], [255, 2, 0]], json.dumps([str(n) for n in range(count)]))
    with pytest.raises(InputError, match=rf"a\.png: its Vocabulary has {count} names"):
        PredictionFiles(tmp_path / "out", pets)("a", PHOTO)


def test_a_bomb_for_names_is_not_unpacked(pets, tmp_path):
    """A hundred megabytes of blanks in a chunk of a tenth of one."""
    named(tmp_path / "out", [[0, 1, 2], [255, 2, 0]], "[]")
    file = tmp_path / "out" / "a.png"
    body = b"Vocabulary\0\0" + zlib.compress(b" " * 100_000_000)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + body))
    content = file.read_bytes()
    file.write_bytes(content[:33] + chunk + content[33:])
    tracemalloc.start()
    try:
        with suppress(InputError):
            PredictionFiles(tmp_path / "out", pets)("a", PHOTO)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
