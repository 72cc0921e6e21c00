import contextlib
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from mock_segmenter import make_photo

from ovseg_cli.errors import OutputError, UsageError
from ovseg_cli.exports import select
from ovseg_cli.media.images import read_image
from ovseg_cli.media.inputs import ImageInput, InputState
from ovseg_cli.run_folder.journal_entry import Entry
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.run_folder.superseded import outdated, still_good
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary

VOCABULARY = Vocabulary(["sky", "road"])
SAVE = ("overlay", "labels")


def output_at(root, save=SAVE, run="run", overwrite=False, part=""):
    output = OutputFolder(root, select(save, VOCABULARY), part=part)
    output.open(VOCABULARY, run=run, metadata={"Software": "test"}, overwrite=overwrite)
    return output


@pytest.fixture
def photo(tmp_path):
    return ImageInput(str(make_photo(tmp_path / "in" / "a.png")), "deep/a")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "out"


def save(output, photo):
    frame = read_image(photo.path)
    labels = np.zeros(frame.size_hw, np.int32)
    segmentation = Segmentation(labels, np.ones(frame.size_hw, np.float32), VOCABULARY)
    return output.save(photo, InputState.of(photo.path), frame, segmentation)


def is_done(output, photo):
    return output.is_done(photo, InputState.of(photo.path)) is not None


def check(root, resume=False, overwrite=False):
    OutputFolder(root, select(SAVE, VOCABULARY)).check(resume=resume, overwrite=overwrite)


class TestCheck:
    def test_a_new_or_empty_folder_is_fine(self, root):
        check(root / "not" / "there")
        root.mkdir()
        check(root)

    def test_files_of_others_do_not_matter(self, root):
        make_photo(root / "holiday.png")
        check(root)

    def test_checking_makes_nothing(self, root):
        check(root)
        assert not root.exists()

    @pytest.mark.parametrize("name", ["labels/x.png", "overlays/x.jpg"])
    def test_files_in_the_way_that_no_run_tells_of(self, root, name):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()
        for resume in (False, True):
            with pytest.raises(UsageError, match="no record of a run.*-o.*--overwrite"):
                check(root, resume=resume)
        check(root, overwrite=True)

    @pytest.mark.parametrize("name", ["stats.csv", "run.json", ".ovseg/journal.jsonl"])
    def test_results_are_refused_with_the_ways_out(self, root, name):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("{}")
        with pytest.raises(UsageError, match="--resume.*--overwrite.*-o"):
            check(root)
        check(root, resume=True)
        check(root, overwrite=True)

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "file").touch()
        for root in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(UsageError, match="not a folder"):
                check(root)

    def test_a_folder_that_may_not_be_written(self, root, monkeypatch):
        root.mkdir()
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
        with pytest.raises(UsageError, match="no permission"):
            check(root)


