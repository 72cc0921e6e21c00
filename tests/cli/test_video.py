"""`ovseg video`: options, files, exit codes, and what goes wrong."""

import contextlib
import csv
import functools
import http.server
import json
import os
import shutil
import signal
import socketserver
import subprocess
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av")

COUNT = 30
OPTIONS = ["--classes", "sky,road,car", "-o", "out", "--smooth", "0"]


def picture(index, size_hw=(48, 64)):
    """Bluish above, of another colour each time."""
    pixels = np.full((*size_hw, 3), 90, np.uint8)
    pixels[: size_hw[0] // 2] = ((40 + index) % 256, 130, 60)
    return pixels


def write_clip(path, count=COUNT, *, sound=False, size_hw=(48, 64), pixel_aspect=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.height, stream.width = size_hw
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        tone = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index, size_hw), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if tone is not None:
            wave = (8000 * np.sin(np.arange(16000 * count // 25) * 0.3)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(wave[None], "s16", "mono")
            frame.sample_rate, frame.pts = 16000, 0
            container.mux(tone.encode(frame))
            container.mux(tone.encode())
    return path


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4")


@pytest.fixture
def video(program):
    """Runs `ovseg video` with three classes into out/."""
    return lambda *arguments, **how: program("video", *OPTIONS, *arguments, **how)


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def report(tmp_path, name="clip"):
    return json.loads((tmp_path / "out" / f"{name}.run.json").read_text())


def frames_of(path):
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


def results(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith("run.json") and ".ovseg" not in path.parts
    }


def test_a_clip_gives_its_files(video, clip, tmp_path):
    ended = video(clip)
    assert (ended.code, ended.out) == (0, "")
    assert "3 classes: 0 sky, 1 road, 2 car" in ended.err
    out = tmp_path / "out"
    names = {path.name for path in out.iterdir()}
    assert names == {"classes.json"} | {
        f"clip.{end}" for end in ("overlay.mp4", "labels", "stats.csv", "timeline.png", "run.json")
    }
    assert len(frames_of(out / "clip.overlay.mp4")) == COUNT
    files = sorted(path.name for path in (out / "clip.labels").iterdir())
    assert files == [f"{number:06d}.png" for number in range(1, COUNT + 1)]
    with av.open(str(clip)) as container:
        given = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for name, pixels in zip(files, given, strict=True):
        labels = np.asarray(Image.open(out / "clip.labels" / name))
        assert np.array_equal(labels, pixels[..., 0] % 3)
    table = rows(out / "clip.stats.csv")
    assert {row["frame"] for row in table} == {str(number) for number in range(1, COUNT + 1)}
    told = report(tmp_path)
    assert told["status"] == "complete" and told["counts"]["written"] == COUNT
    assert told["clip"] == {
        "source": str(clip),
        "width": 64,
        "height": 48,
        "frames_per_second": 25.0,
    }


def test_fewer_frames(video, clip, tmp_path):
    ended = video(clip, "--every", 4, "--fill", "none", "--start", "0.4", "--end", "1")
    assert ended.code == 0
    numbers = [int(path.stem) for path in sorted((tmp_path / "out/clip.labels").iterdir())]
    assert numbers == [11, 15, 19, 23]
    times = frames_of(tmp_path / "out/clip.overlay.mp4")
    assert times == pytest.approx([0, 0.16, 0.32, 0.48], abs=0.001)


def test_frames_between_are_held(video, clip, tmp_path):
    assert video(clip, "--fps", 5, "--max-frames", 3).code == 0
    files = sorted((tmp_path / "out/clip.labels").iterdir())
    assert len(files) == 15
    assert len({path.read_bytes() for path in files[:5]}) == 1
    assert {row["frame"] for row in rows(tmp_path / "out/clip.stats.csv")} == {"1", "6", "11"}
    assert report(tmp_path)["counts"] == {
        "written": 15,
        "of_earlier_runs": 0,
        "segmented": 3,
        "dropped": 0,
    }


def test_a_limit_past_the_end(video, clip):
    ended = video(clip, "--max-frames", 1000)
    assert ended.code == 0
    assert f"the clip ended after {COUNT} of at most 1000 frames" in ended.err


def test_sound_goes_along_unless_it_is_not_wanted(video, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", sound=True)
    for arguments, streams in (([], 1), (["--no-audio", "--overwrite"], 0)):
        assert video(clip, *arguments).code == 0
        with av.open(str(tmp_path / "out/clip.overlay.mp4")) as container:
            assert len(container.streams.audio) == streams


def write_slides(path):
    """Pictures at 0, 0.2, 0.4 and 1 s, the last shown until 3 s; a tone of 3.5 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10), options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        tone = container.add_stream("aac", rate=16000, layout="mono")
        packets = []
        for seconds in (0, 0.2, 0.4, 1):
            frame = av.VideoFrame.from_ndarray(picture(round(10 * seconds)), format="rgb24")
            frame.pts, frame.time_base = round(10 * seconds), Fraction(1, 10)
            packets += stream.encode(frame)
        packets += stream.encode()
        packets[-1].duration = round(2 / packets[-1].time_base)
        wave = (8000 * np.sin(np.arange(56000) * 0.3)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(wave[None], "s16", "mono")
        frame.sample_rate, frame.pts = 16000, 0
        for packet in [*packets, *tone.encode(frame), *tone.encode()]:
            container.mux(packet)
    return path


def lengths(path):
    """Seconds of a file's pictures and of its sound."""
    with av.open(str(path)) as container:
        streams = container.streams
        return [float(s.duration * s.time_base) for s in (*streams.video, *streams.audio)]


@pytest.mark.parametrize(
    ("options", "pictures", "sound"),
    [
        ([], 3, 3.5),
        (["--every", 3, "--fill", "none"], 3, 3.5),
        (["--start", 0.3], 2.6, 3.1),
        (["--end", 0.9], 0.9, 0.9),
        (["--end", 2.5, "--fps", 1, "--fill", "none"], 2.5, 2.5),
        (["--end", 60], 3, 3.5),
        (["--start", 0.3, "--end", 2], 1.6, 1.6),  # from the picture at 0.4 s on
        # Of so many pictures the last is shown for about one: 3/4 s on average.
        (["--max-frames", 2], 0.2 + 0.75, 0.2 + 0.75),
    ],
)
def test_the_last_picture_and_the_sound_last_as_long_as_in_the_clip(
    video, tmp_path, options, pictures, sound
):
    write_slides(tmp_path / "clip.mp4")
    assert video("clip.mp4", *options).code == 0
    found = lengths(tmp_path / "out/clip.overlay.mp4")
    assert found == pytest.approx([pictures, sound], abs=0.15)


def test_the_last_picture_of_an_animation(video, tmp_path):
    shown = [Image.fromarray(picture(30 * index)) for index in range(3)]
    more = {"append_images": shown[1:], "duration": [100, 300, 1000]}
    shown[0].save(tmp_path / "clip.gif", save_all=True, **more)
    assert video("clip.gif").code == 0
    assert lengths(tmp_path / "out/clip.overlay.mp4") == pytest.approx([1.4], abs=0.02)


def test_several_clips_of_one_name(video, tmp_path):
    one, other = write_clip(tmp_path / "a/x.mp4", 3), write_clip(tmp_path / "b/x.mkv", 4)
    assert video(one, other, "--save", "stats").code == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.csv")) == [
        "x.mkv.stats.csv",
        "x.mp4.stats.csv",
    ]


def test_a_folder_of_pictures(video, tmp_path):
    for index in range(4):
        (tmp_path / "takes").mkdir(exist_ok=True)
        Image.fromarray(picture(index)).save(tmp_path / f"takes/{index:03}.png")
    assert video("takes", "--save", "labels=video,stats").code == 0
    assert len(frames_of(tmp_path / "out/takes.labels.mkv")) == 4


def test_a_video_on_standard_input(video, clip, tmp_path):
    assert video("-", "--save", "stats", stdin=clip.read_bytes()).code == 0
    assert len({row["frame"] for row in rows(tmp_path / "out/stdin.stats.csv")}) == COUNT


def test_names_and_a_clip_on_standard_input(video, clip, tmp_path):
    ended = video("-", "--vocab", "-", stdin=clip.read_bytes())
    assert ended.code == 2 and "both the class names and the inputs" in ended.err


def test_sound_that_cannot_be_read_again_is_said_to_be_left_out(video, tmp_path):
    data = write_clip(tmp_path / "clip.mkv", sound=True).read_bytes()
    said = "-: its sound is left out"
    ended = video("-", stdin=data)
    assert ended.code == 0 and said in ended.err and "name a file" in ended.err
    assert len(lengths(tmp_path / "out/stdin.overlay.mp4")) == 1
    assert said not in video("-", "--no-audio", "--overwrite", stdin=data).err
    assert said not in video("-", "--save", "labels", "--overwrite", stdin=data).err


@pytest.mark.skipif(os.name != "posix", reason="Windows allows no such file names")
def test_what_is_said_of_a_clip_is_on_one_line_whatever_its_name(video, clip):
    ended = video(clip.rename(clip.with_name("two\nlines.mp4")))
    assert ended.code == 0 and ended.err.splitlines()[-1].endswith("out/two\\nlines.*")


def test_json_is_a_line_per_frame_and_nothing_else(video, clip):
    ended = video(clip, "--json", "--every", 3)
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["frame"] for line in lines] == list(range(1, COUNT + 1))
    assert [line["held"] for line in lines] == [index % 3 != 0 for index in range(COUNT)]
    assert sum(entry["fraction"] for entry in lines[0]["classes"]) == pytest.approx(1)


def test_results_are_not_overwritten_unasked(video, clip, tmp_path):
    assert video(clip, "--save", "stats").code == 0
    ended = video(clip, "--save", "stats")
    assert ended.code == 2
    assert "--resume" in ended.err and "--overwrite" in ended.err
    before = (tmp_path / "out/clip.run.json").read_bytes()
    ended = video(clip, "--save", "stats", "--resume")
    assert ended.code == 0 and "finished earlier" in ended.err
    assert (tmp_path / "out/clip.run.json").read_bytes() == before
    assert video(clip, "--save", "stats", "--overwrite").code == 0
    assert (tmp_path / "out/clip.run.json").read_bytes() != before


MINE = ("clip.masks/mine.txt", "clip.labels/000099.jpg", "clip.confidence/mine")


@pytest.fixture
def mine(tmp_path):
    """Files of the user's own, where results of clip.mp4 would go; returns how to look at them."""
    for name in MINE:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("mine")
    return lambda: {name for name in MINE if (tmp_path / name).exists()}


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_what_no_run_wrote_is_not_gone_on_with(video, clip, mine, more):
    ended = video(clip, "-o", ".", "--save", "stats", *more)
    assert ended.code == 2 and "nothing tells of a run" in ended.err
    assert "-o names another folder" in ended.err
    assert mine() == set(MINE)


def test_overwrite_leaves_files_of_others(video, clip, tmp_path, mine):
    assert video(clip, "-o", ".", "--overwrite").code == 0
    assert mine() == set(MINE)
    assert len(list((tmp_path / "clip.labels").glob("*.png"))) == COUNT


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--resume"]])
@pytest.mark.parametrize("name", ["clip.overlay.mp4", "clip.labels", "clip.palette/a.mp4"])
def test_results_do_not_take_the_place_of_inputs(video, clip, tmp_path, name, more):
    if name == "clip.labels":
        (tmp_path / name).mkdir()
        Image.fromarray(picture(0)).save(tmp_path / name / "000001.png")
    else:
        write_clip(tmp_path / name, 3)
    before = results(tmp_path)
    ended = video(clip, name, "-o", ".", "--save", "stats", *more)
    assert ended.code == 2 and f"{name} is an input" in ended.err
    assert results(tmp_path) == before


@pytest.mark.parametrize("out", ["takes", "link", "takes/../takes"])
def test_results_do_not_go_among_the_pictures_of_an_input(video, tmp_path, out):
    (tmp_path / "takes").mkdir()
    (tmp_path / "link").symlink_to("takes")
    Image.fromarray(picture(0)).save(tmp_path / "takes/1.png")
    ended = video("takes", "-o", out)
    assert ended.code == 2 and "takes is an input" in ended.err
    assert "-o names another folder" in ended.err
    assert [path.name for path in (tmp_path / "takes").iterdir()] == ["1.png"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["absent.mp4"], "no such video: absent.mp4"),
        (["clip.mp4", "--start", "2", "--end", "1"], "the end at 1 s is not after the start"),
        (["clip.mp4", "--every", "2", "--fps", "3"], "exclude each other"),
        (["clip.mp4", "--fps", "0"], "--fps"),
        (["clip.mp4", "--start", "soon"], "'soon' is no time"),
        (["clip.mp4", "--resume", "--overwrite"], "exclude each other"),
        (["clip.mp4", "--live", "drop"], "--live is for cameras and streams"),
        (["-", "--resume"], "--resume cannot go on with -"),
        (["-", "-"], "can be given once"),
        (["camera:x"], "a camera is camera:0, camera:1"),
        (["camera:99999999999999999999"], "a camera is camera:0, camera:1"),
        ([os.devnull], "a pipe or device: give it as -, with <"),
        (["."], "no numbered pictures in this folder"),
        (["clip.mp4", "--save", "film"], "does not know 'film'"),
        (["clip.mp4", "--smooth", "1"], "--smooth"),
        (["clip.mp4", "--save", " , "], "--save names nothing"),
        (["clip.mp4", "--other", ""], "--other: an empty name"),
    ],
)
def test_wrong_usage(video, clip, tmp_path, arguments, reason):
    ended = video(*arguments)
    assert ended.code == 2
    assert reason in ended.err
    assert not (tmp_path / "out").exists()


def test_a_clip_that_cannot_be_looked_at_leaves_the_names_to_the_others(clip, tmp_path):
    from ovseg_cli.cli.auto_names import sample_clips
    from ovseg_cli.errors import InputError

    bad = tmp_path / "bad.mp4"
    bad.write_bytes(clip.read_bytes()[:200])
    unread = []
    seen = list(sample_clips([str(bad), str(clip)], unread))
    assert len(seen) == len(list(sample_clips([str(clip)]))) > 0
    assert [type(error) for error in unread] == [InputError] and "bad.mp4" in str(unread[0])


def test_a_standard_input_that_is_closed(start, tmp_path):
    """Nothing is loaded for it."""
    process = start("video", "-", *OPTIONS, preexec_fn=functools.partial(os.close, 0))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and "standard input is closed" in err
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_opened(program, clip, tmp_path):
    ended = program("video", clip, *OPTIONS[:2], "-o", "clip.mp4/below")
    assert ended.code == 2 and "is not a folder" in ended.err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".ovseg").write_text("")
    ended = program("video", clip, *OPTIONS)
    assert ended.code == 2 and "cannot write to" in ended.err


