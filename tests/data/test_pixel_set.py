"""Reading photos with a label per pixel."""

import json
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.data import pixel_set
from ovseg_cli.data.pixel_set import IGNORE, named_set, read_ids, read_pixel_set
from ovseg_cli.errors import InputError, UsageError


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
    found = set(np.unique(labels))
    assert found <= {*range(21), IGNORE}
    assert found & set(range(20))  # each photo of VOC shows at least one class


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", ["train.txt", "classes.json"])
def test_a_pipe_is_not_waited_for(garden, name):
    (garden / name).unlink()
    os.mkfifo(garden / name)
    with pytest.raises(UsageError, match="garden is not a labelled .*not a regular file") as raised:
        read_pixel_set(garden, "train")
    assert name in str(raised.value).partition("images/, labels/)")[2]


def test_a_list_that_is_too_long(garden, monkeypatch):
    monkeypatch.setattr(pixel_set, "_LONGEST_LIST", 6)
    assert read_pixel_set(garden, "train").keys == ("a", "b")
    monkeypatch.setattr(pixel_set, "_LONGEST_LIST", 5)
    with pytest.raises(UsageError, match=r"larger than 0 MB.*train\.txt"):
        read_pixel_set(garden, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"0": "cat", "00": "dog"}', "'00' is no class id such as 0 or 17"),
        ('{"0": "cat", " 1": "dog"}', "' 1' is no class id"),
        ('{"0": "cat", "-1": "dog"}', "'-1' is no class id"),
        ('{"0": "cat", "\u0663": "dog"}', "is no class id"),
        ('{"0": "cat", "%s": "dog"}' % ("x" * 1000), "'x{39}.* is no class id"),
        ('{"1": "cat", "1": "dog"}', "'1' stands there again"),
        ('{"0": NaN, "1": "cat"}', "the name of class 0 is no text: nan"),
        ('{"0": "cat", "1": null}', "the name of class 1 is no text: None"),
        ('{"0": "cat", "1": ["dog"]}', "the name of class 1 is no text"),
        ('{"0": "cat", "1": "barn|shed"}', r"class 1 has several names, 'barn\|shed': .*--rename"),
    ],
)
def test_classes_that_would_be_lost_or_have_no_name(garden, content, message):
    (garden / "classes.json").write_text(content)
    with pytest.raises(UsageError, match=rf"classes\.json: .*{message}"):
        read_pixel_set(garden, "train")


def test_a_list_of_names_has_the_ids_from_0(garden):
    (garden / "classes.json").write_text('["background", "sky", "tree", "sea", "road", "path"]')
    data = read_pixel_set(garden, "train")
    assert data.names == ("sky", "tree", "sea", "road", "path")
    assert (data.ids, data.other_ids) == ((1, 2, 3, 4, 5), (0,))


def test_a_name_with_blanks_around_it_is_the_name(garden):
    (garden / "classes.json").write_text('{"2": " tree ", "5": "path"}')
    assert read_pixel_set(garden, "train").only(["tree"]).ids == (2,)


@pytest.mark.parametrize("name", ["Background", "BACKGROUND", " background "])
def test_background_is_no_class_however_it_is_written(garden, name):
    (garden / "classes.json").write_text(json.dumps({0: name, 2: "tree", 5: "path"}))
    data = read_pixel_set(garden, "train")
    assert (data.names, data.other_ids) == (("tree", "path"), (0,))


def break_it(root, what):
    if what == "no classes":
        (root / "classes.json").unlink()
    elif what == "no list":
        (root / "train.txt").unlink()
    elif what == "empty list":
        (root / "train.txt").write_text("\n")
    elif what == "keys twice":
        (root / "train.txt").write_text("a\nb\na\nc\n b\n")
    elif what == "no JSON":
        (root / "classes.json").write_text("{")
    elif what == "a list":
        (root / "classes.json").write_text('["tree", 3]')
    elif what == "a list of segment's":
        (root / "classes.json").write_text('[{"id": 0, "name": "tree", "synonyms": []}]')
    elif what == "a number":
        (root / "classes.json").write_text("3")
    elif what == "names as keys":
        (root / "classes.json").write_text('{"tree": 2}')
    elif what == "large id":
        (root / "classes.json").write_text('{"255": "tree"}')
    elif what == "many":
        (root / "classes.json").write_text(json.dumps({n: f"name {n}" for n in range(255)}))
    elif what == "no name":
        (root / "classes.json").write_text("{}")
    elif what == "background alone":
        (root / "classes.json").write_text('{"0": "background"}')
    elif what == "a name twice":
        (root / "classes.json").write_text('{"0": "tree", "1": "Tree"}')


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no classes", r"garden is not a labelled data set .*No such file.*classes\.json"),
        ("no list", r"garden is not a labelled data set .*No such file.*train\.txt"),
        ("empty list", r"train\.txt names no photo"),
        ("keys twice", r"train\.txt names photos more than once, .*: a, b\. Leave each once"),
        ("no JSON", "garden is not a labelled data set"),
        (
            "a list",
            r'data set .*\{"0": "background", "1": "sky"\}.* this is a list of other things',
        ),
        (
            "a list of segment's",
            "data set .* this is a list of objects, such as ovseg segment writes",
        ),
        ("a number", "garden is not a labelled data set .*; this is none of these"),
        ("names as keys", "garden is not a labelled data set"),
        ("large id", r"a class id is not in 0\.\.254"),
        ("many", "255 classes do not fit"),
        ("no name", r"classes\.json: no class names given"),
        ("background alone", r"classes\.json: no class names given"),
        ("a name twice", r"classes\.json: class name .tree. occurs 2 times"),
    ],
)
def test_layouts_that_are_not_as_expected(garden, what, message):
    break_it(garden, what)
    with pytest.raises(UsageError, match=message):
        read_pixel_set(garden, "train")


