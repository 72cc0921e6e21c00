"""Reading video: every frame, at its time, upright, whatever the file is like."""

import io
import logging
import os
import socket
import struct
import sys
import threading
import time
import traceback
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.media import camera
from ovseg_cli.media.images import read_image
from ovseg_cli.media.pipe import Pipe
from ovseg_cli.media.pyav import Clock
from ovseg_cli.media.video import open_video

av = pytest.importorskip("av")


def picture(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Red at the top left, blue elsewhere; the green tells the index."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 2], pixels[..., 1] = 200, 8 * index
    pixels[: height // 2, : width // 2] = (220, 8 * index, 20)
    return pixels


def index_of(pixels: np.ndarray) -> int:
    return round(float(pixels[-8:, -8:, 1].mean()) / 8)


def write(
    path: Path,
    times: list[float],
    *,
    codec: str = "libx264",
    kind: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    rate: Fraction = Fraction(25),
    audio: bool = False,
    aspect: Fraction = Fraction(1),
) -> Path:
    """A clip with a frame at each of these seconds."""
    base = 1 / rate if codec == "mpeg4" else Fraction(1, 90000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = kind
        stream.bit_rate = 4_000_000
        stream.codec_context.sample_aspect_ratio = aspect
        stream.time_base = stream.codec_context.time_base = base
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio else None
        for index, seconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(index % 30, *size), format="rgb24")
            frame.pts, frame.time_base = round(seconds / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            tone = np.zeros((1, 16000), np.int16)
            frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, 0
            container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


def moved(given, path, earlier, **options):
    """Copy a film's packets to so many seconds earlier; returns the new one's path."""
    with av.open(str(path), "w", options=options) as container:
        streams = {stream: container.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is not None:
                shift = round(earlier / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream]
                container.mux(packet)
    return path


def read(source: object, start: float = 0.0):
    with open_video(str(source)) as video:
        return video.info, list(video.frames(start))


STEADY = [i / 25 for i in range(20)]


@pytest.mark.parametrize(
    ("name", "codec", "kind"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "ffv1", "bgr0"),
        ("a.mov", "libx264", "yuv420p10le"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.mkv", "libx264", "yuv444p"),
    ],
)
def test_containers_codecs_and_depths(tmp_path, name, codec, kind):
    info, frames = read(write(tmp_path / name, STEADY, codec=codec, kind=kind))
    assert [index_of(frame.pixels) for frame in frames] == list(range(20))
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.seconds for frame in frames] == pytest.approx(STEADY, abs=0.002)
    assert frames[0].pixels.shape == (48, 64, 3)
    red = frames[3].pixels[8, 8].astype(int)
    assert red[0] > 190 and red[2] < 60
    assert info.frames is None or abs(info.frames - 20) <= 1
    assert not info.has_audio


def test_what_is_transparent_lies_over_white(tmp_path):
    """As in a photo: a PNG, which ffmpeg reads too, gives what `read_image` does."""
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[..., 0], pixels[:, 32:, 3], pixels[:, 16:32, 3] = 200, 255, 128
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgra"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
        container.mux(stream.encode())
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = read_image(tmp_path / "a.png").pixels
    assert (expected[:, :16] == 255).all() and (expected[:, 32:] == (200, 0, 0)).all()
    for name in ("a.mkv", "a.png"):
        (frame,) = read(tmp_path / name)[1]
        np.testing.assert_array_equal(frame.pixels, expected)


def test_damage_within_is_told(tmp_path, caplog):
    path = write(tmp_path / "a.avi", STEADY, codec="mjpeg", kind="yuvj420p")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.size]
        position, size = packets[10].pos, packets[10].size
    assert len(read(path)[1]) == 20 and not caplog.records
    with path.open("r+b") as file:
        file.seek(position + 8)
        file.write(bytes(size))
    assert len(read(path)[1]) == 19
    assert "a.avi: damaged within: 1 packet left out" in caplog.text


def test_a_piped_film_whose_index_stands_at_its_end(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)  # much to be read
    monkeypatch.setattr(sys.modules[__name__], "picture", lambda index, *_: np.roll(noise, index))
    path = write(tmp_path / "a.mp4", STEADY, size=(320, 240))
    assert len(read(path)[1]) == 20
    reading, writing = os.pipe()
    threading.Thread(target=pour, args=(path.read_bytes(), writing), daemon=True).start()
    with os.fdopen(reading, "rb") as stream:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))
        with pytest.raises(InputError, match="index of an MP4 stands at its end.*faststart"):
            read("-")


