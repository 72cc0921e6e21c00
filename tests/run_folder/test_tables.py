import csv
import json
import re

import pytest

from ovseg_cli.render import palette
from ovseg_cli.run_folder import tables
from ovseg_cli.run_folder.journal_entry import Entry
from ovseg_cli.vocabulary import ClassName, Vocabulary

VOCABULARY = Vocabulary(["sky", "=cmd()|sum", 'a "quoted", name', "line\nbreak"])
ENTRIES = [
    Entry("x/a", "/in/x/a.jpg", 1, 1, "r", 3, 1, ((0, 1, 0.5), (3, 2, 1.0))),
    Entry("b", "/in/b.PNG", 1, 1, "r", 4, 2, ((1, 3, 0.123456), (2, 4, 0.0), (-1, 1, 0.75))),
]


def rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_stats_has_a_row_for_each_class_of_each_photo(tmp_path):
    tables.write_stats(tmp_path, VOCABULARY, iter(ENTRIES))
    found = rows(tmp_path / "stats.csv")
    header = ["image", "width", "height", "class_id", "class", "pixels", "fraction"]
    assert list(found[0]) == [*header, "mean_confidence"]
    assert [(r["image"], int(r["class_id"]), r["class"], int(r["pixels"])) for r in found] == [
        ("x/a.jpg", 0, "sky", 1),
        ("x/a.jpg", 3, "line\nbreak", 2),
        ("b.PNG", 1, "'=cmd()", 3),
        ("b.PNG", 2, 'a "quoted", name', 4),
        ("b.PNG", -1, "unlabelled", 1),
    ]
    assert [float(r["mean_confidence"]) for r in found] == [0.5, 1.0, 0.123456, 0.0, 0.75]
    for image in ("x/a.jpg", "b.PNG"):
        of_image = [r for r in found if r["image"] == image]
        assert sum(float(r["fraction"]) for r in of_image) == pytest.approx(1, abs=1e-8)
        assert sum(int(r["pixels"]) for r in of_image) == int(of_image[0]["width"]) * int(
            of_image[0]["height"]
        )


def test_summary_adds_up_the_photos(tmp_path):
    totals = tables.write_stats(tmp_path, VOCABULARY, iter(ENTRIES))
    found = rows(tmp_path / "summary.csv")
    assert list(found[0]) == ["class_id", "class", "pixels", "fraction", "images"]
    assert [(int(r["class_id"]), int(r["pixels"]), int(r["images"])) for r in found] == [
        (0, 1, 1),
        (1, 3, 1),
        (2, 4, 1),
        (3, 2, 1),
        (-1, 1, 1),
    ]
    assert [float(r["fraction"]) for r in found] == pytest.approx([i / 11 for i in (1, 3, 4, 2, 1)])
    assert [total.pixels for total in totals] == [1, 3, 4, 2, 1]


def test_no_photo_at_all(tmp_path):
    tables.write_stats(tmp_path, VOCABULARY, iter([]))
    assert rows(tmp_path / "stats.csv") == []
    assert [r["fraction"] for r in rows(tmp_path / "summary.csv")] == ["0.000000000"] * 4


def test_classes_json(tmp_path):
    tables.write_classes(tmp_path, VOCABULARY)
    classes = json.loads((tmp_path / "classes.json").read_text(encoding="utf-8"))
    assert [entry["id"] for entry in classes] == [0, 1, 2, 3]
    assert classes[1]["name"] == "=cmd()" and classes[1]["synonyms"] == ["sum"]
    assert [entry["color"] for entry in classes] == palette(4).tolist()  # red, green, blue


def test_names_in_another_order_are_other_names(tmp_path):
    """Their ids are others: results for the one are no results for the other."""
    assert not tables.holds_other_names(tmp_path, VOCABULARY)
    tables.write_classes(tmp_path, VOCABULARY)
    assert not tables.holds_other_names(tmp_path, VOCABULARY)
    assert tables.holds_other_names(tmp_path, Vocabulary(VOCABULARY.classes[::-1]))


@pytest.mark.parametrize(
    ("rel", "path", "name"),
    [
        ("a", "/in/a.jpg", "a.jpg"),
        ("x/y/a", "in/x/y/a.tar.png", "x/y/a.png"),
        ("a.jpg", "/in/a.jpg", "a.jpg"),  # kept its suffix, since there is an a.png, too
        ("x.jpg", "/in/x.jpg.jpg", "x.jpg.jpg"),
        ("one/a.jpg", "/in/one/a.jpg", "one/a.jpg"),
        ("noext", "/in/noext", "noext"),
        ("caf\udce9", "/in/caf\udce9.jpg", "caf\udce9.jpg"),
    ],
)
def test_image_name(rel, path, name):
    assert tables.image_name(rel, path) == name


def test_names_that_are_not_unicode_do_not_spoil_the_table(tmp_path):
    odd = Entry("caf\udce9", "/in/caf\udce9.jpg", 1, 1, "r", 1, 1, ((0, 1, 1.0),))
    tables.write_stats(tmp_path, VOCABULARY, [odd])
    assert rows(tmp_path / "stats.csv")[0]["image"] == "caf\\udce9.jpg"


FORMULAS = [
    *("=1+1", "=cmd|' /C calc'!A0", '=HYPERLINK("http://x")', "+1+1", "-2+3", "@SUM(A1)", "\t=1+1"),
    *("\r=1+1", "\n=1+1", "\uff1d1+1", "'=1+1", "-tree", "'-5", "'=1", "''+3"),
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula_and_none_is_lost(tmp_path, text):
    tables.write_table(tmp_path / "t.csv", ["image", "class"], [[text, text]])
    (row,) = rows(tmp_path / "t.csv")
    assert row["image"] == row["class"] == f"'{text}"
    assert tables.text_of_cell(row["class"]) == text
    documented = re.sub(r"\A'(?='*[=+@\t\r\n\uff1d\uff0b\uff0d\uff20-])", "", row["class"])
    assert documented == text  # SECURITY.md, "Formulas in CSV files"


@pytest.mark.parametrize("text", ["sky", "-1", "-0.5", "+3", "-", "'tis", "a=b", "", "''", "ünï"])
def test_other_cells_stay_as_they_are(tmp_path, text):
    tables.write_table(tmp_path / "t.csv", ["class", "more"], [[text, -1.5]])
    (row,) = rows(tmp_path / "t.csv")
    assert row == {"class": text, "more": "-1.5"}
    assert tables.text_of_cell(text) == text


def test_summaries_and_kinds_hold_no_formula(tmp_path):
    names = [ClassName("=a", parents=("=b",))]
    entries = [Entry("=c", "/in/=c.jpg", 1, 1, "r", 1, 1, ((0, 1, 0.5),))]
    tables.write_stats(tmp_path, Vocabulary(names), iter(entries))
    tables.write_parents(tmp_path, Vocabulary(names), iter(entries))
    found = [rows(tmp_path / f"{name}.csv") for name in ("stats", "summary", "parents")]
    cells = [cell for table in found for row in table for cell in row.values()]
    assert sum(cell.startswith("'=") for cell in cells) == 5
    assert not any(cell.startswith("=") for cell in cells)
