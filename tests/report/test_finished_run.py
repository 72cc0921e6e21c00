import json
import os
import shutil
from dataclasses import replace

import pytest

from ovseg_cli.errors import UsageError
from ovseg_cli.formats.labelled import LabelledRun
from ovseg_cli.media.inputs import ImageInput, InputState
from ovseg_cli.run_folder.finished_run import FinishedPhoto, read_run
from ovseg_cli.run_folder.journal import Journal
from ovseg_cli.run_folder.journal_entry import Entry
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.vocabulary import Vocabulary


def test_what_a_run_left(run_of_three, tmp_path):
    run = read_run(run_of_three)
    assert [entry.name for entry in run.classes] == ["sky", "road", "car"]
    photos = {photo.name: photo for photo in run.photos}
    assert set(photos) == {"blue.png", "street.png", "10/grey.png"}
    assert photos["street.png"].entry.areas == ((1, 1200, 0.4), (2, 1200, 0.4))
    assert photos["10/grey.png"].confidence == pytest.approx(0.2)
    assert photos["10/grey.png"].labels == run_of_three / "labels/10/grey.png"
    assert photos["10/grey.png"].overlay == run_of_three / "overlays/10/grey.jpg"
    assert run.failures == ((str(tmp_path / "photos/broken.png"), "the file is empty"),)
    assert run.record["version"] == "1.2.3" and run.left_over == 0


def test_the_mean_confidence_counts_pixels():
    entry = Entry("a", "", 1, 1, "r", 10, 10, ((0, 75, 0.8), (-1, 25, 0.4)))
    assert FinishedPhoto("a", entry, None, None).confidence == pytest.approx(0.7)


def test_the_latest_word_on_a_photo_counts(run_of_three, tmp_path):
    output = OutputFolder(run_of_three, [])
    output.open(Vocabulary(["sky", "road", "car"]), run="run-1", metadata={})
    path = tmp_path / "photos/blue.png"
    os.utime(path, ns=(1, 1))  # written to
    output.forget(ImageInput(str(path), "blue"), InputState.of(path), "gone bad")
    run = read_run(run_of_three)
    assert {photo.name for photo in run.photos} == {"street.png", "10/grey.png"}
    assert (str(path), "gone bad") in run.failures


def test_ids_are_not_read_by_the_names_of_a_later_run_that_finished_nothing(run_of_three, tmp_path):
    def begin(names, run):
        OutputFolder(run_of_three, []).open(Vocabulary(names), run=run, metadata={})
        return len(read_run(run_of_three).photos)

    old, new = ["sky", "road", "car"], ["cat", "dog", "cow"]
    assert begin(old, "other options") == 3, "the names are the same: they count until it has some"
    assert begin(new, "new") == 0 and read_run(run_of_three).left_over == 4, "one had failed"
    with pytest.raises(UsageError, match="no finished photo of the newest run, only of earlier"):
        LabelledRun(run_of_three)
    assert begin(new, "new, other options") == 0
    path = tmp_path / "photos/blue.png"
    output = OutputFolder(run_of_three, [])
    output.open(Vocabulary(new), run="new", metadata={})
    output.journal.append(replace(output.journal.entry("blue"), run="new"))
    (photo,) = read_run(run_of_three).photos
    assert photo.entry.path == str(path)
    assert begin(old, "run-1") == 2, "their own names are back, which fit all but the new one"
    output = OutputFolder(run_of_three, [])
    output.open(Vocabulary(old), run="run-2", metadata={}, overwrite=True)
    assert {file.name for file in (run_of_three / ".ovseg").iterdir()} <= {"journal.jsonl"}


def test_the_latest_word_counts_whichever_journal_it_is_in(run_of_three):
    """Of a run whose photos went from one part to another, in the order of names as it happens."""
    first, second = (Journal(run_of_three / ".ovseg", f"{part}-of-2") for part in (1, 2))
    journal = Journal(run_of_three / ".ovseg")
    journal.load()
    done = journal.entry("blue")
    for number, part in enumerate((second, first)):
        part.load()
        part.append(replace(done, areas=((number, 2400, 0.5),)))
    blue = next(photo for photo in read_run(run_of_three).photos if photo.name == "blue.png")
    assert blue.entry.areas == ((1, 2400, 0.5),)


def test_a_record_without_options_is_of_photos_that_were_turned_upright(run_of_three):
    assert read_run(run_of_three).exif
    file = run_of_three / "run.json"
    record = json.loads(file.read_text())
    for options, exif in (({}, True), ({"exif": True}, True), ({"exif": False}, False)):
        file.write_text(json.dumps(record | {"options": options}))
        assert read_run(run_of_three).exif == exif