class TestDone:
    def test_what_was_saved_is_done(self, root, photo):
        entry = save(output_at(root), photo)
        assert is_done(output_at(root), photo)
        assert (entry.width, entry.height, entry.areas) == (48, 32, ((0, 48 * 32, 1.0),))
        assert entry.files["labels"] == {
            "labels/deep/a.png": (root / "labels/deep/a.png").stat().st_size
        }

    def test_fewer_results_wanted_than_are_there(self, root, photo):
        save(output_at(root), photo)
        assert is_done(output_at(root, save=["labels"]), photo)

    def test_more_results_wanted_than_are_there(self, root, photo):
        save(output_at(root), photo)
        assert not is_done(output_at(root, save=[*SAVE, "confidence"]), photo)

    def test_another_run(self, root, photo):
        save(output_at(root), photo)
        assert not is_done(output_at(root, run="other model"), photo)

    def test_a_missing_or_cut_result(self, root, photo):
        save(output_at(root), photo)
        labels = root / "labels/deep/a.png"
        os.truncate(labels, labels.stat().st_size - 1)
        assert not is_done(output_at(root), photo)
        labels.unlink()
        assert not is_done(output_at(root), photo)

    def test_a_changed_input(self, root, photo):
        save(output_at(root), photo)
        make_photo(photo.path, seed=1)
        os.utime(photo.path, ns=(1, 1))
        assert not is_done(output_at(root), photo)

    def test_another_input_of_the_same_name(self, tmp_path, root, photo):
        save(output_at(root), photo)
        twin = tmp_path / "elsewhere" / "a.png"
        twin.parent.mkdir()
        shutil.copy2(photo.path, twin)
        assert not is_done(output_at(root), ImageInput(str(twin), photo.rel))

    def test_a_failed_input(self, root, photo):
        save(output_at(root, run="other names"), photo)
        output = output_at(root)
        output.forget(photo, InputState.of(photo.path), "it broke")
        assert not is_done(output, photo)
        assert not (root / "labels/deep/a.png").exists()

    def test_what_was_finished_stays_though_more_was_asked_for(self, root, photo):
        save(output_at(root), photo)
        more = output_at(root, save=[*SAVE, "masks"])
        more.forget(photo, InputState.of(photo.path), "no memory")
        assert not is_done(more, photo)
        assert is_done(output_at(root), photo)

    def test_of_what_was_finished_only_whole_kinds_stay(self, root, photo):
        save(output_at(root, save=["overlay", "labels"]), photo)
        (root / "overlays/deep/a.jpg").unlink()
        output_at(root).forget(photo, InputState.of(photo.path), "no memory")
        assert is_done(output_at(root, save=["labels"]), photo)
        assert not is_done(output_at(root, save=["overlay"]), photo)

    def test_an_input_that_is_gone_leaves_its_results(self, root, photo):
        output = output_at(root)
        save(output, photo)
        photo.path.unlink()
        output.forget(photo, InputState.of(photo.path), "gone")
        assert (root / "labels/deep/a.png").exists()

    def test_masks_are_many_files(self, root, photo):
        entry = save(output_at(root, save=["masks"]), photo)
        assert list(entry.files["masks"]) == ["masks/deep/a/0-sky.png"]
        assert is_done(output_at(root, save=["masks"]), photo)
        (root / "masks/deep/a/0-sky.png").unlink()
        assert not is_done(output_at(root, save=["masks"]), photo)


def test_a_photo_is_saved_wholly_or_not_at_all(root, photo):
    output = output_at(root)
    (root / "labels").write_text("a file where a folder should be")
    with pytest.raises(OutputError):
        save(output, photo)
    assert not list((root / "overlays").rglob("*.*"))
    assert not is_done(output, photo)


def test_what_the_same_run_had_written_stays_where_more_cannot_be(root, photo):
    save(output_at(root), photo)
    before = (root / "labels/deep/a.png").read_bytes()
    (root / "masks").write_text("a file where a folder should be")
    more = output_at(root, save=[*SAVE, "masks"])
    with pytest.raises(OutputError):
        save(more, photo)
    assert (root / "labels/deep/a.png").read_bytes() == before
    assert is_done(output_at(root), photo)


def test_files_of_a_run_that_was_killed_do_not_pass_for_those_of_the_one_before(
    root, photo, monkeypatch
):
    save(output_at(root, run="sky, road"), photo)

    def killed(*_):
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(OutputFolder, "_publish", killed)  # its files are there, and no line
        patch.setattr("ovseg_cli.run_folder.output.remove", lambda files: None)
        save(output_at(root, run="road, sky"), photo)
    assert not is_done(output_at(root, run="sky, road"), photo)
    again = output_at(root, save=["labels"], run="sky, road")
    save(again, photo)  # what may be of the other run goes
    assert is_done(again, photo)
    assert not (root / "overlays/deep/a.jpg").exists()


def test_results_of_another_file_of_this_name_are_replaced_and_that_is_said(
    tmp_path, root, photo, caplog
):
    save(output_at(root), photo)
    twin = ImageInput(str(make_photo(tmp_path / "elsewhere" / "a.png")), photo.rel)
    labels = output_at(root, save=["labels"])
    save(labels, twin)
    assert is_done(labels, twin)
    assert not (root / "overlays/deep/a.jpg").exists()
    (told,) = caplog.messages
    assert str(photo.path) in told and str(twin.path) in told


def test_a_part_that_overwrites_removes_what_its_ray_actors_made_too(root, photo):
    others = ImageInput(photo.file, "deep/b")
    for part, of_it in (("ray-ab12-1-of-12", photo), ("ray-ab12-11-of-12", others)):
        with contextlib.closing(output_at(root, part=part)) as output:
            save(output, of_it)
    output = output_at(root, part="1-of-12", overwrite=True)
    assert not is_done(output, photo) and is_done(output, others)
    assert {path.stem for path in root.rglob("*.[jp][pn]g")} == {"b"}