@pytest.mark.parametrize("name", ["..", "."])
def test_a_clip_named_by_dots_leaves_what_else_is_in_out(video, clip, tmp_path, name):
    shutil.copy(clip, tmp_path / f"{name}.mp4")
    (tmp_path / "out" / ".ovseg").mkdir(parents=True)
    (tmp_path / "out" / "mine.txt").write_text("mine")
    (tmp_path / "out" / ".ovseg" / "journal.jsonl").write_text("")
    for _ in range(2):
        assert video(f"{name}.mp4", "--overwrite").code == 0
        assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
        assert (tmp_path / "out" / ".ovseg" / "journal.jsonl").exists()
        assert (tmp_path / "out" / "clip.overlay.mp4").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a video"),
        (b"these are words\n" * 100, "not a video|no frame"),
        ("sound", "it holds no pictures"),
        ("photo", None),
    ],
)
def test_what_is_no_video_fails_by_name_and_the_next_goes_on(
    video, clip, tmp_path, content, reason
):
    bad = tmp_path / "bad.mp4"
    if content == "sound":
        with av.open(str(bad), "w") as container:
            tone = container.add_stream("aac", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), "s16", "mono")
            frame.sample_rate = 16000
            container.mux(tone.encode(frame))
            container.mux(tone.encode())
    elif content == "photo":  # a single picture is a video of one frame
        Image.fromarray(picture(0)).save(tmp_path / "bad.png")
        bad = tmp_path / "bad.png"
    else:
        bad.write_bytes(content)
    ended = video(bad, clip, "--save", "stats")
    if reason is None:
        assert ended.code == 0
    else:
        assert ended.code == 1
        assert "bad.mp4" in ended.err
        assert any(part in ended.err for part in reason.split("|"))
    assert report(tmp_path)["status"] == "complete"