def test_a_photo_whose_results_bear_another_name_by_now_is_there_once(run_of_three, tmp_path):
    output = OutputFolder(run_of_three, [])
    output.open(Vocabulary(["sky", "road", "car"]), run="run-1", metadata={})
    path = tmp_path / "photos/blue.png"
    done = output.journal.entry("blue")
    output.journal.append(replace(done, rel="blue.png"))  # a blue.jpg has come
    output.close()
    found = [photo.entry.rel for photo in read_run(run_of_three).photos]
    assert sorted(found) == ["10/grey", "blue.png", "street"]
    assert done.path == str(path)


def test_photos_of_another_run_are_left_out(run_of_three, tmp_path):
    output = OutputFolder(run_of_three, [])
    output.open(Vocabulary(["sky", "road", "car"]), run="run-2", metadata={})
    path = tmp_path / "photos/blue.png"
    output.forget(ImageInput(str(path), "blue"), InputState.of(path), "bad")
    run = read_run(run_of_three)
    assert not run.photos and run.left_over == 3


def test_failures_are_told_once(run_of_three, tmp_path):
    """run.json has paths as they were typed, and those of files that were never there."""
    file = run_of_three / "run.json"
    record = json.loads(file.read_text())
    record["failures"] = [
        {"path": "photos/broken.png", "reason": "the file is empty"},
        {"path": "../photos/./broken.png", "reason": "the file is empty"},
        {"path": "missing.png", "reason": "No such file or directory"},
        {"path": "blue.png", "reason": "before it was mended"},
    ]
    file.write_text(json.dumps(record))
    assert read_run(run_of_three).failures == (
        (str(tmp_path / "photos/broken.png"), "the file is empty"),
        ("missing.png", "No such file or directory"),
    )


def test_a_run_that_was_killed(run_of_three):
    (run_of_three / "run.json").unlink()
    with (run_of_three / ".ovseg/journal.jsonl").open("a") as journal:
        journal.write('{"rel": "half a li')
    run = read_run(run_of_three)
    assert len(run.photos) == 3 and run.record == {}


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "\x00"])
def test_a_damaged_run_json_costs_only_what_it_tells(run_of_three, text):
    (run_of_three / "run.json").write_text(text)
    assert len(read_run(run_of_three).photos) == 3


def test_failures_only(make_run, tmp_path):
    out = make_run([], failures=[(tmp_path / "a.png", "no"), (tmp_path / "b.png", "nor this")])
    run = read_run(out)
    assert not run.photos
    assert sorted(reason for _, reason in run.failures) == ["no", "nor this"]


def test_without_the_hidden_folder_the_tables_tell(run_of_three, make_run):
    journal = read_run(run_of_three)
    output = OutputFolder(run_of_three, [])
    output.open(Vocabulary(["sky", "road", "car"]), run="run-1", metadata={})
    images = [ImageInput(p.entry.path, p.entry.rel) for p in journal.photos]
    output.write_tables(images, Vocabulary(["sky", "road", "car"]))
    shutil.rmtree(run_of_three / ".ovseg")
    run = read_run(run_of_three)
    assert [p.name for p in run.photos] == [p.name for p in journal.photos]
    assert [p.entry.rel for p in run.photos] == [p.entry.rel for p in journal.photos]
    assert [p.entry.areas for p in run.photos] == [p.entry.areas for p in journal.photos]
    assert [p.overlay for p in run.photos] == [p.overlay for p in journal.photos]
    assert [p.labels for p in run.photos] == [p.labels for p in journal.photos]
    assert all(p.entry.path == "" for p in run.photos)


def test_without_the_hidden_folder_each_photo_has_its_own_files(run_of_three):
    shutil.rmtree(run_of_three / ".ovseg")
    rels = {"a.png": "a", "a.png.jpg": "a.png", "b.jpg": "b.jpg", "b.tif": "b.tif"}
    with (run_of_three / "stats.csv").open("w") as table:
        table.write("image,width,height,class_id,class,pixels,fraction,mean_confidence\n")
        table.writelines(f"{name},2,1,0,sky,2,1,0.5\n" for name in rels)
    for rel in rels.values():
        (run_of_three / f"labels/{rel}.png").touch()
    found = {p.name: (p.entry.rel, p.labels) for p in read_run(run_of_three).photos}
    assert found == {n: (rel, run_of_three / f"labels/{rel}.png") for n, rel in rels.items()}


def test_a_foreign_journal_names_no_file_outside(run_of_three, tmp_path):
    journal = run_of_three / ".ovseg/journal.jsonl"
    text = journal.read_text().replace("overlays/blue.jpg", "../photos/blue.png")
    journal.write_text(text.replace("overlays/street.jpg", str(tmp_path / "photos/street.png")))
    overlays = {photo.name: photo.overlay for photo in read_run(run_of_three).photos}
    assert overlays["blue.png"] is None and overlays["street.png"] is None
    assert overlays["10/grey.png"] is not None


