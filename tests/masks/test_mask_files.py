"""Masks that other programs have written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.masks.mask_files import MaskFiles, decode_run_lengths

FEATURES = np.ones((1, 1, 1), np.float32)


def frame(source: str = "photos/a/one.jpg", size_hw: tuple[int, int] = (4, 6)) -> Frame:
    return Frame(np.zeros((*size_hw, 3), np.uint8), source=source)


def test_each_id_but_0_is_a_mask(tmp_path):
    ids = np.zeros((4, 6), np.uint8)
    ids[:, 3:], ids[0, 0] = 7, 200
    Image.fromarray(ids).save(tmp_path / "one.png")
    masks = MaskFiles(tmp_path)(frame(), FEATURES, (4, 6))
    assert masks.dtype == bool
    assert np.array_equal(masks, [ids == 7, ids == 200])


def test_ids_of_16_bits_and_of_a_palette(tmp_path):
    ids = np.array([[1000, 0], [0, 2]], np.uint16)
    Image.fromarray(ids).save(tmp_path / "one.png")
    assert len(MaskFiles(tmp_path)(frame(size_hw=(2, 2)), FEATURES, (2, 2))) == 2
    picture = Image.frombytes("P", (2, 2), bytes([3, 3, 0, 1]))
    picture.putpalette(bytes(768))
    picture.save(tmp_path / "one.png")
    masks = MaskFiles(tmp_path)(frame(size_hw=(2, 2)), FEATURES, (2, 2))
    assert masks.tolist() == [[[False, False], [False, True]], [[True, True], [False, False]]]


@pytest.mark.parametrize("kind", ["png", "json"])
def test_masks_are_resized_without_blending(tmp_path, kind):
    ids = np.zeros((4, 6), np.uint8)
    ids[:, 3:] = 1
    if kind == "png":
        Image.fromarray(ids).save(tmp_path / "one.png")
    else:
        (tmp_path / "one.json").write_text(json.dumps([{"size": [4, 6], "counts": [12, 12]}]))
    (mask,) = MaskFiles(tmp_path)(frame(), FEATURES, (8, 12))
    assert np.array_equal(mask, ids.repeat(2, 0).repeat(2, 1).astype(bool))


# Written with pycocotools 2.0: two columns on the left of 4×6, and a chequered mask of 3×3.
@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        ({"size": [4, 6], "counts": "08`0"}, [[1, 1, 0, 0, 0, 0]] * 4),
        ({"size": [4, 6], "counts": [0, 8, 16]}, [[1, 1, 0, 0, 0, 0]] * 4),
        ({"size": [3, 3], "counts": "0110000000"}, [[1, 0, 1], [0, 1, 0], [1, 0, 1]]),
        ({"size": [2, 3], "counts": [6]}, [[0, 0, 0]] * 2),
    ],
)
def test_run_lengths(encoded, expected):
    assert decode_run_lengths(encoded).astype(int).tolist() == expected


def test_a_long_mask_as_pycocotools_writes_it():
    y, x = np.mgrid[:90, :120]
    expected = (y - 45) ** 2 + (x - 60) ** 2 < 900
    counts = np.diff(np.flatnonzero(np.diff(np.r_[2, expected.T.ravel(), 2])))
    assert np.array_equal(decode_run_lengths({"size": [90, 120], "counts": counts}), expected)
    assert np.array_equal(decode_run_lengths({"size": [90, 120], "counts": pack(counts)}), expected)


def pack(counts) -> str:
    """The format's other direction, from its description."""
    text = ""
    for index, count in enumerate(counts):
        value = int(count) - (int(counts[index - 2]) if index > 2 else 0)
        while True:
            bits, value = value & 0x1F, value >> 5
            last = value == (-1 if bits & 0x10 else 0)
            text += chr(48 + bits + (0 if last else 0x20))
            if last:
                break
    return text


def test_sam_s_list_and_coco_s_annotations(tmp_path):
    one = {"segmentation": {"size": [4, 6], "counts": [0, 8, 16]}, "area": 8}
    other = {"size": [4, 6], "counts": [16, 8]}
    for content in ([one, other], {"annotations": [one, other]}):
        (tmp_path / "one.json").write_text(json.dumps(content))
        masks = MaskFiles(tmp_path)(frame(), FEATURES, (4, 6))
        assert masks.sum((1, 2)).tolist() == [8, 8]


def test_the_nearest_folder_counts(tmp_path):
    for place in ("one.png", "a/one.json", "photos/a/one.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    files = MaskFiles(tmp_path)
    assert files.find(Path("photos/a/one.jpg")) == tmp_path / "photos/a/one.png"
    assert files.find(Path("/x/a/one.JPG")) == tmp_path / "a/one.json"
    assert files.find(Path("b/one.webp")) == tmp_path / "one.png"
    with pytest.raises(InputError, match=r"neither two\.png nor \.json"):
        files.find(Path("two.jpg"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("one.png", b"no picture", "cannot be read"),
        ("one.json", b"{", "cannot be read"),
        ("one.json", b"[]", "there is no mask in it"),
        ("one.json", b'[{"size": [4, 6], "counts": [3]}]', "runs of 3 pixels"),
        ("one.json", b'[{"size": [4, 6], "counts": [30, -6]}]', "cannot be read"),
        ("one.json", b'[{"area": 3}]', "cannot be read"),
        ("one.json", b'[{"size": [2, 2], "counts": [4]}]', "are 2×2 pixels, not 6×4"),
    ],
)
def test_files_that_are_no_masks(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        MaskFiles(tmp_path)(frame(), FEATURES, (4, 6))


def test_pictures_that_are_no_ids(tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "one.png")
    with pytest.raises(InputError, match="several channels"):
        MaskFiles(tmp_path)(frame(), FEATURES, (4, 6))
    Image.new("L", (6, 4)).save(tmp_path / "one.png")
    with pytest.raises(InputError, match="no mask"):
        MaskFiles(tmp_path)(frame(), FEATURES, (4, 6))


def test_no_folder(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        MaskFiles(tmp_path / "absent")


def test_a_path_upwards_leads_to_no_other_folder(tmp_path):
    """Of ../photos/one.png, that is, not to the photo, for masks in ../masks."""
    here, photos, masks = (tmp_path / name for name in ("here", "photos", "masks"))
    for folder in (here, photos, masks):
        folder.mkdir()
    Image.fromarray(np.full((4, 6, 3), 9, np.uint8)).save(photos / "one.png")
    Image.fromarray(np.ones((4, 6), np.uint8)).save(masks / "one.png")
    found = MaskFiles(here / ".." / "masks").find(Path("..") / "photos" / "one.png")
    assert found.samefile(masks / "one.png")


def test_masks_in_the_folder_of_photos(tmp_path):
    """A photo that is itself a PNG is not taken for its masks."""
    photo = tmp_path / "one.png"
    Image.fromarray(np.full((2, 3), 9, np.uint8)).save(photo)
    (tmp_path / "one.json").write_text(json.dumps([{"size": [2, 3], "counts": [0, 6]}]))
    assert MaskFiles(tmp_path).find(photo) == tmp_path / "one.json"
    (tmp_path / "one.json").unlink()
    with pytest.raises(InputError, match="holds no masks of"):
        MaskFiles(tmp_path).find(photo)


def test_a_folder_whose_name_is_too_long():
    with pytest.raises(UsageError, match="there is no such folder"):
        MaskFiles(Path("x" * 300))
