"""Benchmarks, read from tiny imitations of their folders as they are distributed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.data.benchmarks import BENCHMARKS, COCO_UNSEEN, benchmark, open_benchmark
from ovseg_cli.data.pixel_set import IGNORE, IGNORE_16
from ovseg_cli.errors import UsageError
from ovseg_cli.vocabulary_files import preset

COUNTS = {  # of classes, background included where it is one
    "voc20": 20, "voc21": 21, "pc59": 59, "pc60": 60, "pc459": 459, "ade150": 150, "ade847": 847,
    "coco171": 171, "coco80": 80, "coco81": 81, "cityscapes19": 19, "camvid11": 11,
}  # fmt: skip


def save(file: Path, ids: list[list[int]] | None = None, kind: type = np.uint8) -> None:
    """A photo, or a label map of these ids."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((2, 3, 3), np.uint8) if ids is None else np.array(ids, kind)
    Image.fromarray(pixels).save(file)


def loaded(name: str, root: Path, key: str | None = None):
    data = open_benchmark(benchmark(name), root)
    key = key or data.keys[0]
    image, labels = data.load(key)
    assert image.shape == (2, 3, 3)
    return data, labels.tolist()


def test_there_are_these_and_each_says_where_it_is_to_be_had():
    counts = {entry.name: len(preset(entry.classes)) + entry.background for entry in BENCHMARKS}
    assert counts == COUNTS
    assert all(entry.source and entry.terms and entry.layout for entry in BENCHMARKS)


@pytest.mark.parametrize("place", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc(tmp_path, place):
    root = tmp_path / place
    save(root / "JPEGImages/2007_1.jpg")
    picture = Image.frombytes("P", (3, 2), bytes([0, 1, 20, 255, 5, 0]))  # with a palette
    picture.putpalette(bytes(range(256)) * 3)
    (root / "SegmentationClass").mkdir()
    picture.save(root / "SegmentationClass/2007_1.png")
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2007_1\n")
    data, labels = loaded("voc20", tmp_path)
    assert labels == [[IGNORE, 0, 19], [IGNORE, 4, IGNORE]]
    assert not data.has_other
    data, labels = loaded("voc21", tmp_path)
    assert labels == [[20, 0, 19], [IGNORE, 4, 20]]
    assert data.has_other


def test_pascal_context(tmp_path):
    save(tmp_path / "VOCdevkit/VOC2010/JPEGImages/2008_2.jpg")
    lists = tmp_path / "VOCdevkit/VOC2010/ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2008_2\n")
    names = [name.replace(" ", "") for name in preset("pc459").names]
    names[1], names[2] = names[2], names[1]  # the file tells the ids, not our order
    (tmp_path / "labels.txt").write_text(
        "".join(f"{i}: {name}\n" for i, name in enumerate(names, start=1))
    )
    of = {name: i for i, name in enumerate(names, start=1)}
    matlab = pytest.importorskip("scipy.io")
    (tmp_path / "trainval").mkdir()
    first, last = preset("pc459").names[1].replace(" ", ""), "wool"
    ids = np.array([[of["aeroplane"], of["wood"], 0], [of[first], of[last], of["bag"]]], np.uint16)
    matlab.savemat(tmp_path / "trainval/2008_2.mat", {"LabelMap": ids})
    _, labels = loaded("pc59", tmp_path)
    assert labels[0] == [0, 58, IGNORE]
    assert labels[1][1:] == [IGNORE, 1]
    _, labels = loaded("pc60", tmp_path)
    assert labels[0] == [0, 58, 59]
    assert labels[1][1:] == [59, 1]
    data, labels = loaded("pc459", tmp_path)
    assert labels[0][2] == IGNORE_16
    assert labels[1][:2] == [1, 458]
    assert data.ignore == IGNORE_16


def test_ade20k(tmp_path):
    save(tmp_path / "ADEChallengeData2016/images/validation/ADE_val_1.jpg")
    save(
        tmp_path / "ADEChallengeData2016/annotations/validation/ADE_val_1.png",
        [[0, 1, 150], [2, 2, 0]],
    )
    for root in (tmp_path, tmp_path / "ADEChallengeData2016"):
        _, labels = loaded("ade150", root)
        assert labels == [[IGNORE, 0, 149], [1, 1, IGNORE]]


def test_ade20k_in_full(tmp_path):
    """Red in steps of ten and green are the object's number, blue its instance."""
    folder = tmp_path / "ADE20K_2021_17_01/images/ADE/validation/urban/street"
    save(folder / "ADE_val_1.jpg")
    colours = [[[110, 162, 1], [10, 56, 9], [120, 76, 0]], [[110, 162, 2], [0, 0, 0], [0, 1, 3]]]
    save(folder / "ADE_val_1_seg.png", colours)
    save(folder / "ADE_val_1_parts_1.png")
    save(folder / "ADE_val_1/instance_000_ADE_val_1.png")
    for root in (tmp_path, tmp_path / "ADE20K_2021_17_01"):
        data, labels = loaded("ade847", root)
        assert data.keys == ("urban/street/ADE_val_1",)
        # 2978 wall, 312 building, 3148 adding machine; 0 nothing, 1 an object that is no class.
        assert labels == [[0, 1, 846], [0, IGNORE_16, IGNORE_16]]
        assert data.names[:2] == ("wall", "building")