def test_an_animated_webp(tmp_path):
    shown = [Image.fromarray(picture(index)) for index in range(3)]
    shown[0].save(tmp_path / "a.webp", save_all=True, append_images=shown[1:], lossless=True)
    with pytest.raises(InputError, match="ffmpeg reads no animated WebP; make a GIF"):
        read(tmp_path / "a.webp")


def test_a_song_with_a_cover_is_no_clip(tmp_path):
    with av.open(str(tmp_path / "a.mp3"), "w") as container:
        sound = container.add_stream("mp3", rate=44100, layout="mono")
        cover = container.add_stream("png")
        cover.width, cover.height, cover.pix_fmt = 64, 48, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(1), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    with pytest.raises(InputError, match="it holds no pictures but a cover"):
        read(tmp_path / "a.mp3")


def pour(data, writing):
    with os.fdopen(writing, "wb") as stream:
        stream.write(data)


def test_frames_keep_their_times_where_they_come_unevenly(tmp_path):
    times = [0.0, 0.02, 0.1, 0.5, 0.51, 1.7]
    _, frames = read(write(tmp_path / "a.mkv", times))
    assert [frame.seconds for frame in frames] == pytest.approx(times, abs=0.002)


def test_time_stamps_that_begin_anywhere_and_anew(tmp_path):
    """As those of MPEG-TS files do that are strung together."""
    write(tmp_path / "a.ts", [index / 25 for index in range(50)])
    (tmp_path / "b.ts").write_bytes((tmp_path / "a.ts").read_bytes() * 2)
    with open_video(str(tmp_path / "b.ts")) as video:
        frames = list(video.frames())
        assert video.zero > 0  # the encoder's delay
    assert [frame.seconds for frame in frames] == [index / 25 for index in range(100)]


def test_short_films_strung_together(tmp_path):
    one = write(tmp_path / "a.ts", STEADY[:15])
    (tmp_path / "twice.ts").write_bytes(one.read_bytes() * 2)
    _, frames = read(tmp_path / "twice.ts")
    assert [frame.seconds for frame in frames] == pytest.approx(
        [i / 25 for i in range(30)], abs=0.002
    )


def test_a_time_stamp_that_is_a_little_early_does_not_move_those_after_it():
    clock, step = Clock(), Fraction(1, 25)
    stamps = [Fraction(stamp, 25) for stamp in (0, 1, 2, 3, 1, 5, 6)]
    assert [clock.seconds(stamp, step) * 25 for stamp in stamps] == [0, 1, 2, 3, 3, 5, 6]


def test_29_97_frames_a_second(tmp_path):
    rate = Fraction(30000, 1001)
    times = [float(i / rate) for i in range(60)]
    info, frames = read(write(tmp_path / "a.mp4", times, rate=rate))
    assert float(info.rate) == pytest.approx(29.97, abs=0.01)
    assert frames[59].seconds == pytest.approx(59 * 1001 / 30000, abs=1e-3)


def test_odd_sizes(tmp_path):
    path = write(tmp_path / "a.mkv", STEADY, codec="ffv1", kind="bgr0", size=(63, 47))
    _, frames = read(path)
    assert np.array_equal(frames[5].pixels, picture(5, 63, 47))