WRONG_SIZE = r"^garden: .*labels/a\.png has 5×3 pixels and .*images/a\.png 4×3: .*take a off the"


def test_photos_and_labels_that_are_missing_damaged_or_do_not_fit(garden):
    data = read_pixel_set(garden, "train")
    label, photo = garden / "labels" / "a.png", garden / "images" / "a.png"
    Image.new("L", (5, 3)).save(label)
    with pytest.raises(InputError, match=WRONG_SIZE):
        data.load("a")
    Image.new("RGB", (5, 3)).save(label)
    with pytest.raises(InputError, match=r"labels/a\.png: .* holds colours, 3 .*\(such as RGB\)"):
        data.load("a")
    label.write_bytes(label.read_bytes()[:30])
    with pytest.raises(InputError, match=r"labels/a\.png cannot be read"):
        data.load("a")
    label.unlink()
    with pytest.raises(InputError, match=r"labels/a\.png cannot be read"):
        data.load("a")
    Image.new("L", (4, 3)).save(label)
    photo.unlink()
    with pytest.raises(UsageError, match=r"no photo named a\.jpg"):
        data.load("a")


def turned(data, orientation, stored, labels):
    """Photo a with these pixels as stored and this orientation, and its label map."""
    (data / "images" / "a.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(data / "images" / "a.jpg", exif=exif, quality=100)
    Image.fromarray(labels).save(data / "labels" / "a.png")


@pytest.fixture
def half():
    """(16, 32, 3), black with a white right half."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 255
    return pixels


@pytest.mark.parametrize(
    ("orientation", "white"),
    [(3, np.s_[:, :16]), (6, np.s_[16:]), (8, np.s_[:16])],
)
def test_photos_are_upright_as_their_label_maps_are(garden, half, orientation, white):
    labels = np.zeros((16, 32) if orientation == 3 else (32, 16), np.uint8)
    turned(garden, orientation, half, labels)
    image, found = read_pixel_set(garden, "train").load("a")
    assert image.shape[:2] == found.shape
    expected = np.zeros(found.shape, bool)
    expected[white] = True
    assert ((image[..., 0] > 127) == expected).all()


def test_a_photo_whose_label_map_is_not_turned_is_not_either(garden, half):
    turned(garden, 6, half, np.zeros((16, 32), np.uint8))
    image, _ = read_pixel_set(garden, "train").load("a")
    assert image[:, 20:].min() > 200 and image[:, :12].max() < 50
    Image.new("L", (30, 16)).save(garden / "labels" / "a.png")  # fits neither
    with pytest.raises(InputError, match=r"has 30×16 pixels and .*a\.jpg 16×32:"):
        read_pixel_set(garden, "train").load("a")


def test_what_is_listed_but_is_not_there_is_named(garden):
    data = read_pixel_set(garden, "train")
    data.require_files()
    (garden / "labels" / "b.png").unlink()
    message = r"^garden lacks the label map of 1 of 2 that are listed: labels/b\.png\. Add them"
    with pytest.raises(UsageError, match=message):
        data.require_files()
    (garden / "images" / "a.png").unlink()
    message = (
        r"lacks the photo of 1 of 2 that are listed: images/a\.jpg \(nor \.png, \.jpeg, \.webp\); "
        r"and the label map of 1 of 2 that are listed: labels/b\.png\. Add"
    )
    with pytest.raises(UsageError, match=message):
        data.require_files()


@pytest.mark.parametrize("suffix", [".JPG", ".JPEG", ".PNG", ".Jpg", ".WEBP"])
def test_photos_may_be_called_as_cameras_call_them(garden, suffix):
    (garden / "images" / "a.png").rename(garden / "images" / f"a{suffix}")
    data = read_pixel_set(garden, "train")
    data.require_files()
    assert data.load("a")[0].shape == (3, 4, 3)
    Image.new("RGB", (4, 3), "white").save(garden / "images" / "a.jpg")  # comes before it
    assert data.load("a")[0].min() > 200


def test_a_list_of_files_is_told_from_one_of_keys(garden):
    (garden / "train.txt").write_text("a.png\nb.jpg\n")
    message = r"images/a\.png\.jpg, images/b\.jpg\.jpg .*The list has keys, .*: a, not a\.png$"
    with pytest.raises(UsageError, match=message):
        read_pixel_set(garden, "train").require_files()


def test_label_maps_of_16_bits_and_of_more_that_fit_these(tmp_path):
    ids = np.array([[0, 300, 65535]])
    for kind, name in ((np.uint16, "a.png"), (np.int32, "a.tif")):
        Image.fromarray(ids.astype(kind)).save(tmp_path / name)
        assert read_ids(tmp_path / name).tolist() == ids.tolist()
        assert read_ids(tmp_path / name).dtype == np.uint16


def grey_png(rows, bits):
    """A greyscale PNG of 1, 2, 4 or 8 bits a pixel, after the format's specification."""
    packed = b""
    for row in rows:
        digits = "".join(f"{value:0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)  # a row begins with a new byte
        packed += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), bits, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(packed)), (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + kind + body
        content += struct.pack(">I", zlib.crc32(kind + body))
    return content


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_label_maps_of_few_bits_hold_the_ids_that_are_stored(tmp_path, bits):
    ids = [[value, 0, (1 << bits) - 1] for value in range(1 << bits)]
    (tmp_path / "a.png").write_bytes(grey_png(ids, bits))
    assert read_ids(tmp_path / "a.png").tolist() == ids
    assert read_ids(tmp_path / "a.png").dtype == np.uint8


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_indices_of_a_palette_of_few_bits(tmp_path, bits):
    ids = np.arange(1 << bits, dtype=np.uint8)[None]
    picture = Image.frombytes("P", ids.shape[::-1], ids.tobytes())
    picture.putpalette(bytes(range(255, -1, -1)) * 3)
    picture.save(tmp_path / "a.png", bits=bits)
    assert read_ids(tmp_path / "a.png").tolist() == ids.tolist()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.array([[0.5, 1]], np.float32), "not one of 8 or 16 bits"),
        (np.array([[-5, 1]], np.int32), "values from -5 to 1, not of 0 to 65535"),
        (np.array([[0, 2_000_000_000]], np.int32), "values from 0 to 2000000000"),
    ],
)
def test_pictures_that_are_no_label_maps(tmp_path, pixels, message):
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=f"a.tif: the label map .*{message}"):
        read_ids(tmp_path / "a.tif")