def test_of_several_clips_one_that_is_gone_fails_by_name(video, clip, tmp_path):
    ended = video("gone.mp4", clip, "--save", "stats")
    assert ended.code == 1
    assert "not there, so that they will fail: gone.mp4" in ended.err
    assert "no such video: gone.mp4" in ended.err
    assert report(tmp_path)["status"] == "complete"
    assert report(tmp_path, "gone")["status"] == "failed"
    (tmp_path / "gone.mp4").write_bytes(clip.read_bytes())  # it has come after all
    assert video("gone.mp4", clip, "--save", "stats", "--resume").code == 0
    assert report(tmp_path, "gone")["status"] == "complete"


def test_a_part_without_frames(video, clip, tmp_path):
    ended = video(clip, "--start", "1:00")
    assert ended.code == 1
    assert "no frame lies in the part asked for" in ended.err


def test_a_damaged_tail_keeps_what_is_before_it(video, tmp_path):
    whole = write_clip(tmp_path / "whole.mkv", 200)
    data = whole.read_bytes()
    clip = tmp_path / "clip.mkv"
    clip.write_bytes(data[: len(data) * 2 // 3])
    assert video(clip, "--save", "stats").code == 0
    assert 50 < len({row["frame"] for row in rows(tmp_path / "out/clip.stats.csv")}) < 200


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("DefaultCPUAllocator: not enough memory"), "not enough memory for this clip"),
        (ValueError("a loose wire"), "unexpected ValueError: a loose wire"),
    ],
)
def test_an_error_at_the_first_frame_costs_that_clip_alone(
    video, tmp_path, fake, monkeypatch, error, said
):
    clips = [write_clip(tmp_path / f"{name}.mp4") for name in "ab"]
    segmenters, failed = fake.Segmenter, []

    def make(*arguments, **options):
        segmenter = segmenters(*arguments, **options)
        right = segmenter.segment

        def segment(frames):
            if not failed:
                failed.append(frames)
                raise error
            return right(frames)

        segmenter.segment = segment
        return segmenter

    monkeypatch.setattr(fake, "Segmenter", make)
    ended = video(*clips)
    assert ended.code == 1
    assert f"a.mp4: {said}" in ended.err and "bug in ovseg" not in ended.err
    assert report(tmp_path, "b")["status"] == "complete"


def test_a_clock_that_is_set_back_while_a_clip_runs(video, clip, tmp_path, monkeypatch):
    from ovseg_cli.cli import video_clip

    now = iter(range(10_000, 0, -100))
    monkeypatch.setattr(video_clip.time, "time", lambda: float(next(now)))
    ended = video(clip)
    assert ended.code == 0
    timing = report(tmp_path)["timing"]
    assert 0 < timing["run_seconds"] < 100 and timing["frames_per_second"] > 0


def test_an_error_of_the_model_keeps_what_is_done(video, clip, fake, tmp_path, monkeypatch):
    segmenters = fake.Segmenter

    def make(*arguments, **options):
        segmenter = segmenters(*arguments, **options)
        right = segmenter.segment

        def segment(frames):
            if frames[0].index == 20:
                raise ValueError("a loose wire")
            return right(frames)

        segmenter.segment = segment
        return segmenter

    monkeypatch.setattr(fake, "Segmenter", make)
    ended = video(clip)
    assert ended.code == 1
    assert "clip.mp4: unexpected ValueError: a loose wire" in ended.err
    assert len(frames_of(tmp_path / "out/clip.overlay.mp4")) == 20
    told = report(tmp_path)
    assert told["status"] == "failed" and "a loose wire" in told["failure"]
    monkeypatch.setattr(fake, "Segmenter", segmenters)
    assert video(clip, "--resume").code == 0
    assert len(frames_of(tmp_path / "out/clip.overlay.mp4")) == COUNT


def await_labels(tmp_path, count, name="clip"):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if len(list((tmp_path / f"out/{name}.labels").glob("*.png"))) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("no results appear")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_interrupted_clip_can_be_played_and_gone_on_with(start, tmp_path, number, code):
    write_clip(tmp_path / "clip.mp4", 150)
    arguments = ["video", "clip.mp4", *OPTIONS]
    process = start(*arguments, seconds=0.02)
    await_labels(tmp_path, 70)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    if number != signal.SIGKILL:
        assert "--resume" in err and "Traceback" not in err
        done = len(frames_of(tmp_path / "out/clip.overlay.mp4"))
        assert 70 <= done < 150
        assert report(tmp_path)["status"] == "interrupted"
        assert len(list((tmp_path / "out/clip.labels").iterdir())) == done
    else:
        (part,) = (tmp_path / "out/.ovseg/clips/clip").glob("overlay-*")
        assert len(frames_of(part)) >= 20

    process = start(*arguments, "--resume")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "goes on after" in err
    arguments[arguments.index("out")] = "whole"
    start(*arguments).communicate(timeout=60)
    resumed, whole = results(tmp_path / "out"), results(tmp_path / "whole")
    overlays = [files.pop("clip.overlay.mp4") for files in (resumed, whole)]
    assert resumed == whole
    assert overlays[0] != b"" and len(frames_of(tmp_path / "out/clip.overlay.mp4")) == 150
    times = frames_of(tmp_path / "out/clip.overlay.mp4")
    assert times == pytest.approx([i / 25 for i in range(150)], abs=0.001)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_heeded_while_standard_input_stalls(start, tmp_path, number, code):
    reading, writing = os.pipe()
    process = start("video", "-", *OPTIONS, stdin=reading)
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as pipe:
        pipe.write(write_clip(tmp_path / "clip.mkv", 120).read_bytes())
        await_labels(tmp_path, 20, "stdin")
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in err and "cut off" not in err
    assert report(tmp_path, "stdin")["status"] == "interrupted"
    done = len(list((tmp_path / "out/stdin.labels").iterdir()))
    assert len(frames_of(tmp_path / "out/stdin.overlay.mp4")) == done >= 20


