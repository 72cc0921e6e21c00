"""Reading photos with a label per pixel."""

import json

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.data.pixel_set import IGNORE, read_pixel_set
from ovseg_cli.errors import UsageError


def test_names_are_in_the_order_of_their_ids_and_background_is_none(garden):
    data = read_pixel_set(garden, "train")
    assert data.name == "garden"
    assert data.keys == ("a", "b")
    assert data.names == ("tree", "path")
    assert data.ids == (2, 5)
    assert (data.other_ids, data.has_other) == ((0,), True)
    assert data.other == 2
    assert read_pixel_set(garden, "val").keys == ("c",)


def test_labels_become_positions_other_or_ignore(garden):
    image, labels = read_pixel_set(garden, "train").load("a")
    assert image.shape == (3, 4, 3) and image.dtype == np.uint8
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[2, 0, 1, IGNORE], [2, 0, 1, IGNORE], [2, 0, 0, 0]]


def test_without_background_every_id_is_a_class(garden):
    (garden / "classes.json").write_text(json.dumps({"0": "soil", "2": "tree"}))
    data = read_pixel_set(garden, "train")
    assert data.names == ("soil", "tree")
    assert not data.has_other
    _, labels = data.load("a")
    assert labels.tolist()[0] == [0, 1, IGNORE, IGNORE]


def test_some_names_alone_leave_the_others_to_none_of_them(garden):
    data = read_pixel_set(garden, "train").only(["path"])
    assert (data.names, data.ids, data.other, set(data.other_ids)) == (("path",), (5,), 1, {0, 2})
    _, labels = data.load("a")
    assert labels.tolist() == [[1, 1, 0, IGNORE], [1, 1, 0, IGNORE], [1, 1, 1, 1]]
    (garden / "classes.json").write_text(json.dumps({"0": "soil", "2": "tree"}))
    turned = read_pixel_set(garden, "train").only(["tree", "soil"])  # in the order asked for
    assert (turned.names, turned.ids, turned.has_other) == (("tree", "soil"), (2, 0), False)
    with pytest.raises(UsageError, match="'shrub'; it has tree, soil"):
        turned.only(["shrub"])


def test_label_maps_with_a_palette_hold_ids(garden):
    stored = Image.fromarray(np.array([[0, 2], [5, 255]], np.uint8), "P")
    stored.putpalette([10, 20, 30] * 256)
    stored.save(garden / "labels" / "a.png")
    Image.new("L", (2, 2), 77).save(garden / "images" / "a.png")  # a grey photo
    image, labels = read_pixel_set(garden, "train").load("a")
    assert labels.tolist() == [[2, 0], [1, IGNORE]]
    assert image.tolist() == [[[77, 77, 77]] * 2] * 2


@pytest.mark.parametrize("key", ["a", "b"])
def test_photos_may_have_several_formats(garden, key):
    image, _ = read_pixel_set(garden, "train").load(key)
    assert abs(int(image.mean()) - {"a": 0, "b": 60}[key]) <= 1


def test_the_folders_of_the_project_are_read(shared_dir):
    camvid = read_pixel_set(shared_dir / "data" / "camvid", "val")
    assert (len(camvid.keys), len(camvid.names), camvid.has_other) == (101, 11, False)
    voc = read_pixel_set(shared_dir / "data" / "voc2012-subset", "val")
    assert (len(voc.names), voc.other_ids) == (20, (0,))
    image, labels = voc.load(voc.keys[0])
    assert image.shape[:2] == labels.shape
    assert set(np.unique(labels)) <= {*range(21), IGNORE}


def break_it(root, what):
    if what == "no classes":
        (root / "classes.json").unlink()
    elif what == "no list":
        (root / "train.txt").unlink()
    elif what == "empty list":
        (root / "train.txt").write_text("\n")
    elif what == "no JSON":
        (root / "classes.json").write_text("{")
    elif what == "a list":
        (root / "classes.json").write_text('["tree"]')
    elif what == "names as keys":
        (root / "classes.json").write_text('{"tree": 2}')
    elif what == "large id":
        (root / "classes.json").write_text('{"255": "tree"}')
    elif what == "many":
        (root / "classes.json").write_text(json.dumps({n: f"name {n}" for n in range(255)}))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no classes", r"garden is not a labelled data set .*No such file.*classes\.json"),
        ("no list", r"garden is not a labelled data set .*No such file.*train\.txt"),
        ("empty list", r"train\.txt names no photo"),
        ("no JSON", "garden is not a labelled data set"),
        ("a list", "garden is not a labelled data set"),
        ("names as keys", "garden is not a labelled data set"),
        ("large id", r"a class id is not in 0\.\.254"),
        ("many", "255 classes do not fit"),
    ],
)
def test_layouts_that_are_not_as_expected(garden, what, message):
    break_it(garden, what)
    with pytest.raises(UsageError, match=message):
        read_pixel_set(garden, "train")


def test_photos_and_labels_that_are_missing_damaged_or_do_not_fit(garden):
    data = read_pixel_set(garden, "train")
    label, photo = garden / "labels" / "a.png", garden / "images" / "a.png"
    Image.new("L", (5, 3)).save(label)
    with pytest.raises(UsageError, match=r"garden/a: the label map is \(3, 5\), the photo \(3, 4"):
        data.load("a")
    Image.new("RGB", (5, 3)).save(label)
    with pytest.raises(UsageError, match=r"labels/a\.png: the label map is not one of 8"):
        data.load("a")
    label.write_bytes(label.read_bytes()[:30])
    with pytest.raises(UsageError, match=r"labels/a\.png cannot be read"):
        data.load("a")
    label.unlink()
    with pytest.raises(UsageError, match=r"labels/a\.png cannot be read"):
        data.load("a")
    photo.unlink()
    with pytest.raises(UsageError, match=r"no photo named a\.jpg"):
        data.load("a")