def turn(path, matrix):
    """Write a display matrix (a, b, c, d) into an MP4 file: x' = ax + cy, y' = bx + dy."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # behind version, times, ids, layer and volume
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),  # a phone held upright: turn clockwise
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
        ((-1, 0, 0, 1), np.fliplr),  # a front camera's mirror
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
    ],
)
def test_a_phone_s_rotation(tmp_path, matrix, shown):
    path = turn(write(tmp_path / "a.mp4", STEADY[:3]), matrix)
    _, frames = read(path)
    expected = shown(picture(0))
    assert frames[0].pixels.shape == expected.shape
    assert np.abs(frames[0].pixels.astype(int) - expected).mean() < 8
    assert frames[0].pixels.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("matrix", "aspect"), [((1, 0, 0, 1), Fraction(4, 3)), ((0, 1, -1, 0), Fraction(3, 4))]
)
def test_pixels_that_are_not_square(tmp_path, matrix, aspect):
    path = write(tmp_path / "a.mp4", STEADY[:3], aspect=Fraction(4, 3))
    with open_video(str(turn(path, matrix))) as video:
        list(video.frames())
        assert video.pixel_aspect == aspect


def test_a_later_start(tmp_path):
    _, frames = read(write(tmp_path / "a.mp4", STEADY), start=0.39)
    assert [frame.index for frame in frames] == list(range(10, 20))
    assert frames[0].seconds == pytest.approx(0.4)


def test_a_damaged_tail_leaves_what_came_before(tmp_path, caplog):
    path = write(tmp_path / "a.mkv", STEADY, codec="mpeg4")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    with caplog.at_level(logging.DEBUG):
        _, frames = read(path)
    assert 5 <= len(frames) < 20
    assert [index_of(frame.pixels) for frame in frames] == list(range(len(frames)))


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_film_with_sound_that_is_cut_off_is_said(tmp_path, caplog, name):
    path = write(tmp_path / name, [i / 10 for i in range(60)], rate=Fraction(10), audio=True)
    if name == "a.mp4":
        with av.open(str(path)) as given:
            moved(given, path.with_name("b.mp4"), 0, movflags="faststart")
        path = path.with_name("b.mp4")
    read(path)
    assert "cut off" not in caplog.text
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read(path)
    assert "is it cut off?" in caplog.text


def test_a_film_that_an_edit_list_trims_is_not_called_cut_off(tmp_path, caplog):
    whole = write(tmp_path / "a.mp4", STEADY)
    with av.open(str(whole)) as given:
        trimmed = moved(given, tmp_path / "b.mp4", 0.4)
    with av.open(str(trimmed)) as container:
        assert container.streams.video[0].frames == 20  # what this is about
    _, frames = read(trimmed)
    assert len(frames) < 15
    assert "cut off" not in caplog.text


def test_a_stream_that_another_thread_waits_for_is_not_closed_under_it(tmp_path):
    waits, release, closed, frames = threading.Event(), threading.Event(), [], []
    with open_video(str(write(tmp_path / "a.mkv", STEADY))) as video:
        container = video._container

        def demux(stream):
            waits.set()
            release.wait(20)
            yield from container.demux(stream)

        video._container = SimpleNamespace(
            demux=demux, duration=container.duration, close=lambda: closed.append(True)
        )
        reader = threading.Thread(target=lambda: frames.extend(video.frames()))
        reader.start()
        assert waits.wait(20)
    assert not closed
    release.set()
    reader.join(20)
    assert not reader.is_alive() and not frames  # it does not go on beside the next clip
    video.close()
    assert closed


def test_an_encoded_stream_on_standard_input(tmp_path, monkeypatch):
    data = write(tmp_path / "a.mkv", STEADY).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    _, frames = read("-")
    assert len(frames) == 20


def piped(monkeypatch, data):
    """Standard input is a pipe with some bytes in it; returns its other end, to be closed."""
    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(reading))
    end = os.fdopen(writing, "wb", buffering=0)
    end.write(data)
    return end


def test_a_clip_in_a_pipe_that_stays_open_begins_at_once(tmp_path, monkeypatch):
    data = write(tmp_path / "a.mkv", [i / 25 for i in range(60)]).read_bytes()
    with piped(monkeypatch, data), open_video("-") as video:
        assert index_of(next(video.frames()).pixels) == 0


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_pipe_that_stalls_is_at_its_end_where_that_is_wanted(
    tmp_path, monkeypatch, caplog, share
):
    data = write(tmp_path / "a.mkv", STEADY).read_bytes()
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    began, frames = time.monotonic(), []
    with piped(monkeypatch, data[: round(share * len(data))]):
        try:
            with open_video("-", stop.is_set) as video:
                frames = list(video.frames())
        except InputError:
            assert share < 1
    assert time.monotonic() - began < 10
    assert len(frames) == 20 if share == 1 else len(frames) < 20
    assert "cut off" not in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_by_its_name(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="a pipe or device: give it as -"):
        read(tmp_path / "pipe")


def test_a_standard_input_that_is_closed(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="standard input is closed"):
        read("-")


def test_a_folder_of_numbered_pictures(tmp_path):
    for index in (1, 2, 10):
        Image.fromarray(picture(index)).save(tmp_path / f"f{index}.png")
    info, frames = read(tmp_path)
    assert [index_of(frame.pixels) for frame in frames] == [1, 2, 10]
    assert (info.rate, info.frames) == (25, 3)
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.04, 0.08])


def test_sound_is_noticed(tmp_path):
    info, _ = read(write(tmp_path / "a.mp4", STEADY, audio=True))
    assert info.has_audio


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_cover_is_not_taken_for_the_film(tmp_path, name):
    cover = io.BytesIO()
    Image.fromarray(picture(25)).save(cover, "JPEG")
    with av.open(str(tmp_path / name), "w") as container:
        still = container.add_stream("mjpeg", rate=1)
        still.width, still.height, still.pix_fmt = 64, 48, "yuvj420p"
        still.disposition = av.stream.Disposition.attached_pic
        film = container.add_stream("libx264", rate=25)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        packet = av.Packet(cover.getvalue())
        packet.stream, packet.pts, packet.dts, packet.time_base = still, 0, 0, Fraction(1, 1000)
        container.mux(packet)
        for index in range(10):
            container.mux(film.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        container.mux(film.encode())
    _, frames = read(tmp_path / name)
    assert [index_of(frame.pixels) for frame in frames] == list(range(10))


@pytest.mark.skipif(os.name != "posix", reason="Windows allows no such file names")
@pytest.mark.parametrize(
    "name",
    [
        *("12:30.mp4", "http:127.0.0.1:{port}?x.mp4", "concat:a.mp4|a.mp4"),
        *("subfile,,start,0,end,99,,:a.mp4", "file:a.mp4", "%d.png"),
    ],
)
def test_a_name_is_that_of_a_file_whatever_it_looks_like(tmp_path, monkeypatch, name):
    """Neither the network is asked for it nor another file read."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        name = name.format(port=server.getsockname()[1])
        if name.endswith("png"):
            Image.fromarray(picture(3)).save(name)
            Image.fromarray(picture(9)).save("0.png")
        else:
            write(tmp_path / "whole.mp4", [i / 25 for i in range(3, 6)]).rename(name)
        assert index_of(read(name)[1][0].pixels) == (3 if name.endswith("png") else 0)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_password_is_not_shown():
    password = "".join(["se", "cret"])  # as lines of this file stand in the traceback
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InputError, match=f"^http://127.0.0.1:{port}/a.mp4: cannot be") as caught:
        read(f"http://me:{password}@127.0.0.1:{port}/a.mp4")
    assert password not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 50])