def test_a_full_disk_at_frame_500(start, tmp_path):
    write_clip(tmp_path / "clip.mp4", 700)
    (tmp_path / "out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2000k", "tmpfs", str(tmp_path / "out")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    arguments = ["video", "clip.mp4", *OPTIONS]
    try:
        # A label map takes a page of 4096 bytes: room for fewer than 500 of them.
        _, err = start(*arguments).communicate(timeout=120)
        assert "No space left" in err and "--resume" in err and "Traceback" not in err
        there = len(list((tmp_path / "out/clip.labels").iterdir()))
        assert 300 < there < 500
        larger = ["mount", "-o", "remount,size=40m", str(tmp_path / "out")]
        subprocess.run(larger, check=True)
        process = start(*arguments, "--resume")
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert len(frames_of(tmp_path / "out/clip.overlay.mp4")) == 700
        assert len(list((tmp_path / "out/clip.labels").iterdir())) == 700
    finally:
        subprocess.run(["umount", str(tmp_path / "out")], check=True)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def serve(tmp_path):
    """Serves tmp_path by HTTP; returns the address."""
    servers = []

    def begin(handler=None):
        handler = handler or functools.partial(Quiet, directory=str(tmp_path))
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_stream_by_its_address(video, clip, serve, tmp_path):
    assert video(f"{serve()}/clip.mp4", "--save", "stats").code == 0
    assert len({row["frame"] for row in rows(tmp_path / "out/clip.stats.csv")}) == COUNT


def test_a_password_in_an_address_is_nowhere(video, clip, serve, tmp_path, monkeypatch):
    address = serve().replace("://", "://me:PW@") + "/{}.mp4"
    for more in ([], ["--overwrite"]):
        ended = video(address.format("clip"), address.format("absent"), "--json", *more)
        assert ended.code == 1 and "PW" not in ended.out + ended.err
    for name in ("clip", "absent"):
        told = report(tmp_path, name)
        assert "PW" not in json.dumps(told)
        assert told["origin"]["source"] == told["clip"]["source"]
        assert told["origin"]["source"].endswith(f"/{name}.mp4")
    monkeypatch.setattr(
        "ovseg_cli.cli.auto_names.auto_vocabulary", lambda _, frames, *more: [*frames]
    )
    for more in (["--resume"], ["--classes", "auto"]):
        ended = video(address.format("clip"), *more)
        assert ended.code == 2 and "127.0.0.1" in ended.err and "PW" not in ended.err


def test_a_stream_that_stalls_ends_with_what_came(video, serve, tmp_path, monkeypatch):
    monkeypatch.setattr("ovseg_cli.media.stream.STALL", 1.0)
    data = write_clip(tmp_path / "stall.mkv", 300).read_bytes()
    release = threading.Event()

    class Stalling(Quiet):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "video/x-matroska")
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            release.wait(20)

    began = time.monotonic()
    ended = video(f"{serve(Stalling)}/stall.mkv", "--save", "overlay,stats")
    release.set()
    assert time.monotonic() - began < 15
    assert ended.code == 0 and "stalled for 1 s after" in ended.err
    assert 20 < len(frames_of(tmp_path / "out/stall.overlay.mp4")) < 300


def test_a_server_that_never_answers(video, serve, monkeypatch):
    monkeypatch.setattr("ovseg_cli.media.stream.STALL", 1.0)

    class Silent(Quiet):
        def do_GET(self):
            time.sleep(5)

    began = time.monotonic()
    ended = video(f"{serve(Silent)}/a.mkv")
    assert ended.code == 1 and "no answer within 1 s" in ended.err
    assert time.monotonic() - began < 5


def test_a_reader_of_the_lines_that_goes_away(start, tmp_path):
    write_clip(tmp_path / "clip.mp4", 100)
    process = start("video", "clip.mp4", *OPTIONS, "--json", seconds=0.02)
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(30) == 141
    assert "Traceback" not in err
    assert report(tmp_path)["status"] == "interrupted"


PAGE = """<!doctype html><video muted autoplay src="clip.overlay.mp4"></video><script>
const video = document.querySelector("video"), seen = [];
const told = text => fetch("/told", {method: "POST", body: text});
video.onerror = () => told(JSON.stringify({error: String(video.error.message)}));
video.onended = () => told(JSON.stringify({seen, size: [video.videoWidth, video.videoHeight]}));
const look = (now, {mediaTime}) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 8;
  const drawn = canvas.getContext("2d");
  drawn.drawImage(video, 0, 0, 8, 8, 0, 0, 8, 8);
  seen.push([mediaTime, [...drawn.getImageData(4, 4, 1, 1).data]]);
  video.requestVideoFrameCallback(look);
};
video.requestVideoFrameCallback(look);
</script>"""


