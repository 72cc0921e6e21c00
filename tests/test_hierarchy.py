"""Classes that are kinds of something: files, and the tables of what they are kinds of."""

import csv

import pytest

from ovseg_cli.errors import VocabularyError
from ovseg_cli.run_folder import tables
from ovseg_cli.run_folder.journal_entry import Entry
from ovseg_cli.segmentation import ClassArea
from ovseg_cli.vocabulary import ClassName, Vocabulary
from ovseg_cli.vocabulary_files import read

INDENTED = """\
# what drives
vehicle:
    car|automobile
    two-wheeler:   # of any kind
        bicycle
        motorbike
sky
plant :
    tree
"""
YAML = """\
vehicle:
  - car|automobile
  - two-wheeler: [bicycle, motorbike]
sky class: [sky]
plant:
  tree: [tree]
"""


def kinds(vocabulary):
    return [(entry.name, entry.parents) for entry in vocabulary.classes]


def test_an_indented_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text(INDENTED)
    vocabulary = read(path)
    assert kinds(vocabulary) == [
        ("car", ("vehicle",)),
        ("bicycle", ("vehicle", "two-wheeler")),
        ("motorbike", ("vehicle", "two-wheeler")),
        ("sky", ()),
        ("tree", ("plant",)),
    ]
    assert vocabulary.classes[0].synonyms == ("automobile",)
    path.write_text(INDENTED.replace("    ", "\t"))
    assert kinds(read(path)) == kinds(vocabulary)
    assert kinds(vocabulary.with_class("rest").with_templates(["a {}"])) == [
        *kinds(vocabulary),
        ("rest", ()),
    ]


def test_a_yaml_file(tmp_path):
    path = tmp_path / "names.yaml"
    path.write_text(YAML)
    assert kinds(read(path)) == [
        ("car", ("vehicle",)),
        ("bicycle", ("vehicle", "two-wheeler")),
        ("motorbike", ("vehicle", "two-wheeler")),
        ("sky", ("sky class",)),
        ("tree", ("plant", "tree")),
    ]
    path.write_text("[sky, road]")
    assert kinds(read(path)) == [("sky", ()), ("road", ())]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [b", "not valid YAML"),
        ("answer: [yes]", "'True'|\"True\" is no text: put it in quotes"),
        ("a:\nb: [c]", '"a" leads to no class names'),
        ("a: [b, c]\nd: [b]", '"b" occurs 2 times'),
        ("", "no class names given"),
        ("a: &x {b: [c]}\nd:\n  <<: *x", 'line 3: "<<" is no class name'),
        ("a: [b]\nc: [d]\na: [e]", 'line 3: "a" stands there again'),
        ("a:\n  b: [c]\n  b: [d]", 'line 3: "b" stands there again'),
        ("a: []\nb: [c]", '"a" leads to no class names'),
        ("a: {}\nb: [c]", '"a" leads to no class names'),
        ("- b\n-\n- c", "an entry of a list holds no class name"),
    ],
)
def test_yaml_that_cannot_be_used(tmp_path, text, reason):
    path = tmp_path / "names.yml"
    path.write_text(text)
    with pytest.raises(VocabularyError, match=reason):
        read(path)


def test_blanks_before_a_name_mean_nothing_without_a_colon(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("sky\n  road\n    car\n")
    assert kinds(read(path)) == [("sky", ()), ("road", ()), ("car", ())]


@pytest.mark.parametrize("text", ["sky\nvehicle:", "vehicle:\ncar"])
def test_a_colon_with_nothing_below_it(tmp_path, text):
    path = tmp_path / "names.txt"
    path.write_text(text)
    with pytest.raises(VocabularyError, match='nothing is indented below "vehicle:"'):
        read(path)


def test_the_same_class_twice_is_named_by_its_lines(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("a:\n  x\nb:\n  x\n")
    with pytest.raises(VocabularyError, match=r'"x" occurs 2 times \(lines 2, 4\)'):
        read(path)


NAMES = Vocabulary(
    [
        ClassName("car", (), ("vehicle",)),
        ClassName("bicycle", (), ("vehicle", "two-wheeler")),
        "sky",
    ]
)


def test_areas_add_up_for_every_kind():
    areas = [
        ClassArea(0, "car", 30, 0.3, 0.5),
        ClassArea(1, "bicycle", 10, 0.1, 0.9),
        ClassArea(2, "sky", 50, 0.5, 1.0),
        ClassArea(-1, "unlabelled", 10, 0.1, 0.2),
    ]
    vehicle, two_wheeler = tables.parent_areas(areas, NAMES.parents)
    assert (vehicle.name, vehicle.pixels, vehicle.fraction) == ("vehicle", 40, pytest.approx(0.4))
    assert vehicle.mean_confidence == pytest.approx((30 * 0.5 + 10 * 0.9) / 40)
    assert (two_wheeler.name, two_wheeler.pixels) == ("vehicle > two-wheeler", 10)
    assert tables.parent_areas(areas[2:], NAMES.parents) == []
    # What is unlabelled is no kind of anything, whatever the last class is a kind of.
    assert tables.parent_areas(areas[3:], NAMES.parents[:2]) == []


def test_the_table_of_parents(tmp_path):
    entries = [
        Entry("a", "/in/a.jpg", 1, 1, "r", 10, 10, ((0, 30, 0.5), (1, 10, 0.9), (2, 60, 1.0))),
        Entry("b", "/in/b.jpg", 1, 1, "r", 10, 10, ((2, 100, 1.0),)),
    ]
    tables.write_parents(tmp_path, NAMES, entries)
    with (tmp_path / "parents.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert ",".join(rows[0]) == "image,parent,pixels,fraction,mean_confidence"
    assert [(row["image"], row["parent"], row["pixels"], row["fraction"]) for row in rows] == [
        ("a.jpg", "vehicle", "40", "0.400000000"),
        ("a.jpg", "vehicle > two-wheeler", "10", "0.100000000"),
    ]
    tables.write_classes(tmp_path, NAMES)
    assert (
        '"parents": [\n      "vehicle",\n      "two-wheeler"'
        in (tmp_path / "classes.json").read_text()
    )


def test_without_kinds_there_is_no_such_table(tmp_path):
    (tmp_path / "parents.csv").write_text("of an earlier run, whose names were kinds of something")
    tables.write_parents(tmp_path, Vocabulary(["sky"]), [])
    assert not list(tmp_path.iterdir())
