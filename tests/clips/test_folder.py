"""The files of one clip: parts that survive a kill, put together in the end."""

import contextlib
import csv
import errno
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.clips.folder import SAVES, ClipFolder, check_saves
from ovseg_cli.clips.state import Origin
from ovseg_cli.errors import OutputError, UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.media.video import open_video
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary

av = pytest.importorskip("av")

NAMES = Vocabulary(["sky", "road", "car"])
RATE = Fraction(10)
ORIGIN = Origin("/clips/a.mp4", 1234, 99, "run")
ALL = ("overlay", "labels=video", "stats", "timeline")
SIZE_HW = (48, 64)


def frame(index):
    return Frame(np.full((*SIZE_HW, 3), 10 * index % 256, np.uint8), index, index / 10)


def segmentation(index):
    """Sky above, road below a line that sinks; the last columns are unlabelled."""
    labels = np.zeros(SIZE_HW, np.int32)
    labels[10 + index % 30 :] = 1
    labels[:, -8:] = -1
    return Segmentation(labels, np.full(SIZE_HW, 0.5, np.float32), NAMES)


def folder(tmp_path, saves=ALL, names=NAMES):
    return ClipFolder(tmp_path, "a", saves, names)


def fill(clip, indices, held=()):
    for index in indices:
        clip.write(frame(index), segmentation(index), index in held)


def complete(clip, count):
    """Results of a run that came to the clip's end, after so many frames."""
    clip.open(ORIGIN, {}, RATE)
    fill(clip, range(count))
    clip.finish()
    clip.write_report({"status": "complete"}, ORIGIN)


def label_maps(path):
    with av.open(str(path)) as container:
        return [picture.to_ndarray() for picture in container.decode(video=0)]


def test_everything_that_can_be_saved(tmp_path):
    saves = [name for name in SAVES if name != "labels"]
    clip = folder(tmp_path, saves)
    assert clip.open(ORIGIN, {"Model": "mini"}, RATE) == 0
    fill(clip, range(5))
    clip.finish()
    clip.write_report({"status": "complete"}, ORIGIN)
    there = sorted(path.name for path in tmp_path.iterdir())
    assert there == sorted(
        [
            *("a.overlay.mp4", "a.labels.mkv", "a.stats.csv", "a.timeline.png", "a.run.json"),
            *("a.palette", "a.masks", "a.confidence"),
        ]
    )
    for found, index in zip(label_maps(tmp_path / "a.labels.mkv"), range(5), strict=True):
        assert np.array_equal(found, segmentation(index).labels.astype(np.uint8))
    palette = Image.open(tmp_path / "a.palette" / "000005.png")
    assert palette.mode == "P" and palette.text["Model"] == "mini"
    assert np.array_equal(np.asarray(palette), segmentation(4).labels.astype(np.uint8))
    assert Image.open(tmp_path / "a.timeline.png").text["Model"] == "mini"
    with open_video(str(tmp_path / "a.overlay.mp4")) as video:
        assert [round(f.seconds, 3) for f in video.frames()] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_label_maps_bear_the_number_of_their_frame(tmp_path):
    clip = folder(tmp_path, ["labels"])
    clip.open(ORIGIN, {}, RATE)
    fill(clip, [2, 5])
    clip.finish()
    files = sorted((tmp_path / "a.labels").iterdir())
    assert [file.name for file in files] == ["000003.png", "000006.png"]
    assert np.array_equal(np.asarray(Image.open(files[1])), segmentation(5).labels.astype("u1"))


def test_more_than_255_classes_take_16_bits(tmp_path):
    names = Vocabulary([f"n{i}" for i in range(300)])
    clip = folder(tmp_path, ["labels=video"], names)
    clip.open(ORIGIN, {}, RATE)
    labels = np.arange(48 * 64, dtype=np.int32).reshape(SIZE_HW) % 301 - 1
    clip.write(frame(0), Segmentation(labels, np.ones(SIZE_HW, np.float32), names), False)
    clip.finish()
    (found,) = label_maps(tmp_path / "a.labels.mkv")
    assert found.dtype == np.uint16
    assert np.array_equal(found, labels.astype(np.uint16))


