"""Links that somebody has put into an output folder: nothing is written through them."""

import json
import os

import pytest
from mock_segmenter import files_below, make_photo, make_photos

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links need a right on Windows")


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of the user's, with files that must stay as they are."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("a.png", "00.png", "notes.txt", "deadbeefdeadbeefdead-photo.jpg"):
        (folder / name).write_text("precious")
    return folder


def untouched(folder):
    found = files_below(folder)
    return len(found) == 4 and set(found.values()) == {b"precious"}


@pytest.mark.parametrize("name", ["labels", "overlays", ".ovseg", "masks", "exports"])
@pytest.mark.parametrize("option", [None, "--overwrite", "--resume"])
def test_a_folder_of_results_that_is_a_link(segment, tmp_path, elsewhere, name, option):
    make_photos(tmp_path / "photos", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(elsewhere)
    ended = segment("photos", "--save", "labels,masks", *filter(None, [option]))
    assert ended.code == 2
    assert f"out/{name} is a link" in ended.err or "holds results" in ended.err
    assert untouched(elsewhere)


def test_a_link_deeper_down_fails_the_photos_that_would_go_through_it(segment, tmp_path, elsewhere):
    make_photo(tmp_path / "photos/sub/a.png")
    make_photo(tmp_path / "photos/b.png")
    (tmp_path / "out/labels").mkdir(parents=True)
    (tmp_path / "out/labels/sub").symlink_to(elsewhere)
    ended = segment("photos", "-r", "--overwrite")
    assert ended.code == 1
    assert "out/labels/sub is a link" in ended.err and ended.err.count("ovseg: error") == 1
    assert (tmp_path / "out/labels/b.png").is_file()
    assert not (tmp_path / "out/overlays/sub/a.jpg").exists()  # all of a photo, or nothing
    assert untouched(elsewhere)


@pytest.mark.parametrize("name", ["journal.jsonl", "run.lock"])
def test_a_file_of_the_run_s_own_that_is_a_link(segment, tmp_path, elsewhere, name):
    make_photos(tmp_path / "photos", 1)
    (tmp_path / "out/.ovseg").mkdir(parents=True)
    (tmp_path / "out/.ovseg" / name).symlink_to(elsewhere / "notes.txt")
    for option in ("--overwrite", "--resume"):
        ended = segment("photos", option)
        assert ended.code == 2 and "is a link" in ended.err
        assert untouched(elsewhere)


@pytest.mark.parametrize(
    "name", ["labels/00.png", "overlays/00.jpg", "stats.csv", "run.json", "classes.json"]
)
def test_a_result_that_is_a_link_is_replaced_and_not_followed(segment, tmp_path, elsewhere, name):
    make_photos(tmp_path / "photos", 1)
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).symlink_to(elsewhere / "notes.txt")
    assert segment("photos", "--overwrite").code == 0
    assert not (tmp_path / "out" / name).is_symlink()
    assert (tmp_path / "out" / name).stat().st_size > 8
    assert untouched(elsewhere)


def test_a_journal_does_not_remove_through_a_link(segment, tmp_path, elsewhere):
    make_photos(tmp_path / "photos", 1)
    assert segment("photos").code == 0
    journal = tmp_path / "out/.ovseg/journal.jsonl"
    entry = json.loads(journal.read_text())
    entry["files"] = {"labels": {"deep/notes.txt": 8}}
    journal.write_text(json.dumps(entry) + "\n")
    (tmp_path / "out/deep").symlink_to(elsewhere)
    assert segment("photos", "--overwrite").code == 0
    assert untouched(elsewhere)


def test_the_output_folder_itself_may_be_one(segment, tmp_path):
    make_photos(tmp_path / "photos", 1)
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    assert segment("photos").code == 0
    assert (tmp_path / "disk/labels/00.png").is_file()