def test_ids_of_no_class_are_strangers_but_not_what_is_ignored(garden):
    data = read_pixel_set(garden, "train")
    assert data.strangers(np.array([[0, 2, 7, 255]], np.uint8)) == {7: 1}
    assert data.strangers(np.array([[0, 5, 300, 300, 65535]], np.uint16)) == {300: 2}


def test_a_list_may_begin_with_a_byte_order_mark(garden):
    (garden / "train.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    assert read_pixel_set(garden, "train").keys == ("a", "b")


@pytest.mark.parametrize("root", [".", "../garden", "images/.."])
def test_a_set_is_called_as_its_folder_wherever_one_stands(garden, monkeypatch, root):
    monkeypatch.chdir(garden)
    assert read_pixel_set(Path(root), "train").name == "garden"


def test_a_set_goes_by_the_name_it_is_asked_for(garden):
    data = named_set(garden.parent.parent, f"{garden.parent.name}/garden", "val")
    assert (data.name, data.keys) == (f"{garden.parent.name}/garden", ("c",))
    (garden / "labels" / "c.png").unlink()
    with pytest.raises(
        UsageError, match=r"^garden/ lacks .* of 1 of 1 that are listed: labels/c\."
    ):
        named_set(garden.parent, "garden/", "val")


@pytest.mark.parametrize("file", ["classes.json", "train.txt"])
def test_contents_tell_sets_apart(garden, file):
    before = read_pixel_set(garden, "train").contents
    assert read_pixel_set(garden, "train").contents == before
    (garden / file).write_text({"train.txt": "a\nc\n"}.get(file, '{"2": "tree", "6": "path"}'))
    assert read_pixel_set(garden, "train").contents != before


@pytest.mark.parametrize(("count", "ignore"), [(254, 255), (255, 65535), (256, 65535)])
def test_where_255_would_be_background_or_a_class_another_number_is_ignored(garden, count, ignore):
    names, ids = tuple(map(str, range(count))), tuple(range(1, count + 1))
    data = replace(read_pixel_set(garden, "val"), names=names, ids=ids, other_ids=(0,))
    assert data.ignore == ignore
    found = data.labels_of(np.array([[0, 1, count, count + 1]], np.uint16))
    assert found.tolist() == [[count, 0, count - 1, ignore]]