def test_the_table_has_a_row_per_frame_and_class(tmp_path):
    clip = folder(tmp_path, ["stats"])
    clip.open(ORIGIN, {}, RATE)
    fill(clip, [0, 1, 4], held=[1])
    clip.finish()
    with (tmp_path / "a.stats.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    header = "frame,seconds,class_id,class,pixels,fraction,mean_confidence"
    assert ",".join(rows[0]) == header
    assert [(row["frame"], row["class_id"], row["class"]) for row in rows] == [
        (frame, *entry)
        for frame in ("1", "5")
        for entry in (("0", "sky"), ("1", "road"), ("-1", "unlabelled"))
    ]
    assert rows[0]["seconds"] == "0.000000" and rows[3]["seconds"] == "0.400000"
    assert rows[0]["pixels"] == str(10 * 56)
    assert float(rows[0]["fraction"]) == pytest.approx(10 * 56 / (48 * 64), abs=1e-9)
    assert float(rows[0]["mean_confidence"]) == 0.5
    for number in ("1", "5"):
        assert sum(float(r["fraction"]) for r in rows if r["frame"] == number) == pytest.approx(1)


def test_after_an_interruption_it_goes_on(tmp_path):
    clip = folder(tmp_path)
    clip.open(ORIGIN, {}, RATE)
    fill(clip, range(7))
    clip.finish()
    clip.write_report({"status": "interrupted"}, ORIGIN)
    assert len(label_maps(tmp_path / "a.labels.mkv")) == 7  # a whole file of what was done
    assert not clip.finished(ORIGIN, audio=True) and clip.holds_results()

    again = folder(tmp_path)
    assert again.open(ORIGIN, {}, RATE) == 7
    assert [record.index for record in again.records()] == list(range(7))
    fill(again, range(7, 12))
    again.finish()
    again.write_report({"status": "complete", "options": {"audio": True}}, ORIGIN)
    assert again.finished(ORIGIN, audio=True) and not again.finished(
        replace(ORIGIN, run="other"), audio=True
    )
    found = label_maps(tmp_path / "a.labels.mkv")
    assert [int((f[:, 0] == 0).sum()) for f in found] == [10 + index for index in range(12)]
    with open_video(str(tmp_path / "a.overlay.mp4")) as video:
        times = [f.seconds for f in video.frames()]
    assert times == pytest.approx([index / 10 for index in range(12)], abs=0.001)
    assert not (tmp_path / ".ovseg").exists()


def test_the_strip_goes_on_with_what_the_clip_has_shown_so_far(tmp_path):
    names = Vocabulary([f"n{i}" for i in range(21)])
    columns = np.arange(64, dtype=np.int32)
    first = np.broadcast_to(columns // 5, SIZE_HW)  # 12 classes and a little of another
    # Eight others: less than those after four frames, more than after one.
    later = np.broadcast_to(13 + columns // 8, SIZE_HW)

    def run(out, counts):
        for count in counts:
            clip = folder(out, ["overlay"], names)
            for index in range(clip.open(ORIGIN, {}, RATE), count):
                labels = first if index < 4 else later
                found = Segmentation(labels, np.ones(SIZE_HW, np.float32), names)
                clip.write(frame(index), found, index in (1, 2, 3))
            clip.finish()
        with open_video(str(out / "a.overlay.mp4")) as video:
            return np.stack([f.pixels[SIZE_HW[0] :] for f in video.frames()]).astype(int)

    whole, resumed = run(tmp_path / "whole", [6]), run(tmp_path / "resumed", [4, 6])
    assert abs(whole - resumed).mean((1, 2, 3)).max() < 4  # as near as the encoder comes


def test_after_a_kill_it_goes_on_where_all_parts_can_be_read(tmp_path):
    """The parts are left as they lie on the disk while they are open."""
    clip = folder(tmp_path)
    clip.open(ORIGIN, {}, RATE)
    fill(clip, range(60))
    state = tmp_path / ".ovseg" / "clips" / "a"
    left = {path: path.read_bytes() for path in state.iterdir()}
    clip.close()
    for path, data in left.items():
        path.write_bytes(data)
    with (state / "frames.jsonl").open("a") as journal:
        journal.write("[60, 6.0, 30")  # cut off

    again = folder(tmp_path)
    done = again.open(ORIGIN, {}, RATE)
    assert 20 <= done < 60
    fill(again, range(done, 70))
    again.finish()
    found = label_maps(tmp_path / "a.labels.mkv")
    assert len(found) == 70
    for index, labels in enumerate(found):
        assert np.array_equal(labels, segmentation(index).labels.astype(np.uint8))
    with open_video(str(tmp_path / "a.overlay.mp4")) as video:
        values = [int(f.pixels[:5, 60].mean()) for f in video.frames()]
    assert values == pytest.approx([10 * index % 256 for index in range(70)], abs=6)


@pytest.mark.parametrize("lost", ["overlay", "labels=video"])
def test_after_a_kill_it_goes_on_where_the_shortest_of_its_videos_ends(tmp_path, lost):
    clip = folder(tmp_path)
    clip.open(ORIGIN, {}, RATE)
    fill(clip, range(10))
    clip.close()
    parts = list((tmp_path / ".ovseg" / "clips" / "a").glob(f"{lost}-*"))
    assert parts
    for path in parts:
        path.unlink()
    again = folder(tmp_path)
    assert again.open(ORIGIN, {}, RATE) == 0
    again.close()


@pytest.mark.parametrize("change", [{"run": "other"}, {"size": 5}, {"modified_ns": 5}])
def test_what_another_run_left_is_begun_anew(tmp_path, change):
    clip = folder(tmp_path)
    clip.open(ORIGIN, {}, RATE)
    fill(clip, range(5))
    clip.close()
    state = tmp_path / ".ovseg" / "clips" / "a"
    before = {path.name: path.read_bytes() for path in state.iterdir()}
    again = folder(tmp_path)
    assert again.open(replace(ORIGIN, **change), {}, RATE) == 0
    # Until there is a frame to put in their place.
    assert {path.name: path.read_bytes() for path in state.iterdir()} == before
    fill(again, range(1))
    assert len(list(again.records())) == 1
    again.close()


def test_a_kill_while_results_are_removed_leaves_nothing_to_go_on_from(tmp_path, monkeypatch):
    clip = folder(tmp_path, ["labels"])
    clip.open(ORIGIN, {}, RATE)
    fill(clip, range(5))
    clip.close()

    right = Path.unlink

    def half(path, **how):
        if len(list((tmp_path / "a.labels").iterdir())) == 2:
            raise KeyboardInterrupt
        right(path, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", half)
        with pytest.raises(KeyboardInterrupt):
            folder(tmp_path, ["labels"]).remove()
    again = folder(tmp_path, ["labels"])
    assert again.open(ORIGIN, {}, RATE) == 0


def test_a_disk_that_is_full_when_it_goes_on_costs_nothing(tmp_path, monkeypatch):
    clip = folder(tmp_path)
    clip.open(ORIGIN, {}, RATE)
    fill(clip, range(30))
    clip.close()

    class Full:
        def writelines(self, lines):
            raise OSError(errno.ENOSPC, "No space left on device")

    right = Path.open

    @contextlib.contextmanager
    def opened(path, mode="r", **how):
        with right(path, mode, **how) as stream:
            yield Full() if mode == "w" else stream

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(OutputError, match="No space left"):
            folder(tmp_path).open(ORIGIN, {}, RATE)
    assert folder(tmp_path).open(ORIGIN, {}, RATE) == 30


def test_a_link_is_replaced_only_where_all_is(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.labels").symlink_to(tmp_path / "elsewhere")
    clip = folder(tmp_path, ["labels"])
    with pytest.raises(OutputError, match="is a link"):
        clip.open(ORIGIN, {}, RATE)
    clip.open(ORIGIN, {}, RATE, anew=True)
    fill(clip, range(2))
    clip.finish()
    assert not (tmp_path / "a.labels").is_symlink()
    assert len(list((tmp_path / "a.labels").iterdir())) == 2
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_a_kill_left_half_written_goes_in_the_end(tmp_path):
    clip = folder(tmp_path, ["labels"])
    clip.open(ORIGIN, {}, RATE)
    fill(clip, range(2))
    (tmp_path / "a.labels" / ".0123456789abcdef.tmp").write_bytes(b"half")
    (tmp_path / "a.labels" / "mine.txt").write_text("")
    clip.finish()
    names = {path.name for path in (tmp_path / "a.labels").iterdir()}
    assert names == {"000001.png", "000002.png", "mine.txt"}


def test_results_of_other_options_go_with_the_first_frame(tmp_path):
    complete(folder(tmp_path, ["labels", "stats"]), 5)
    again = folder(tmp_path, ["labels"])
    again.open(replace(ORIGIN, run="other"), {}, RATE)
    assert (tmp_path / "a.stats.csv").exists() and (tmp_path / "a.run.json").exists()
    fill(again, [0, 4])
    again.finish()
    assert [path.name for path in sorted((tmp_path / "a.labels").iterdir())] == [
        "000001.png",
        "000005.png",
    ]
    assert not (tmp_path / "a.stats.csv").exists()


def test_finished_results_stay_until_a_run_that_goes_farther_has_its_own(tmp_path):
    complete(folder(tmp_path, ["overlay", "labels"]), 8)
    overlay = (tmp_path / "a.overlay.mp4").read_bytes()
    farther = replace(ORIGIN, extent="more")
    for frames in (range(3), range(3, 5)):  # it is interrupted twice
        again = folder(tmp_path, ["overlay", "labels", "stats"])
        assert again.open(farther, {}, RATE) == frames[0]
        fill(again, frames)
        again.finish(whole=False)
        again.write_report({"status": "interrupted"}, farther)
        assert (tmp_path / "a.overlay.mp4").read_bytes() == overlay
        assert len(list((tmp_path / "a.labels").iterdir())) == 8
        with (tmp_path / "a.stats.csv").open(newline="") as stream:
            assert len({row["frame"] for row in csv.DictReader(stream)}) == frames[-1] + 1
    again = folder(tmp_path, ["overlay", "labels", "stats"])
    again.open(farther, {}, RATE)
    fill(again, range(5, 6))
    again.finish()
    with open_video(str(tmp_path / "a.overlay.mp4")) as video:
        assert len(list(video.frames())) == 6
    assert len(list((tmp_path / "a.labels").iterdir())) == 6


def test_sound_that_cannot_be_copied_does_not_cost_the_pictures(tmp_path, caplog):
    clip = folder(tmp_path, ["overlay"])
    clip.open(ORIGIN, {}, RATE)
    fill(clip, range(5))
    (tmp_path / "sound.mkv").write_bytes(b"no more than words")
    clip.finish(str(tmp_path / "sound.mkv"))
    assert "sound.mkv: its sound cannot go along" in caplog.text
    with open_video(str(tmp_path / "a.overlay.mp4")) as video:
        assert len(list(video.frames())) == 5


def test_remove_takes_its_own_results_only(tmp_path):
    clip = folder(tmp_path, ("overlay", "labels", "stats"))
    clip.open(ORIGIN, {}, RATE)
    fill(clip, range(3))
    clip.finish()
    clip.write_report({"status": "complete"}, ORIGIN)
    (tmp_path / "a.txt").write_text("mine")
    (tmp_path / "ab.stats.csv").write_text("another clip's")
    folder(tmp_path).remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "ab.stats.csv"]


def test_remove_takes_of_folders_what_is_named_as_frames(tmp_path):
    saves = ("labels", "palette", "masks", "confidence")
    clip = folder(tmp_path, saves)
    clip.open(ORIGIN, {}, RATE)
    fill(clip, range(3))
    clip.finish()
    (tmp_path / "a.palette" / ".0123456789abcdef.tmp").write_bytes(b"half")
    mine = {"a.labels/mine.txt", "a.labels/000099.jpg", "a.labels/99.png", "a.confidence/x/1.png"}
    mine |= {"a.masks/mine.txt", "a.masks/000002/mine.png", "a.masks/7/0-sky.png"}
    for name in mine:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    folder(tmp_path, saves).remove()
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert left == mine
    assert not (tmp_path / "a.palette").exists() and not (tmp_path / "a.masks/000001").exists()


def test_a_folder_in_the_place_of_a_file_is_not_emptied(tmp_path):
    (tmp_path / "a.overlay.mp4").mkdir()
    (tmp_path / "a.overlay.mp4" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="cannot remove"):
        folder(tmp_path).remove()
    assert (tmp_path / "a.overlay.mp4" / "mine.txt").exists()


def test_of_a_clip_of_no_frames_there_is_nothing(tmp_path):
    clip = folder(tmp_path)
    clip.open(ORIGIN, {}, RATE)
    clip.finish(whole=False)
    assert not list(tmp_path.glob("a.*")) and not clip.holds_results()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / ".ovseg").write_text("")
    with pytest.raises(OutputError, match="cannot write .*clips"):
        folder(tmp_path).open(ORIGIN, {}, RATE)


def test_a_report_that_is_damaged_is_none(tmp_path):
    (tmp_path / "a.run.json").write_text("{")
    assert not folder(tmp_path).finished(ORIGIN, audio=True)
    (tmp_path / "a.run.json").write_text(json.dumps({"status": "complete"}))
    assert not folder(tmp_path).finished(ORIGIN, audio=True)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["overlay", "film"], "does not know 'film'"),
        (["labels", "labels=video"], "exclude each other"),
    ],
)
def test_what_cannot_be_saved(names, reason):
    with pytest.raises(UsageError, match=reason):
        check_saves(names, NAMES)


def test_a_format_with_too_few_values():
    with pytest.raises(UsageError, match="palette holds at most 255 classes"):
        check_saves(["palette"], Vocabulary([f"n{i}" for i in range(256)]))


def test_parts_are_in_the_order_of_their_numbers(tmp_path):
    """Beyond a million frames they have a digit more."""
    clip = folder(tmp_path)
    clip.open(ORIGIN, {}, RATE)
    state = tmp_path / ".ovseg" / "clips" / "a"
    for number in (999_999, 1_000_000, 20_000_000):
        (state / f"overlay-{number:06}").touch()
    names = [path.name for _, path in clip._state.parts("overlay")]
    assert [number for number, _ in clip._state.parts("overlay")] == [
        999_999,
        1_000_000,
        20_000_000,
    ]
    assert names == sorted(names, key=len)