@pytest.mark.skipif(os.name != "posix", reason="links need a right on Windows")
@pytest.mark.parametrize("link", ["overlays", "overlays/blue.jpg"])
@pytest.mark.parametrize("hidden", [True, False])
def test_a_result_that_is_a_link_is_none(run_of_three, tmp_path, link, hidden):
    """A folder from elsewhere may bring it along; its page, and exports, would show what it is."""
    elsewhere = tmp_path / "elsewhere"
    (run_of_three / link).rename(elsewhere)
    (run_of_three / link).symlink_to(elsewhere)
    if not hidden:
        shutil.rmtree(run_of_three / ".ovseg")
        (run_of_three / "stats.csv").write_text(
            "image,width,height,class_id,class,pixels,fraction,mean_confidence\n"
            "blue.png,60,40,0,sky,2400,1,0.8\n"
        )
    blue = next(photo for photo in read_run(run_of_three).photos if photo.name == "blue.png")
    assert blue.overlay is None and blue.labels == run_of_three / "labels/blue.png"


@pytest.mark.skipif(os.name != "posix", reason="no pipes and devices there")
@pytest.mark.parametrize("name", ["run.json", "classes.json", "stats.csv"])
@pytest.mark.parametrize("device", [None, "/dev/zero"])
def test_pipes_and_devices_among_its_files(run_of_three, name, device):
    shutil.rmtree(run_of_three / ".ovseg")
    (run_of_three / name).unlink(missing_ok=True)
    if device is None:
        os.mkfifo(run_of_three / name)
    else:
        (run_of_three / name).symlink_to(device)
    if name == "run.json":  # without which the page can do
        assert read_run(run_of_three).record == {}
    else:
        with pytest.raises(UsageError, match=name):
            read_run(run_of_three)


def test_a_table_without_lines(run_of_three):
    """As large as a disk at no cost: a file with a hole."""
    shutil.rmtree(run_of_three / ".ovseg")
    (run_of_three / "stats.csv").touch()
    os.truncate(run_of_three / "stats.csv", 1 << 40)
    with pytest.raises(UsageError, match=r"stats\.csv is not a table"):
        read_run(run_of_three)


def test_a_class_that_is_there_twice(run_of_three):
    file = run_of_three / "classes.json"
    file.write_text(file.read_text().replace('"road"', '"sky"'))
    with pytest.raises(UsageError, match=r"classes\.json: .*sky"):
        read_run(run_of_three)


def test_entries_of_classes_that_are_not_there_are_passed_over(run_of_three):
    journal = run_of_three / ".ovseg/journal.jsonl"
    journal.write_text(journal.read_text().replace("[[0,2400", "[[7,2400"))
    assert {p.name for p in read_run(run_of_three).photos} == {"street.png", "10/grey.png"}


@pytest.mark.parametrize(
    "row",
    [
        "x.png,0,0,0,sky,10,1,0.5",
        "x.png,60,40,0,sky,10,1,nan",
        "x.png,60,40,-7,sky,10,1,0.5",
        "x.png,60,40,0,sky,1000000000,1,0.5",
        "x.png,-4,-5,0,sky,10,1,0.5",
        "x.png,60,40,0,sky,0,1,0.5",
    ],
)
def test_rows_of_a_table_that_no_photo_can_have_are_passed_over(run_of_three, row):
    """A folder that was copied without its journal is read by its table."""
    shutil.rmtree(run_of_three / ".ovseg")
    with (run_of_three / "stats.csv").open("a") as table:
        table.write(row + "\n")
    assert "x.png" not in {photo.name for photo in read_run(run_of_three).photos}


class TestNoOutputFolder:
    def test_none_at_all(self, tmp_path):
        with pytest.raises(UsageError, match="no such folder: .*missing"):
            read_run(tmp_path / "missing")

    @pytest.mark.parametrize("classes", [None, "", '{"0": "sky"}', '["sky"]', "[{}]", "null"])
    def test_without_classes_as_a_run_writes_them(self, tmp_path, classes):
        if classes is not None:
            (tmp_path / "classes.json").write_text(classes)
        with pytest.raises(UsageError, match="no output folder of ovseg segment"):
            read_run(tmp_path)

    def test_of_clips(self, tmp_path):
        (tmp_path / "clip.run.json").write_text("{}")
        with pytest.raises(UsageError, match="it holds clips"):
            read_run(tmp_path)

    def test_a_table_of_something_else(self, make_run):
        out = make_run([])
        (out / "stats.csv").write_text("image,width\nx,1\n")
        with pytest.raises(UsageError, match="stats.csv is not a table"):
            read_run(out)