def test_files_that_are_no_video(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mp4: not a video"):
        read(tmp_path / "a.mp4")


def test_an_empty_file_is_said_to_be(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.mp4: not a video: the file is empty"):
        read(tmp_path / "a.mp4")


def test_a_film_that_is_cut_off_before_its_index(tmp_path):
    path = write(tmp_path / "a.mp4", STEADY)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"a\.mp4: cut off: its index \(moov\) is missing"):
        read(path)
    path.write_bytes(path.read_bytes()[:8] + b"\0" * 100)
    with pytest.raises(InputError, match=r"a\.mp4: (cut off|not a video)"):
        read(path)


def test_nobody_listens_at_an_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InputError, match=r"cannot be opened \(.*refused\)"):
        read(f"http://127.0.0.1:{port}/a.mp4")


def test_a_file_with_sound_alone(tmp_path):
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
    with pytest.raises(InputError, match="holds no pictures"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent.mp4", "no such video"),
        ("camera:front", "a camera is camera:0"),
        ("camera:99999999999999999999", "a camera is camera:0"),
        ("camera:", "a camera is camera:0"),
    ],
)
def test_sources_that_are_none(source, message):
    with pytest.raises(UsageError, match=message):
        read(source)


def test_a_camera_s_pictures_become_rgb(monkeypatch):
    class Device:
        left = 3

        def __init__(self, number):
            assert number == 2

        def isOpened(self):
            return True

        def get(self, what):
            return 0.0

        def read(self):
            self.left -= 1
            return self.left >= 0, picture(1)[..., ::-1]

        def release(self):
            Device.left = -9

    library = type("cv2", (), {"VideoCapture": Device, "CAP_PROP_FPS": 5})
    monkeypatch.setattr(camera, "load_opencv", lambda: library)
    info, frames = read("camera:2")
    assert info.rate == 25
    assert [np.array_equal(frame.pixels, picture(1)) for frame in frames] == [True] * 3
    assert Device.left == -9


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    write(tmp_path / "a.mp4", STEADY)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match="pip install av"):
        read(tmp_path / "a.mp4")


def test_a_pipe_that_has_nothing_yet_is_not_at_its_end():
    """Python gives None of one that does not block."""
    answers = iter([b"ab", None, b"c", b""])
    pipe = Pipe(SimpleNamespace(read=lambda size: next(answers)), lambda: False)
    assert [pipe.read(10) for _ in range(3)] == [b"ab", b"c", b""]