@pytest.mark.parametrize("photos", ["val2017", "images/val2017"])
def test_coco(tmp_path, photos):
    save(tmp_path / photos / "000000000139.jpg")
    # As stuffthingmaps stores them: category id - 1. 1 person, 90 toothbrush, 92 banner, 182 wood.
    ids = [[0, 89, 91], [181, 255, 11]]
    save(tmp_path / "stuffthingmaps/val2017/000000000139.png", ids)
    data, labels = loaded("coco171", tmp_path)
    assert labels == [[0, 79, 80], [170, IGNORE, IGNORE]]  # 12 is a gap
    assert set(COCO_UNSEEN) <= set(data.names)
    _, labels = loaded("coco80", tmp_path)
    assert labels == [[0, 79, IGNORE], [IGNORE, IGNORE, IGNORE]]
    # Unlabelled pixels are background, too: GroupViT's convert_coco_object.py makes 0 of all values
    # above 90, and by its COCO-Object the published scores are.
    _, labels = loaded("coco81", tmp_path)
    assert labels == [[0, 79, 80], [80, 80, IGNORE]]


def test_coco_as_the_readme_of_coco_stuff_unpacks_it(tmp_path):
    """With what the conversions of MMSegmentation and GroupViT leave beside the label maps."""
    save(tmp_path / "images/val2017/000000000139.jpg")
    maps = tmp_path / "annotations/val2017"
    save(maps / "000000000139.png", [[0, 89, 91], [181, 255, 11]])
    for kind in ("labelTrainIds", "instanceTrainIds"):
        save(maps / f"000000000139_{kind}.png", [[0, 0, 0], [0, 0, 0]])
    data, labels = loaded("coco171", tmp_path)
    assert data.keys == ("000000000139",)
    assert labels == [[0, 79, 80], [170, IGNORE, IGNORE]]
    assert "unzipped within stuffthingmaps or annotations" in benchmark("coco171").layout


def test_the_unseen_classes_are_the_paper_s(shared_dir):
    import json

    listed = json.loads((shared_dir / "data/vocabularies/coco171.json").read_text())
    names = preset("coco171").names
    assert {names[entry["index"]] for entry in listed if not entry["seen"]} == set(COCO_UNSEEN)
    gaps = set(range(1, 183)) - {entry["id"] for entry in listed}
    from ovseg_cli.data.benchmarks import COCO_GAPS

    assert gaps == set(COCO_GAPS)


def test_cityscapes(tmp_path):
    save(tmp_path / "leftImg8bit/val/ulm/ulm_0_leftImg8bit.png")
    save(tmp_path / "gtFine/val/ulm/ulm_0_gtFine_labelIds.png", [[7, 8, 33], [0, 6, 24]])
    data, labels = loaded("cityscapes19", tmp_path)
    assert data.keys == ("ulm/ulm_0",)
    assert labels == [[0, 1, 18], [IGNORE, IGNORE, 11]]
    assert (data.names[11], data.names[18]) == ("person", "bicycle")


def test_camvid(tmp_path):
    save(tmp_path / "test/a.png")
    save(tmp_path / "testannot/a.png", [[0, 10, 11], [3, 3, 3]])
    _, labels = loaded("camvid11", tmp_path)
    assert labels == [[0, 10, IGNORE], [3, 3, 3]]


@pytest.mark.parametrize("name", COUNTS)
def test_a_folder_without_it_is_told_where_to_get_it(tmp_path, name):
    entry = benchmark(name)
    with pytest.raises(UsageError, match=f"does not hold {name} .*Expected there.*had from"):
        open_benchmark(entry, tmp_path)
    with pytest.raises(UsageError, match="has no split 'nope'"):
        open_benchmark(entry, tmp_path, "nope")


def test_lists_may_begin_with_a_byte_order_mark(tmp_path):
    save(tmp_path / "JPEGImages/2007_1.jpg")
    save(tmp_path / "SegmentationClass/2007_1.png", [[0, 1, 20], [255, 5, 0]])
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_bytes(b"\xef\xbb\xbf2007_1\r\n")
    data, _ = loaded("voc20", tmp_path)
    assert data.keys == ("2007_1",)


def test_a_photo_that_is_listed_twice_does_not_count_twice(tmp_path):
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2007_1\n2007_2\n2007_1\n")
    with pytest.raises(UsageError, match=r"list of val in .* more than once, .*: 2007_1\. Leave"):
        open_benchmark(benchmark("voc20"), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x: aeroplane\n", "labels.txt: 'x: aeroplane' is not NUMBER: NAME"),
        (b"-2: aeroplane\n", "labels.txt: '-2: aeroplane' is not NUMBER: NAME"),
        (b"99999: aeroplane\n", "labels.txt: '99999: aeroplane' is not NUMBER: NAME"),
        (b"2: caf\xe9\n", r"labels\.txt cannot be read: it is not text in UTF-8"),
    ],
)
def test_a_list_of_pascal_context_that_is_none(tmp_path, content, message):
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(UsageError, match=f"does not hold pc59 .*{message}"):
        open_benchmark(benchmark("pc59"), tmp_path)


def test_an_unknown_benchmark():
    with pytest.raises(UsageError, match="voc20, voc21"):
        benchmark("imagenet")
