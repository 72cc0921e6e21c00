"""Reading tar shards of small pictures."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.data.image_set import contents, cut_out_set, read_image_set
from ovseg_cli.data.pixel_set import read_pixel_set
from ovseg_cli.errors import UsageError


def write_shard(path, entries):
    with tarfile.open(path, "w:gz") as shard:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))


def picture(colour, size=(8, 8)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


@pytest.fixture
def pets(tmp_path):
    table = {"1": {"names": ["dog"]}, "0": {"names": ["cat", "kitten"]}}
    (tmp_path / "classes.json").write_text(json.dumps(table))
    red, blue = picture((250, 0, 0)), picture((0, 0, 250))
    write_shard(tmp_path / "train-01.tar.gz", [("c.webp", blue), ("c.cls", b"0")])
    write_shard(
        tmp_path / "train-00.tar.gz",
        [("a.webp", red), ("a.cls", b"1\n"), ("b.webp", blue), ("b.cls", b"0")],
    )
    write_shard(tmp_path / "val-00.tar.gz", [("v.webp", red), ("v.cls", b"1")])
    return tmp_path


def test_shards_follow_each_other_by_name(pets):
    data = read_image_set(pets, "train")
    assert data.names == (("cat", "kitten"), ("dog",))
    assert data.images.shape == (3, 8, 8, 3) and data.images.dtype == np.uint8
    assert data.images[:, 0, 0].tolist() == [[250, 0, 0], [0, 0, 250], [0, 0, 250]]
    assert data.classes.tolist() == [1, 0, 0] and data.classes.dtype == np.int64
    assert len(read_image_set(pets, "val").images) == 1


def test_a_class_whose_number_is_there_twice(pets):
    """Else the first of them would be lost, and its pictures be of the other."""
    (pets / "classes.json").write_text(
        '{"0": {"names": "cow"}, "1": {"names": "dog"}, "0": {"names": "cat"}}'
    )
    with pytest.raises(UsageError, match="'0' stands there again"):
        read_image_set(pets, "train")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("a.webp", picture("red"))], "1 pictures and 0 class indices"),
        ([("a.cls", b"1")], "0 pictures and 1 class indices: a lacks its picture"),
        ([("a.webp", picture("red")), ("a.cls", b"2")], "classes.json 2 classes"),
        ([], "0 pictures"),
    ],
)
def test_shards_that_do_not_fit_their_classes(pets, entries, message):
    write_shard(pets / "odd-00.tar.gz", entries)
    with pytest.raises(UsageError, match=message):
        read_image_set(pets, "odd")


def test_a_class_belongs_to_the_picture_of_its_key(pets):
    red, blue = picture((250, 0, 0)), picture((0, 0, 250))
    entries = [("b.cls", b"0"), ("a.webp", red), ("x/c.d.webp", blue), ("a.cls", b"1")]
    write_shard(pets / "odd-00.tar.gz", [*entries, ("b.webp", blue), ("x/c.d.cls", b"1")])
    data = read_image_set(pets, "odd")
    assert data.images[:, 0, 0].tolist() == [[250, 0, 0], [0, 0, 250], [0, 0, 250]]
    assert data.classes.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        # As many pictures as classes, so that their order would say nothing of it.
        (["a.webp", "b.webp", "b.cls", "c.cls"], r"odd-00\.tar\.gz .*: a lacks its \.cls; add it"),
        (["a.webp", "a.cls", "a.cls", "b.webp"], r"it holds a\.cls twice"),
        (["a.webp", "a.cls", "a.png", "b.cls"], r"holds a\.png twice, or two pictures"),
    ],
)
def test_keys_that_lack_a_half_or_have_it_twice(pets, entries, message):
    write_shard(
        pets / "odd-00.tar.gz",
        [(name, b"0" if name.endswith(".cls") else picture("red")) for name in entries],
    )
    with pytest.raises(UsageError, match=message):
        read_image_set(pets, "odd")


def test_one_name_need_not_be_in_a_list(pets):
    table = {"0": {"names": "ruby"}, "1": {"names": ["dog"]}}
    (pets / "classes.json").write_text(json.dumps(table))
    assert read_image_set(pets, "train").names == (("ruby",), ("dog",))


@pytest.mark.parametrize("names", [[], ["cat", 3], [["cat"]], 3, None])
def test_names_that_are_none(pets, names):
    table = {"0": {"names": ["dog"]}, "1": {"names": names}}
    (pets / "classes.json").write_text(json.dumps(table))
    with pytest.raises(UsageError, match=r"classes\.json must map"):
        read_image_set(pets, "train")


def test_a_folder_without_shards_or_classes(pets):
    with pytest.raises(UsageError, match=r"holds no shard named test-\*\.tar\.gz"):
        read_image_set(pets, "test")
    (pets / "classes.json").write_text('{"0": "cat"}')
    with pytest.raises(UsageError, match=r"classes\.json must map"):
        read_image_set(pets, "train")
    (pets / "classes.json").unlink()
    with pytest.raises(UsageError, match=r"classes\.json must map"):
        read_image_set(pets, "train")


def test_contents_tell_sets_apart(pets):
    before = contents(pets, "train")
    assert contents(pets, "train") == before
    write_shard(pets / "train-02.tar.gz", [("d.webp", picture("red")), ("d.cls", b"1")])
    more = contents(pets, "train")
    (pets / "classes.json").write_text('{"0": {"names": ["cat"]}, "1": {"names": ["dog"]}}')
    assert before != more != contents(pets, "train")


def test_what_is_cut_out_is_there(tmp_path, garden):
    """However little of a photo it may be."""
    Image.fromarray(np.full((3, 4), 2, np.uint8)).save(garden / "labels" / "a.png")
    found = cut_out_set(read_pixel_set(garden, "train"), 8, 0.0)
    assert found.classes.tolist() == [0, 0, 1]  # a shows no path