def test_a_browser_plays_the_tinted_clip(video, serve, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium here")
    write_clip(tmp_path / "clip.mp4", 50, sound=True)
    assert video(tmp_path / "clip.mp4", "--save", "overlay").code == 0
    (tmp_path / "out" / "page.html").write_text(PAGE)
    told = []
    heard = threading.Event()

    class Listening(Quiet):
        def do_POST(self):
            told.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()
            heard.set()

    address = serve(functools.partial(Listening, directory=str(tmp_path / "out")))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--mute-audio"]
    command += ["--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0"]
    process = subprocess.Popen(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", f"{address}/page.html"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert heard.wait(60), "the browser says nothing"
    finally:
        process.terminate()
        process.wait(10)
    played = json.loads(told[0])
    assert "error" not in played
    times = [seconds for seconds, _ in played["seen"]]
    assert len(times) >= 10 and times == sorted(times) and times[-1] > 1.5
    assert played["size"][0] >= 64 and played["size"][1] % 2 == 0
    colors = {tuple(color) for _, color in played["seen"]}
    assert len(colors) > 2  # the picture changes, as the clip's does


class Endless:
    """A camera that gives a picture every few milliseconds."""

    def __init__(self):
        from ovseg_cli.media.video_source import VideoInfo

        self.info = VideoInfo(Fraction(100), None)
        self.zero, self.end, self.pixel_aspect = 0.0, None, Fraction(1)
        self.given, self.most = 0, None
        self.ahead = []  # pictures that it gives during each of the first steps of the model
        self.stalled, self.released = threading.Event(), threading.Event()

    def frames(self, start=0.0):
        from ovseg_cli.frame import Frame

        began = time.monotonic()
        while True:
            time.sleep(0.002)
            if self.given == self.most:
                time.sleep(1)  # till all that was given is written
                self.stalled.set()
                self.released.wait(20)
            yield Frame(picture(self.given), self.given, time.monotonic() - began, "camera:0")
            self.given += 1

    def close(self):
        pass


@pytest.fixture
def camera(monkeypatch, fake):
    """A camera; the model is slower than it."""
    from ovseg_cli.cli import video_clip

    device = Endless()
    monkeypatch.setattr(video_clip, "open_video", lambda *_: contextlib.nullcontext(device))
    make = fake.Segmenter

    def slow(*arguments, **options):
        segmenter = make(*arguments, **options)
        segmenter.seconds, real = 0.03, segmenter.segment

        def segment(frames):
            wanted = device.given + (device.ahead.pop() if device.ahead else 0)
            last = time.monotonic() + 10
            while device.given < wanted and time.monotonic() < last:
                time.sleep(0.001)
            return real(frames)

        segmenter.segment = segment
        return segmenter

    monkeypatch.setattr(fake, "Segmenter", slow)
    return device


@pytest.mark.parametrize("live", ["drop", "wait"])
def test_a_camera_is_faster_than_the_model(video, camera, tmp_path, live):
    camera.ahead = [6] * 8 if live == "drop" else []
    ended = video("camera:0", "--live", live, "--max-frames", 20, "--save", "overlay,stats")
    assert ended.code == 0
    told = report(tmp_path, "camera-0")
    assert told["counts"]["segmented"] == 20
    if live == "drop":
        assert told["counts"]["dropped"] > 20
        assert f"{told['counts']['dropped']} dropped" in ended.err
    else:
        assert told["counts"]["dropped"] == 0
    numbers = sorted({int(row["frame"]) for row in rows(tmp_path / "out/camera-0.stats.csv")})
    assert (max(np.diff(numbers)) > 1) == (live == "drop")


@pytest.mark.parametrize("live", ["drop", "wait"])
def test_a_signal_is_heeded_while_a_camera_stalls(video, camera, tmp_path, monkeypatch, live):
    from ovseg_cli.cli.interruption import Interruption

    camera.most = 40
    monkeypatch.setattr("ovseg_cli.clips.live.PATIENCE", 0.1)
    monkeypatch.setattr(Interruption, "requested", lambda self: camera.stalled.is_set())
    monkeypatch.setattr(Interruption, "exit_code", 130)
    began = time.monotonic()
    ended = video("camera:0", "--live", live, "--save", "overlay")
    camera.released.set()
    assert time.monotonic() - began < 15
    assert ended.code == 130 and report(tmp_path, "camera-0")["status"] == "interrupted"
    assert len(frames_of(tmp_path / "out/camera-0.overlay.mp4")) >= 1


def test_a_camera_is_closed_when_nobody_reads_it_any_more(video, camera, monkeypatch):
    from ovseg_cli.cli import video_clip
    from ovseg_cli.clips.run import EachForItself

    readers = []

    @contextlib.contextmanager
    def opened(*_):
        try:
            yield camera
        finally:
            readers.extend(one for one in threading.enumerate() if one.name == "ovseg-live")

    class Broken(EachForItself):
        def look(self, frames, before):
            raise ValueError("a loose wire")

    monkeypatch.setattr(video_clip, "open_video", opened)
    monkeypatch.setattr(video_clip.Clip, "labeller", lambda self: Broken(self.segmenter))
    assert video("camera:0", "--save", "stats").code == 1
    assert not readers


@pytest.fixture
def screens(monkeypatch):
    """Windows that are closed after six pictures; those that were opened."""

    class Screen:
        def __init__(self):
            self.is_open, self.shown = True, []

        def show(self, pixels, title):
            self.shown.append((pixels.shape, title))
            self.is_open = len(self.shown) < 6

        def close(self):
            self.is_open = False

    opened = []
    monkeypatch.setattr(
        "ovseg_cli.cli.video_run.Window", lambda: opened.append(Screen()) or opened[-1]
    )
    return opened


def test_a_camera_runs_until_its_window_is_closed(video, camera, screens, tmp_path):
    assert video("camera:0", "--show", "--save", "stats").code == 0
    assert report(tmp_path, "camera-0")["status"] == "complete"
    (screen,) = screens
    assert 6 <= len(screen.shown) < 20
    assert len({shape for shape, _ in screen.shown}) == 1
    assert screen.shown[0][1].startswith("camera:0 0.")


def test_a_clip_whose_window_is_closed_can_be_gone_on_with(video, screens, tmp_path):
    write_clip(tmp_path / "clip.mp4", 200)
    assert video("clip.mp4", "--show", "--save", "stats").code == 0
    assert report(tmp_path)["status"] == "interrupted"
    assert video("clip.mp4", "--save", "stats", "--resume").code == 0
    assert report(tmp_path)["counts"]["written"] == 200


def test_a_window_that_is_closed_ends_its_clip_alone(video, screens, tmp_path):
    write_clip(tmp_path / "a.mp4", 200)
    write_clip(tmp_path / "b.mp4", 4)
    ended = video("a.mp4", "b.mp4", "--show", "--save", "stats")
    assert ended.code == 0 and ended.err.count("interrupted: to go on") == 1
    assert [report(tmp_path, name)["status"] for name in "ab"] == ["interrupted", "complete"]
    assert [len(screen.shown) for screen in screens[1:]] == [4]
    assert not any(screen.is_open for screen in screens)


def test_a_screen_that_is_gone_for_the_next_clip_costs_no_clip(
    video, screens, tmp_path, monkeypatch
):
    from ovseg_cli.cli import video_run
    from ovseg_cli.errors import UsageError

    window = video_run.Window

    def once():
        if screens:
            raise UsageError("a window needs a screen")
        return window()

    monkeypatch.setattr(video_run, "Window", once)
    write_clip(tmp_path / "a.mp4", 200)
    write_clip(tmp_path / "b.mp4", 4)
    ended = video("a.mp4", "b.mp4", "--show", "--save", "stats")
    assert ended.code == 0 and "warning: a window needs a screen" in ended.err
    assert report(tmp_path, "b")["status"] == "complete"


def test_a_camera_whose_window_is_closed_leaves_the_next_its_own(video, camera, screens, tmp_path):
    assert video("camera:0", "camera:1", "--show", "--save", "stats").code == 0
    for name in ("camera-0", "camera-1"):
        assert report(tmp_path, name)["status"] == "complete"
    assert len(screens) == 2


def flicker(label_maps, flows):
    """Share of pixels whose label changes although flow says that they show the same thing."""
    changed = followed = 0
    for before, now, (x, y, sure) in zip(label_maps[:-1], label_maps[1:], flows, strict=True):
        there = before[np.rint(y).astype(int)[sure], np.rint(x).astype(int)[sure]]
        changed += int((there != now[sure]).sum())
        followed += int(sure.sum())
    return changed / followed


def followed_back(before, now):
    """Where each pixel was, by another flow than the product's, and where that can be believed."""
    cv2 = pytest.importorskip("cv2")
    grey = [cv2.cvtColor(part, cv2.COLOR_RGB2GRAY) for part in (before, now)]
    there = cv2.calcOpticalFlowFarneback(grey[1], grey[0], None, 0.5, 4, 21, 5, 7, 1.5, 0)
    back = cv2.calcOpticalFlowFarneback(grey[0], grey[1], None, 0.5, 4, 21, 5, 7, 1.5, 0)
    height, width = grey[0].shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x + there[..., 0], y + there[..., 1]
    returned = there + cv2.remap(back, x, y, cv2.INTER_LINEAR)
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    return x, y, inside & (np.hypot(returned[..., 0], returned[..., 1]) < 1)


def test_labels_of_a_real_clip_are_steady(shared_dir, tmp_path):
    from ovseg_cli.cli.main import ovseg

    clips = shared_dir / "data" / "davis-clips"
    keys = (clips / "clip-blackswan.txt").read_text().split()[:16]
    folder = tmp_path / "swan"
    folder.mkdir()
    for key in keys:
        shutil.copy(clips / "images" / f"{key}.jpg", folder)
    pictures = [np.asarray(Image.open(folder / f"{key}.jpg").convert("RGB")) for key in keys]
    flows = [followed_back(*pair) for pair in zip(pictures[:-1], pictures[1:], strict=True)]
    found = {}
    for strength in ("0", "0.85"):
        out = tmp_path / strength
        arguments = ["video", str(folder), "--classes", "bird,water,grass,tree,sky"]
        with pytest.raises(SystemExit) as end:
            ovseg.main([*arguments, "--smooth", strength, "--save", "labels", "-o", str(out)])
        assert end.value.code == 0
        maps = [np.asarray(Image.open(path)) for path in sorted((out / "swan.labels").iterdir())]
        found[strength] = flicker(maps, flows)
    assert 0 < found["0.85"] <= 0.5 * found["0"]


def test_classes_json_is_not_made_to_lie_about_other_results(video, program, tmp_path):
    one, two = (write_clip(tmp_path / f"{name}.mp4", 4) for name in ("one", "two"))
    assert video(one).code == 0
    names = ["--classes", "tree,dog"]
    for more in ([], ["--overwrite"], ["--resume"]):
        ended = video(two, *names, *more)
        assert ended.code == 2 and "results of the clip one for other names" in ended.err
    assert video(one, *names, "--overwrite").code == 0  # nothing else is there
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    assert program("segment", "a.png", "--classes", "sky", "-o", "photos").code == 0
    ended = video(two, "-o", "photos")
    assert ended.code == 2 and "results of photos for other names" in ended.err


@pytest.mark.parametrize("more", ["--overwrite", "--resume"])
def test_classes_json_is_not_made_to_lie_about_clips_that_are_not_redone(video, tmp_path, more):
    one, two = (write_clip(tmp_path / f"{name}.mp4", 4) for name in ("one", "two"))
    assert video(one, two).code == 0
    two.write_text("no video at all")
    ended = video(one, two, "--classes", "tree,dog", more)
    assert ended.code == 1
    said = ended.err.count("begins anew: its results are for other names")
    assert said == (2 if more == "--resume" else 0)
    assert report(tmp_path, "one")["status"] == "complete"
    assert [path.name for path in (tmp_path / "out").glob("two.*")] == ["two.run.json"]
    assert report(tmp_path, "two")["status"] == "failed"


@pytest.mark.parametrize("more", ["--overwrite", "--resume"])
def test_results_of_a_clip_that_is_gone_are_kept(video, tmp_path, more):
    one, two = (write_clip(tmp_path / f"{name}.mp4", 4) for name in ("one", "two"))
    assert video(one, two).code == 0
    before = results(tmp_path / "out")
    two.unlink()
    ended = video(one, two, "--classes", "tree,dog", more)
    assert ended.code == 2 and "results of the clip two for other names" in ended.err
    assert results(tmp_path / "out") == before


@pytest.mark.parametrize("change", ["replaced", "frame gone", "overlay cut", "sound"])
def test_a_clip_whose_input_results_or_options_changed_is_done_again(video, tmp_path, change):
    if change == "sound":
        source = write_clip(tmp_path / "clip.mp4", 6, sound=True)
    else:
        source = tmp_path / "clip"
        source.mkdir()
        for index in range(6):
            Image.fromarray(picture(9 * index)).save(source / f"{index}.png")
    assert video(source, *(["--no-audio"] if change == "sound" else [])).code == 0
    assert "finished earlier" in video(source, *(
        ["--no-audio"] if change == "sound" else []
    ), "--resume").err  # fmt: skip
    if change == "replaced":
        Image.fromarray(picture(200)[::-1].copy()).save(tmp_path / "new.png")
        (source / "2.png").write_bytes((tmp_path / "new.png").read_bytes())
    elif change == "frame gone":
        (tmp_path / "out/clip.labels/000003.png").unlink()
    elif change == "overlay cut":
        (tmp_path / "out/clip.overlay.mp4").write_bytes(b"")
    ended = video(source, "--resume")
    assert ended.code == 0 and "finished earlier" not in ended.err
    assert len(list((tmp_path / "out/clip.labels").iterdir())) == 6
    assert len(frames_of(tmp_path / "out/clip.overlay.mp4")) == 6
    if change == "sound":
        with av.open(str(tmp_path / "out/clip.overlay.mp4")) as container:
            assert container.streams.audio


def test_a_clip_that_is_cut_off_is_said(video, tmp_path):
    whole = tmp_path / "whole.mkv"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for index in range(80):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        container.mux(stream.encode())
    data = whole.read_bytes()
    (tmp_path / "half.mkv").write_bytes(data[: len(data) // 2])
    assert "cut off" not in video("whole.mkv").err
    ended = video("half.mkv")
    assert "half.mkv: ends after" in ended.err and "tells of 8" in ended.err


def test_a_clip_that_cannot_be_opened_has_its_reason_in_run_json(video, tmp_path):
    (tmp_path / "text.mp4").write_text("no video at all")
    for _ in range(2):  # and it is in nobody's way afterwards
        ended = video("text.mp4")
        assert ended.code == 1 and "not a video" in ended.err
        assert "0 frames" not in ended.err and "earlier run" not in ended.err
        told = report(tmp_path, "text")
        assert told["status"] == "failed" and "not a video" in told["failure"]
    write_clip(tmp_path / "text.mp4", 3)
    assert video("text.mp4").code == 0
    assert report(tmp_path, "text")["status"] == "complete"


def test_a_clip_that_cannot_be_opened_this_time_keeps_its_frames(
    video, clip, tmp_path, monkeypatch
):
    from ovseg_cli.cli import video_clip
    from ovseg_cli.errors import InputError

    assert video(clip, "--max-frames", "0").code == 2  # no such number
    state = tmp_path / "out/.ovseg/clips/clip"
    ended = video(clip)
    whole = {p.name: p.read_bytes() for p in (tmp_path / "out/clip.labels").iterdir()}
    assert ended.code == 0
    shutil.rmtree(tmp_path / "out")

    def interrupted(self):
        return self.folder.count >= 20

    with monkeypatch.context() as patch:
        patch.setattr(video_clip.Clip, "stopped", interrupted)
        video(clip)
    assert (state / "frames.jsonl").stat().st_size
    with monkeypatch.context() as patch:

        def gone(source, stop):
            raise InputError(f"{source}: the disk it is on is asleep")

        patch.setattr(video_clip, "open_video", gone)
        assert video(clip, "--resume").code == 1
    ended = video(clip, "--resume")
    assert ended.code == 0 and "goes on after" in ended.err
    assert {p.name: p.read_bytes() for p in (tmp_path / "out/clip.labels").iterdir()} == whole


def test_a_folder_of_pictures_is_the_same_clip_wherever_out_lies(video, tmp_path):
    source = tmp_path / "clip"
    source.mkdir()
    for index in range(4):
        Image.fromarray(picture(9 * index)).save(source / f"{index}.png")
    assert video(source, "-o", source / "out").code == 0
    assert "finished earlier" in video(source, "-o", source / "out", "--resume").err
    (source / "1.png").rename(source / "x.png")
    (source / "2.png").rename(source / "1.png")
    (source / "x.png").rename(source / "2.png")
    assert "finished earlier" not in video(source, "-o", source / "out", "--resume").err


def test_a_slow_clip_is_not_called_cut_off(video, tmp_path):
    with av.open(str(tmp_path / "slow.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(1, 5))
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for index in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        container.mux(stream.encode())
    ended = video("slow.mp4")
    assert ended.code == 0 and "cut off" not in ended.err


@pytest.mark.parametrize("failure", ["not a video", "no frame lies in the part"])
def test_what_fails_before_its_first_frame_leaves_earlier_results(video, clip, tmp_path, failure):
    assert video(clip).code == 0
    before = results(tmp_path / "out")
    told = report(tmp_path)
    if failure == "not a video":
        clip.write_text("no video at all")
        arguments = [clip]
    else:
        arguments = [clip, "--start", "9:00"]
    for more in ("--overwrite", "--resume"):
        ended = video(*arguments, more)
        assert ended.code == 1 and failure in ended.err
        assert results(tmp_path / "out") == before and report(tmp_path) == told


def test_resume_does_not_replace_the_results_of_another_clip(video, clip, tmp_path):
    other = write_clip(tmp_path / "other" / "clip.mp4", 3)
    assert video(clip).code == 0
    before = results(tmp_path / "out")
    ended = video(other, "--resume")
    assert ended.code == 2 and f"another clip named clip, {clip}" in ended.err
    ended = video(other)
    assert ended.code == 2 and f"another clip named clip, {clip}" in ended.err
    assert "--resume" not in ended.err
    assert results(tmp_path / "out") == before
    assert video(other, "--overwrite").code == 0
    assert len(list((tmp_path / "out/clip.labels").iterdir())) == 3


def test_a_stream_is_not_said_to_be_gone_on_with(video, clip):
    data = clip.read_bytes()
    assert video("-", stdin=data).code == 0
    ended = video("-", stdin=data)
    assert ended.code == 2 and "an earlier run for stdin: --overwrite" in ended.err


def test_labels_that_are_to_be_steadier_are_made_anew(video, clip, monkeypatch):
    from ovseg_cli.cli import video_clip
    from ovseg_cli.clips.run import EachForItself

    # The segmenter without torch gives no scores, of which steady labels are made.
    monkeypatch.setattr(video_clip.Clip, "labeller", lambda self: EachForItself(self.segmenter))
    assert video(clip, "--smooth", "0.5").code == 0
    assert "finished earlier" in video(clip, "--smooth", "0.5", "--resume").err
    ended = video(clip, "--smooth", "0.9", "--resume")
    assert ended.code == 0 and "begins anew" in ended.err


def test_results_of_other_options_are_not_mixed_with_new_ones(video, clip, tmp_path):
    assert video(clip).code == 0
    ended = video(clip, "--resume", "--every", 10, "--fill", "none", "--save", "labels")
    assert ended.code == 0 and "begins anew" in ended.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"classes.json", "clip.labels", "clip.run.json"}
    files = sorted(path.stem for path in (tmp_path / "out/clip.labels").iterdir())
    assert files == ["000001", "000011", "000021"]


def test_other_files_of_the_same_labels_leave_those_there_are(video, clip, tmp_path):
    assert video(clip, "--save", "labels").code == 0
    before = results(tmp_path / "out")
    assert video(clip, "--save", "stats", "--resume").code == 0
    after = results(tmp_path / "out")
    assert after.pop("clip.stats.csv") and after == before


def test_kinds_that_change_are_added_up_anew(program, clip, tmp_path, monkeypatch):
    names, table = tmp_path / "names.txt", tmp_path / "out/clip.parents.csv"

    def run(text, *more):
        names.write_text(text)
        ended = program("video", clip, "--vocab", names, "-o", "out", "--smooth", 0, *more)
        assert ended.code == 0
        return ended.err

    run("vehicle:\n  car\nsky\n")
    assert {row["parent"] for row in rows(table)} == {"vehicle"}
    run("machine:\n  car\nsky\n", "--resume")
    assert {row["parent"] for row in rows(table)} == {"machine"}
    assert "finished earlier" in run("machine:\n  car\nsky\n", "--resume")
    path = tmp_path / "out/clip.run.json"  # as of a run that noted no kinds
    path.write_text(json.dumps({k: v for k, v in report(tmp_path).items() if k != "parents"}))
    assert "finished earlier" in run("machine:\n  car\nsky\n", "--resume")
    run("car\nsky\n", "--resume")
    assert not table.exists()
    with monkeypatch.context() as patch:
        interrupted_after(patch, 10)
        run("car\nsky\n", "--overwrite")
    assert "goes on after" in run("vehicle:\n  car\nsky\n", "--resume")  # its labels are the same
    assert {row["parent"] for row in rows(table)} == {"vehicle"}


def test_why_a_clip_begins_anew(video, clip, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupted_after(patch, 10)
        video(clip)
    (part,) = (tmp_path / "out/.ovseg/clips/clip").glob("overlay-*")
    part.write_bytes(part.read_bytes()[:100])  # killed before its first picture
    assert "begins anew: nothing of what was done can be read back" in video(clip, "--resume").err
    (tmp_path / "out/clip.labels/000003.png").unlink()
    assert "begins anew: its results are not what was left in out" in video(clip, "--resume").err
    ended = video(clip, "--resume", "--every", 2)
    assert "begins anew: the clip, the model or an option has changed" in ended.err


def interrupted_after(monkeypatch, count):
    from ovseg_cli.cli import video_clip

    monkeypatch.setattr(video_clip.Clip, "stopped", lambda self: self.folder.count >= count)


def test_a_clip_that_changes_its_size_goes_on_at_its_first(video, tmp_path, monkeypatch):
    (tmp_path / "clip").mkdir()
    for index in range(60):
        pixels = picture(index, (48, 64) if index < 10 else (40, 80))
        Image.fromarray(pixels).save(tmp_path / f"clip/{index}.png")
    with monkeypatch.context() as patch:
        interrupted_after(patch, 30)
        video("clip")
    assert "goes on after" in video("clip", "--resume").err
    sizes = {Image.open(path).size for path in (tmp_path / "out/clip.labels").iterdir()}
    assert sizes == {(64, 48)}


def test_lines_and_counts_are_of_new_frames_alone(video, tmp_path, monkeypatch):
    write_clip(tmp_path / "clip.mp4", 120)
    with monkeypatch.context() as patch:
        interrupted_after(patch, 30)
        first = video("clip.mp4", "--json")
    rest = video("clip.mp4", "--json", "--resume")
    lines = [
        json.loads(line)["frame"] for line in [*first.out.splitlines(), *rest.out.splitlines()]
    ]
    assert lines == list(range(1, 121))
    counts = report(tmp_path)["counts"]
    assert counts["of_earlier_runs"] + counts["segmented"] == counts["written"] == 120


class Fading:
    """Steady labels of one number a frame: what was before fades from frame to frame."""

    def __init__(self, segmenter, strength):
        self.segmenter, self.strength, self.past, self.values = segmenter, strength, None, {}

    def look(self, frames, before):
        return frames

    def label(self, frames):
        for frame in frames:
            alone = frame.index * 37 % 101 / 100
            past = alone if self.past is None else self.past
            self.past = self.values[frame.index] = alone + self.strength * (past - alone)
        return self.segmenter.segment(frames)


@pytest.mark.parametrize(
    ("strength", "more", "again"),
    [(0.0, (), 1), (0.5, (), 9), (0.85, ("--every", 4), 34), (0.97, (), 175)],
)
def test_steady_labels_go_on_as_without_an_interruption(
    video, tmp_path, monkeypatch, strength, more, again
):
    from ovseg_cli.cli import video_clip

    write_clip(tmp_path / "clip.mp4", 240)
    made = []

    def labeller(self):
        made.append(Fading(self.segmenter, self.plan.smooth))
        return made[-1]

    monkeypatch.setattr(video_clip.Clip, "labeller", labeller)
    options = ["clip.mp4", "--smooth", strength, "--save", "stats", *more]
    with monkeypatch.context() as patch:
        interrupted_after(patch, 200)
        video(*options)
    assert video(*options, "--resume").code == 0
    earlier = report(tmp_path)["counts"]["of_earlier_runs"]
    video(*options, "--overwrite")
    interrupted, resumed, unbroken = (fading.values for fading in made)
    assert len(set(resumed) & set(interrupted)) == again
    new = [index for index in resumed if index >= earlier]
    assert new and {*interrupted, *resumed} == set(unbroken)
    assert max(abs(resumed[index] - unbroken[index]) for index in new) < 0.005


@pytest.mark.parametrize(
    ("source", "option", "said"),
    [
        ("clip.mp4", None, "run the same command with --resume"),
        ("clip.mp4", "--overwrite", "run the same command with --resume instead of --overwrite"),
        ("-", None, "begin anew with --overwrite"),
    ],
)
def test_how_to_go_on_is_said_so_that_it_works(video, tmp_path, monkeypatch, source, option, said):
    from ovseg_cli.cli.interruption import Interruption

    data = write_clip(tmp_path / "clip.mp4", 60).read_bytes()
    monkeypatch.setattr(Interruption, "requested", lambda self: True)
    monkeypatch.setattr(Interruption, "exit_code", 130)
    ended = video(source, *([option] if option else []), stdin=data)
    assert ended.code == 130 and said in ended.err


def signalled_after(monkeypatch, name):
    """A signal comes as the clip of this name ends."""
    from ovseg_cli.cli import video_clip
    from ovseg_cli.cli.interruption import Interruption

    ended, right = [], video_clip.Clip.finish

    def finish(self, *how):
        right(self, *how)
        ended.append(self.name)

    monkeypatch.setattr(video_clip.Clip, "finish", finish)
    monkeypatch.setattr(Interruption, "requested", lambda self: name in ended)
    monkeypatch.setattr(Interruption, "exit_code", 130)


@pytest.mark.parametrize("damage", [None, b"no video at all"])
def test_a_clip_that_a_signal_keeps_from_its_first_frame_has_no_results(
    video, tmp_path, monkeypatch, damage
):
    one, two = (write_clip(tmp_path / f"{name}.mp4", 4) for name in ("one", "two"))
    if damage is not None:  # as a stream is that breaks off
        two.write_bytes(damage)
    with monkeypatch.context() as patch:
        signalled_after(patch, "one")
        ended = video(one, two)
    assert ended.code == 130 and "interrupted" in ended.err and "ovseg: error" not in ended.err
    assert {path.name for path in (tmp_path / "out").glob("two.*")} == {"two.run.json"}
    assert report(tmp_path, "two")["status"] == "interrupted"
    write_clip(two, 4)
    assert video(two).code == 0


@pytest.mark.parametrize("becomes", ["another", "nothing"])
def test_a_clip_that_is_replaced_while_it_runs_gives_no_sound(
    video, tmp_path, monkeypatch, becomes
):
    from ovseg_cli.clips.folder import ClipFolder

    clip = write_clip(tmp_path / "clip.mp4", sound=True)
    other = write_clip(tmp_path / "other.mp4", COUNT + 5, sound=True)
    right = ClipFolder.write

    def write(self, frame, *labels):
        right(self, frame, *labels)
        if frame.index == COUNT - 1:
            other.replace(clip) if becomes == "another" else clip.unlink()

    with monkeypatch.context() as patch:
        patch.setattr(ClipFolder, "write", write)
        ended = video(clip)
    assert ended.code == 0 and "clip.mp4: it has changed while it was read" in ended.err
    with av.open(str(tmp_path / "out/clip.overlay.mp4")) as container:
        assert not container.streams.audio
    assert len(frames_of(tmp_path / "out/clip.overlay.mp4")) == COUNT
    if becomes == "another":
        assert "begins anew" in video(clip, "--resume").err


def test_pixels_that_are_not_square_stay_so(video, tmp_path):
    write_clip(tmp_path / "clip.mp4", 3, pixel_aspect=Fraction(4, 3))
    assert video("clip.mp4").code == 0
    with av.open(str(tmp_path / "out/clip.overlay.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.skipif(os.name != "posix", reason="Windows allows no such file names")
def test_a_clip_and_a_folder_with_a_colon_in_their_names(video, clip, tmp_path):
    clip.rename(tmp_path / "12:30.mp4")
    assert video("12:30.mp4", "-o", "12:30x", "--save", "overlay,labels=video").code == 0
    assert len(frames_of(tmp_path / "12:30x" / "12:30.overlay.mp4")) == COUNT


def test_sound_is_in_step_where_the_clock_of_the_clip_begins_late(video, tmp_path):
    with (
        av.open(str(write_clip(tmp_path / "a.mp4", 50, sound=True))) as source,
        av.open(str(tmp_path / "clip.ts"), "w") as container,
    ):
        streams = {s.index: container.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                late = round(3600 / packet.time_base)
                packet.pts, packet.dts = packet.pts + late, packet.dts + late
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
    assert video("clip.ts", "--save", "overlay").code == 0
    with av.open(str(tmp_path / "out/clip.overlay.mp4")) as container:
        times = [float(p.pts * p.time_base) for p in container.demux(audio=0) if p.size]
    assert times[0] < 0.1 and times[-1] == pytest.approx(2, abs=0.2)