def test_a_report_does_not_write_or_remove_through_a_link(program, segment, tmp_path, elsewhere):
    make_photos(tmp_path / "photos", 1)
    assert segment("photos").code == 0
    (tmp_path / "out/report.html").symlink_to(elsewhere / "notes.txt")
    (tmp_path / "out/report-files").symlink_to(elsewhere)
    ended = program("report", "out")
    assert ended.code == 1 and "report-files is a link" in ended.err
    (tmp_path / "out/report-files").unlink()
    assert program("report", "out").code == 0
    assert not (tmp_path / "out/report.html").is_symlink()
    assert untouched(elsewhere)


@pytest.mark.parametrize("link", ["exports", "exports/masks", "exports/masks/00"])
def test_an_export_does_not_write_or_remove_through_a_link(
    program, segment, tmp_path, elsewhere, link
):
    make_photos(tmp_path / "photos", 1)
    assert segment("photos").code == 0
    (elsewhere / "masks").mkdir()
    (tmp_path / "out" / link).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / link).symlink_to(elsewhere)
    ended = program("export", "out", "--to", "masks")
    assert ended.code == 1 and f"out/{link} is a link" in ended.err
    assert untouched(elsewhere)


@pytest.mark.parametrize("place", ["{here}/out/exports", "v/../out/exports", "alias/exports"])
@pytest.mark.parametrize("link", ["exports", "exports/masks"])
def test_however_the_place_of_an_export_is_spelled(
    program, segment, tmp_path, elsewhere, link, place
):
    make_photos(tmp_path / "photos", 1)
    assert segment("photos").code == 0
    (tmp_path / "v").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "out")
    (tmp_path / "out" / link).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / link).symlink_to(elsewhere)
    ended = program("export", "out", "--to", "masks", "-o", place.format(here=tmp_path))
    assert ended.code == 1 and f"{link} is a link" in ended.err
    assert untouched(elsewhere)


def test_an_export_to_a_place_of_its_user_s_own(program, segment, tmp_path, elsewhere):
    make_photos(tmp_path / "photos", 1)
    assert segment("photos").code == 0
    (tmp_path / "disk").mkdir()
    (tmp_path / "mine").symlink_to(tmp_path / "disk")
    assert program("export", "out", "--to", "masks", "-o", "mine").code == 0
    assert (tmp_path / "disk/masks/00").is_dir()
    (tmp_path / "disk/svg").symlink_to(elsewhere)  # may have come from somebody else
    ended = program("export", "out", "--to", "svg", "-o", "mine")
    assert ended.code == 1 and "mine/svg is a link" in ended.err
    assert untouched(elsewhere)


def test_however_the_place_of_a_report_is_spelled(program, segment, tmp_path, elsewhere):
    make_photos(tmp_path / "photos", 1)
    assert segment("photos").code == 0
    (tmp_path / "out/pages").symlink_to(elsewhere)
    ended = program("report", "out", "-o", tmp_path / "out/pages/mine.html")
    assert ended.code == 1 and "out/pages is a link" in ended.err
    assert untouched(elsewhere)


@pytest.mark.parametrize(
    "name",
    *[[".ovseg", "a.labels", ".ovseg/clips", ".ovseg/clips/a", ".ovseg/clips/a/frames.jsonl"]],
)
def test_a_clip_s_results_do_not_go_through_a_link(program, tmp_path, elsewhere, name):
    make_photos(tmp_path / "a", 2)
    (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
    target = elsewhere / "notes.txt" if name.endswith("jsonl") else elsewhere
    (tmp_path / "out" / name).symlink_to(target)
    for option in ([], ["--resume"]):
        ended = program(
            *("video", "a", "--classes", "sky, road", "-o", "out", "--smooth", "0"),
            *("--save", "labels,stats", *option),
        )
        assert ended.code in (1, 2)
        assert "is a link" in ended.err or "holds results" in ended.err
    ended = program(
        *("video", "a", "--classes", "sky, road", "-o", "out", "--smooth", "0"),
        *("--save", "labels,stats", "--overwrite"),
    )
    assert untouched(elsewhere)
