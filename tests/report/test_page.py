import base64
import configparser
import hashlib
import json
import os
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hostile_names import HOSTILE
from mock_segmenter import make_photo
from PIL import Image

from ovseg_cli.report.page import (
    SCRIPTS,
    contents,
    discard_page,
    page,
    thumbnails_folder,
    write_page,
)
from ovseg_cli.report.thumbnails import Thumbnails, write_thumbnails
from ovseg_cli.run_folder.finished_run import read_run
from ovseg_cli.run_folder.journal import Journal


class Elements(HTMLParser):
    """The elements of a page, and the text of its scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, text):
        if self.tags and self.tags[-1][0] in ("script", "style") and text.strip():
            self.texts.append((*self.tags[-1], text))


def whole(out, target):
    """What the page shows, with its thumbnails beside it."""
    run = read_run(out)
    small = list(write_thumbnails(run, thumbnails_folder(target)))
    return contents(target, run, small, embed=False)


def written(out):
    """Whether the page stands alone, and what is in it."""
    run, target = read_run(out), out / "report.html"
    alone = write_page(target, run, list(write_thumbnails(run, thumbnails_folder(target))))
    found = Elements(target.read_text("utf-8"))
    return alone, json.loads(next(t for _, a, t in found.texts if a.get("id") == "data"))


def test_what_is_there_is_not_told_as_nothing(make_run, tmp_path):
    """One pixel of three million, of a class of which the model is next to never sure."""
    photo = tmp_path / "a.png"
    Image.new("RGB", (2000, 1500)).save(photo)
    out = make_run([(photo, "a")])
    journal = Journal(out / ".ovseg")
    (entry,) = journal.entries()
    journal.append(replace(entry, areas=((0, 1, 0.00002), (1, 2_999_999, 0.5))))
    (shown,) = whole(out, out / "report.html")["photos"]
    (_, share, mean), _ = shown["areas"]
    assert share == pytest.approx(1 / 3_000_000, rel=0.01) and mean == pytest.approx(0.00002)


def test_contents(run_of_three, tmp_path):
    values = whole(run_of_three, run_of_three / "report.html")
    assert values["name"] == "out"
    assert [(c["name"], c["photos"]) for c in values["classes"]] == [
        *(("sky", 1), ("road", 2), ("car", 1))
    ]
    assert [c["share"] for c in values["classes"]] == pytest.approx([1 / 3, 1 / 2, 1 / 6])
    photos = {photo["name"]: photo for photo in values["photos"]}
    street = photos["street.png"]
    assert street["areas"] == [[1, 0.5, 0.4], [2, 0.5, 0.4]]
    assert street["confidence"] == pytest.approx(0.4)
    assert (run_of_three / street["photo"]).is_file() and (
        run_of_three / street["overlay"]
    ).is_file()
    assert street["links"] == {"photo": "../photos/street.png", "overlay": "overlays/street.jpg"}
    assert values["failures"] == [[str(tmp_path / "photos/broken.png"), "the file is empty"]]
    assert values["accuracy"] is None and "iou" not in street
    assert values["kinds"] == []


def test_the_page_stands_alone(run_of_three):
    run, folder = read_run(run_of_three), run_of_three / "report-files"
    small = list(write_thumbnails(run, folder))
    expected = {name: (folder / name).read_bytes() for each in small for name in each.files()}
    alone, values = written(run_of_three)
    assert alone and len(expected) == 6 and not folder.exists()
    for photo, each in zip(values["photos"], small, strict=True):
        for kind in ("photo", "overlay"):
            head, _, data = photo[kind].partition(",")
            assert head == "data:image/jpeg;base64"
            assert base64.b64decode(data) == expected[getattr(each, kind)]


def test_the_thumbnails_of_a_large_run_stay_beside_its_page(run_of_three, monkeypatch):
    folder = run_of_three / "report-files"
    list(write_thumbnails(read_run(run_of_three), folder))
    size = sum(file.stat().st_size for file in folder.iterdir())
    monkeypatch.setattr("ovseg_cli.report.page.EMBEDDED_BYTES", size - 1)
    alone, values = written(run_of_three)
    names = {photo[kind] for photo in values["photos"] for kind in ("photo", "overlay")}
    assert not alone and names == {f"report-files/{file.name}" for file in folder.iterdir()}
    # Once there is room in the page, those of the earlier one go, and nothing of anybody else's.
    (folder / "mine.jpg").write_bytes(b"mine")
    monkeypatch.setattr("ovseg_cli.report.page.EMBEDDED_BYTES", size)
    assert written(run_of_three)[0]
    assert [file.name for file in folder.iterdir()] == ["mine.jpg"]


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_thumbnail_that_is_a_link_elsewhere_does_not_get_into_the_page(run_of_three, tmp_path):
    """A folder from elsewhere may bring it along, and the page may be sent back."""
    folder, secret = run_of_three / "report-files", tmp_path / "secret"
    secret.write_bytes(b"a secret")
    small = list(write_thumbnails(read_run(run_of_three), folder))
    for name in (name for each in small for name in each.files()):
        (folder / name).unlink()
        (folder / name).symlink_to(secret)
    for photo in written(run_of_three)[1]["photos"]:
        for kind in ("photo", "overlay"):
            assert base64.b64decode(photo[kind].partition(",")[2])[:2] == b"\xff\xd8"
    assert secret.read_bytes() == b"a secret"


def test_unlabelled_pixels_have_a_row(run_of_three):
    journal = run_of_three / ".ovseg/journal.jsonl"
    journal.write_text(journal.read_text().replace("[[0,2400", "[[-1,2400"))
    rows = whole(run_of_three, run_of_three / "report.html")["classes"]
    assert (rows[-1]["id"], rows[-1]["name"], rows[-1]["color"]) == (-1, "unlabelled", None)
    assert rows[-1]["share"] == pytest.approx(1 / 3)


def test_a_page_elsewhere_has_its_own_files_and_links_back(run_of_three, tmp_path):
    target = tmp_path / "pages" / "my page.html"
    values = whole(run_of_three, target)
    for photo in values["photos"]:
        assert photo["photo"].startswith("my%20page-files/")
        for address in (photo["photo"], photo["overlay"], *photo["links"].values()):
            assert (target.parent / os.fsdecode(unquote_to_bytes(address))).resolve().is_file()


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such file names")
@pytest.mark.parametrize("name", [*HOSTILE, os.fsdecode(b"latin-\xe9 \xff")])
def test_hostile_names_stay_text(make_run, tmp_path, name):
    file = f"{name.replace('/', '∕')}.png"
    photo = make_photo(tmp_path / "photos" / "plain.png").rename(tmp_path / "photos" / file)
    classes = [name, "other"] if name.isprintable() else ["sky", "other"]
    out = make_run([(photo, file)], classes, failures=[(tmp_path / f"{file}.bad", name)])
    values = whole(out, out / "report.html")
    text = page(values)
    text.encode()  # nothing undecodable is left
    found = Elements(text)
    assert [tag for tag, _ in found.tags if tag in ("script", "img", "iframe", "style")] == [
        *("style", "script", "script")
    ]
    data = next(t for _, attributes, t in found.texts if attributes.get("id") == "data")
    assert not set("<>&\u2028\u2029\n") & set(data)
    assert json.loads(data) == json.loads(json.dumps(values))
    # Links find the file, whatever its name, and are no other kind of address.
    link = values["photos"][0]["links"]["photo"]
    assert ":" not in link and '"' not in link
    assert os.path.samefile(os.path.join(os.fsencode(out), unquote_to_bytes(link)), photo)
    for shown in (values["photos"][0]["name"], *values["failures"][0]):
        assert shown.isprintable()


def test_a_photo_that_a_browser_would_run_has_no_link(make_run, tmp_path):
    photo = make_photo(tmp_path / "photos" / "photo.png").rename(tmp_path / "photos/photo.html")
    out = make_run([(photo, "photo")])
    (values,) = whole(out, out / "report.html")["photos"]
    assert values["photo"] and values["links"] == {"photo": "", "overlay": "overlays/photo.jpg"}


def test_the_policy_lets_only_these_texts_through(run_of_three):
    text = page(whole(run_of_three, run_of_three / "report.html"))
    found = Elements(text)
    (policy,) = (a["content"] for _, a in found.tags if "http-equiv" in a)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert set(rules) == {
        *("default-src", "img-src", "style-src", "script-src", "base-uri", "form-action")
    }
    assert rules["img-src"] == "'self' file: data:"
    for kind in ("style", "script"):
        part = next(t for tag, a, t in found.texts if tag == kind and not a)
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert "unsafe" not in policy and "http" not in policy
    assert not any(name.startswith("on") or name == "style" for _, a in found.tags for name in a)


def test_nothing_in_the_page_names_another_place(run_of_three):
    text = page(whole(run_of_three, run_of_three / "report.html"))
    for address in ("https://", "//cdn", "@import", "url(", "innerHTML", "eval("):
        assert address not in text
    # The name of SVG's language, which is no address.
    assert text.count("http://") == text.count("http://www.w3.org/2000/svg") == 1


def test_the_page_is_written_at_once(run_of_three):
    run = read_run(run_of_three)
    target = run_of_three / "report.html"
    target.write_text("an older page")
    write_page(target, run, [Thumbnails("", "")] * len(run.photos))
    assert target.read_text("utf-8").startswith("<!doctype html>")
    assert not list(run_of_three.glob(".*.tmp"))


def test_numbers_that_json_does_not_have(run_of_three):
    file = run_of_three / "run.json"
    file.write_text('{"timing": {"a": NaN, "b": Infinity, "c": 1.5}}')
    values = whole(run_of_three, run_of_three / "report.html")
    assert values["run"] == {"timing": {"a": None, "b": None, "c": 1.5}}
    page(values)


def test_what_a_foreign_run_json_has_for_something_else_is_left_out(run_of_three):
    record = {"timing": {"started": 5, "total": 1.5}, "model": None, "options": [1], "counts": "x"}
    record |= {"command": 3, "status": {}, "version": "1.2.3", "anything": None}
    (run_of_three / "run.json").write_text(json.dumps(record))
    values = whole(run_of_three, run_of_three / "report.html")
    assert values["run"] == {"timing": {"total": 1.5}, "version": "1.2.3", "anything": None}


def test_a_run_json_that_is_nested_deeply(run_of_three):
    for depth in (50, 700):
        (run_of_three / "run.json").write_text(f'{{"version": {"[" * depth}{"]" * depth}}}')
        assert written(run_of_three)[1]["run"] == {}


@pytest.mark.skipif(os.name != "posix", reason="no pipes there")
def test_a_pipe_in_the_place_of_the_page_is_no_page(run_of_three):
    os.mkfifo(run_of_three / "report.html")
    discard_page(run_of_three / "report.html")
    assert (run_of_three / "report.html").exists()


def test_the_parts_of_the_page_are_packaged():
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg")
    patterns = config["options.package_data"]["ovseg_cli.report"].split(", ")
    folder = resources.files("ovseg_cli.report")
    parts = [entry.name for entry in folder.iterdir() if Path(entry.name).suffix not in (".py", "")]
    assert {"page.html", "page.css", *SCRIPTS} == set(parts)
    assert all(any(Path(part).match(pattern) for pattern in patterns) for part in parts)
    assert "ovseg_cli.report" in config["options"]["packages"].split()


def test_what_classes_are_kinds_of_is_added_up(run_of_three):
    table = json.loads((run_of_three / "classes.json").read_text())
    table[1]["parents"], table[2]["parents"] = ["street"], ["street", "vehicle"]
    (run_of_three / "classes.json").write_text(json.dumps(table))
    values = whole(run_of_three, run_of_three / "report.html")
    assert [(kind["name"], kind["photos"]) for kind in values["kinds"]] == [
        ("street", 2),
        ("street > vehicle", 1),
    ]
    assert [kind["share"] for kind in values["kinds"]] == pytest.approx([2 / 3, 1 / 6])


def test_an_area_without_pixels_is_no_area(run_of_three):
    """As a journal from elsewhere may have it; what classes are kinds of is a mean over pixels."""
    table = json.loads((run_of_three / "classes.json").read_text())
    for entry in table:
        entry["parents"] = ["anything"]
    (run_of_three / "classes.json").write_text(json.dumps(table))
    journal = run_of_three / ".ovseg" / "journal.jsonl"

    def shown():
        photos = whole(run_of_three, run_of_three / "report.html")["photos"]
        return [photo["name"] for photo in photos]

    before = shown()
    first, *others = map(json.loads, journal.read_text().splitlines())
    first["areas"] = [[0, 0, 0.5]]
    journal.write_text("".join(json.dumps(line) + "\n" for line in (first, *others)))
    after = shown()
    assert after == [name for name in before if not name.startswith(first["rel"])]
    assert len(after) == len(before) - 1