def test_overwrite_removes_what_was_recorded_and_nothing_else(root, photo):
    save(output_at(root), photo)
    own = root / "labels" / "mine.png"
    own.write_text("written by hand")
    output = output_at(root, overwrite=True)
    assert not (root / "labels/deep/a.png").exists()
    assert own.exists()
    assert not is_done(output, photo)


@pytest.mark.parametrize("name", ["../victim", "/{tmp_path}/victim", "labels/../../victim", "a\0b"])
def test_a_foreign_journal_cannot_reach_outside(root, tmp_path, photo, name):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    save(output_at(root), photo)
    journal = root / ".ovseg" / "journal.jsonl"
    entry = json.loads(journal.read_text())
    entry["files"] = {"labels": {name.format(tmp_path=tmp_path): 8}}
    journal.write_text(json.dumps(entry) + "\n")
    output_at(root).forget(photo, InputState.of(photo.path), "broken")
    journal.write_text(json.dumps(entry) + "\n")
    output_at(root, overwrite=True)
    assert victim.read_text() == "precious"


def test_an_output_that_cannot_be_made_is_wrong_usage(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        output_at(tmp_path / "file" / "out")


def test_what_was_made_of_a_photo_before_it_was_changed_does_not_stay(root, tmp_path):
    """Though the file has as many bytes as before."""
    photo = ImageInput(str(make_photo(tmp_path / "in" / "a.bmp")), "deep/a")
    before = InputState.of(photo.path)
    save(output_at(root), photo)
    make_photo(photo.path, seed=1)
    os.utime(photo.path, ns=(1, 1))
    assert InputState.of(photo.path).size == before.size
    save(output_at(root, save=["labels"]), photo)
    assert (root / "labels/deep/a.png").exists()
    assert not (root / "overlays/deep/a.jpg").exists()


def test_of_earlier_results_only_what_is_of_this_photo_alone_goes():
    """An archive holds other photos, too, and a journal may name whatever it likes."""
    own = {"labels": {"labels/x/a.png": 1}, "masks": {"masks/x/a/0-sky.png": 2}}
    others = {
        "overlay": {"overlays-00001.tar": 3, "overlays/x/b.jpg": 4},
        "masks": {"masks/x/a.png": 5, "masks/x/b/0-sky.png": 6},
        "stats": {"stats.csv": 7},
    }
    files = {kind: {**own.get(kind, {}), **others.get(kind, {})} for kind in own | others}
    earlier = Entry("x/a", "/in/x/a.jpg", 1, 1, "run", 1, 1, files=files)
    left = outdated(earlier, {})
    assert left == replace(earlier, files={**own, "overlay": {}})
    new = {"labels": {"labels/x/a.png": 9}}
    assert outdated(earlier, new).files["labels"] == {}


def test_a_kind_of_which_one_file_is_gone_is_not_good_any_more():
    held = {"masks/a/0-sky.png": 1, "labels/a.png": 3, "npz/a.npz": 4}
    good = {"labels": {"labels/a.png": 3}}
    bad = {"masks": {"masks/a/0-sky.png": 1, "masks/a/1-road.png": 2}, "npz": {"npz/a.npz": 5}}
    earlier = Entry("a", "/in/a.jpg", 1, 1, "run", 1, 1, files=good | bad)
    now = Entry("a", "/in/a.jpg", 1, 1, "run")
    assert still_good(earlier, now, lambda name: held.get(name, -1)) == good
    for other in ({"run": "other"}, {"path": "/b.jpg"}, {"size": 2}, {"modified_ns": 2}):
        assert still_good(earlier, replace(now, **other), lambda name: held.get(name, -1)) == {}


HALF = f".{16 * '0'}.tmp"  # as a process that is killed while it writes leaves it


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_a_kill_left_half_written_goes_and_nothing_else(root, photo, overwrite):
    save(output_at(root), photo)
    halves = [root / place / HALF for place in ("labels/deep", "masks/deep/a", ".ovseg", "")]
    others = [root / "labels" / ".mine.tmp", root / "mine" / HALF, root / "a.tmp"]
    for file in (*halves, *others):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    output_at(root, part="1-of-2")  # one of several at work, whose files these may be
    assert all(file.exists() for file in halves)
    output_at(root, overwrite=overwrite)
    assert not any(file.exists() for file in halves)
    assert all(file.exists() for file in others)
