"""Video that is written in parts: whole after a kill, joined without loss, with its sound."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ovseg_cli.errors import InputError, OutputError
from ovseg_cli.media.video import open_video
from ovseg_cli.media.video_parts import (
    BT709,
    LABELS_8,
    LABELS_16,
    LIMITED,
    PICTURES,
    Part,
    Piece,
    Sound,
    count_pictures,
    join,
)

av = pytest.importorskip("av")
RATE = Fraction(30000, 1001)


def picture(index: int, size_hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    pixels = np.full((*size_hw, 3), 60, np.uint8)
    pixels[: size_hw[0] // 2, :, 0] = 8 * index
    return pixels


def write(path: Path, indices: range, form=PICTURES, make=picture) -> Path:
    first = make(indices[0])
    with Part(path, form, first.shape[:2], RATE) as part:
        for index in indices:
            part.write(make(index), float(index / RATE))
    return path


def frames(path: Path):
    with open_video(str(path)) as video:
        return list(video.frames())


def indices(path: Path) -> list[int]:
    return [round(float(frame.pixels[4:8, :, 0].mean()) / 8) for frame in frames(path)]


def test_parts_are_joined_without_loss_of_a_frame_or_its_time(tmp_path):
    write(tmp_path / "1.mp4", range(20))
    write(tmp_path / "2.mp4", range(20, 31))
    second = Piece(tmp_path / "2.mp4", float(20 / RATE), 11)
    join([Piece(tmp_path / "1.mp4", 0.0, 20), second], tmp_path / "whole.mp4", PICTURES)
    assert indices(tmp_path / "whole.mp4") == list(range(31))
    times = [frame.seconds for frame in frames(tmp_path / "whole.mp4")]
    assert times == pytest.approx([float(i / RATE) for i in range(31)], abs=1e-4)
    with av.open(str(tmp_path / "whole.mp4")) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == pytest.approx(29.97, abs=0.01)
    data = (tmp_path / "whole.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # it can be played while it is loaded


@pytest.mark.parametrize("joined", [False, True])
def test_colours_are_those_of_bt_709_and_are_said_to_be(tmp_path, joined):
    """Players that are told nothing take a small picture for BT.601, a large one for BT.709."""
    color = np.array([220, 20, 60])
    path = write(tmp_path / "1.mp4", range(3), make=lambda _: np.full((48, 64, 3), color, np.uint8))
    if joined:
        join([Piece(path, 0.0, 3)], tmp_path / "whole.mp4", PICTURES)
        path = tmp_path / "whole.mp4"
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        told = (context.colorspace, context.color_primaries, context.color_trc)
        assert (*told, context.color_range) == (BT709, BT709, BT709, LIMITED)
        luma = next(container.decode(video=0)).to_ndarray()[:48].mean()
    assert luma == pytest.approx(16 + color @ [0.2126, 0.7152, 0.0722] * 219 / 255, abs=1.5)
    assert frames(path)[0].pixels.mean((0, 1)) == pytest.approx(color, abs=4)


def test_pixels_keep_their_aspect(tmp_path):
    path = write(tmp_path / "1.mp4", range(3))
    target = tmp_path / "whole.mp4"
    join([Piece(path, 0.0, 3)], target, PICTURES, pixel_aspect=Fraction(4, 3))
    with open_video(str(target)) as video:
        list(video.frames())
        assert video.pixel_aspect == Fraction(4, 3)


def test_odd_sides_are_made_even_by_repeating_the_border(tmp_path):
    path = write(tmp_path / "a.mp4", range(3), make=lambda index: picture(index, (47, 63)))
    assert frames(path)[0].pixels.shape == (48, 64, 3)


def test_what_a_kill_leaves_can_be_read(tmp_path):
    part = Part(tmp_path / "a.mp4", PICTURES, (48, 64), RATE)
    for index in range(200):
        part.write(picture(index % 30), float(index / RATE))
    left = (tmp_path / "a.mp4").read_bytes()  # as it lies on the disk while the part is open
    part.close()
    (tmp_path / "killed.mp4").write_bytes(left)
    survived = indices(tmp_path / "killed.mp4")
    assert len(survived) >= 50
    assert survived == [index % 30 for index in range(len(survived))]
    assert count_pictures(tmp_path / "killed.mp4") == len(survived)


@pytest.mark.parametrize(("form", "ahead"), [(PICTURES, 30), (LABELS_8, 2)])
def test_a_kill_costs_a_few_pictures_whenever_it_comes(tmp_path, form, ahead):
    """ahead: those that the encoder holds back, more with more cores."""
    part = Part(tmp_path / "a", form, (48, 64), Fraction(25))
    pixels = picture(0)  # no cut to another scene, which players can begin at, too
    for index in range(45):
        part.write(pixels if form is PICTURES else pixels[..., 0], index / 25)
    left = (tmp_path / "a").read_bytes()
    part.close()
    (tmp_path / "killed").write_bytes(left)
    assert count_pictures(tmp_path / "killed") >= 45 - ahead


@pytest.mark.parametrize("form", [PICTURES, LABELS_8])
def test_a_piece_may_end_before_its_part_does_and_the_part_in_the_middle_of_a_picture(
    tmp_path, form
):
    def make(index):
        return picture(index) if form is PICTURES else picture(index)[..., 0]

    data = write(tmp_path / "1", range(30), form, make).read_bytes()
    (tmp_path / "1").write_bytes(data[: len(data) * 4 // 5])
    whole = count_pictures(tmp_path / "1")
    assert 0 < whole < 30 if form is LABELS_8 else whole <= 30
    write(tmp_path / "2", range(7, 20), form, make)
    if whole:
        pieces = [Piece(tmp_path / "1", 0.0, 7), Piece(tmp_path / "2", float(7 / RATE), 13)]
        join(pieces, tmp_path / "whole", form)
        assert indices(tmp_path / "whole") == list(range(20))


def test_what_is_no_part_has_no_pictures(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\0" * 1000)
    assert count_pictures(tmp_path / "a.mp4") == 0
    assert count_pictures(tmp_path / "absent.mp4") == 0


@pytest.mark.parametrize(("form", "kind"), [(LABELS_8, np.uint8), (LABELS_16, np.uint16)])
def test_label_maps_come_back_bit_for_bit(tmp_path, form, kind):
    draw = np.random.default_rng(0)
    maps = [draw.integers(0, np.iinfo(kind).max + 1, (47, 63)).astype(kind) for _ in range(5)]
    write(tmp_path / "1.mkv", range(3), form, lambda index: maps[index])
    write(tmp_path / "2.mkv", range(3, 5), form, lambda index: maps[index])
    pieces = [Piece(tmp_path / "1.mkv", 0.0, 3), Piece(tmp_path / "2.mkv", float(3 / RATE), 2)]
    join(pieces, tmp_path / "labels.mkv", form)
    with av.open(str(tmp_path / "labels.mkv")) as container:
        found = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert len(found) == 5
    assert all(np.array_equal(a, b) for a, b in zip(found, maps, strict=True))


def test_two_pictures_of_one_moment_are_both_kept(tmp_path):
    with Part(tmp_path / "a.mp4", PICTURES, (48, 64), RATE) as part:
        for index, seconds in enumerate([0.0, 0.5, 0.5, 0.4, 1.0]):
            part.write(picture(index), seconds)
    assert indices(tmp_path / "a.mp4") == list(range(5))


def test_so_are_two_of_which_the_second_is_in_the_next_part(tmp_path):
    pieces = []
    for number, seconds in enumerate([0.0, 0.5, 0.5, 0.5]):
        with Part(tmp_path / str(number), PICTURES, (48, 64), RATE) as part:
            part.write(picture(number), seconds)
        pieces.append(Piece(tmp_path / str(number), seconds, 1))
    join(pieces, tmp_path / "whole.mp4", PICTURES)
    assert indices(tmp_path / "whole.mp4") == list(range(4))


def test_pictures_that_are_too_large_for_a_video(tmp_path):
    with pytest.raises(InputError, match="17000x20 pixels are too large"):
        Part(tmp_path / "a.mp4", PICTURES, (20, 17000), RATE)
    assert not list(tmp_path.iterdir())


def sounding(path: Path, codec: str = "aac", title: str = "tone") -> Path:
    """Two seconds of a tone that grows louder."""
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=16000, layout="mono")
        wave = np.sin(np.arange(32000) * 0.3) * np.arange(32000)
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_sound_goes_along_as_it_is_and_in_step(tmp_path):
    part = write(tmp_path / "1.mp4", range(30))
    source = sounding(tmp_path / "sound.mp4")
    piece = Piece(part, 0.0, 30)
    join([piece], tmp_path / "whole.mp4", PICTURES, Sound(str(source), begin=0.5, end=1.5))
    with av.open(str(source)) as container:
        given = [bytes(p) for p in container.demux(audio=0) if p.pts is not None and p.size]
    with av.open(str(tmp_path / "whole.mp4")) as container:
        packets = [p for p in container.demux(audio=0) if p.size]
        copied = [bytes(p) for p in packets]
        times = [float(p.pts * p.time_base) for p in packets]
    first = given.index(copied[0])
    assert given[first : first + len(copied)] == copied
    assert times[0] == pytest.approx(0.0, abs=0.07)
    assert 0.9 < times[-1] < 1.0
    assert indices(tmp_path / "whole.mp4") == list(range(30))


def test_of_several_sounds_the_one_that_is_played_goes_along(tmp_path):
    tracks = [sounding(tmp_path / f"{name}.mp4") for name in ("comment", "film")]
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        packets = []
        for track, given in enumerate(map(av.open, map(str, tracks))):
            stream = container.add_stream_from_template(given.streams.audio[0])
            if track == 1:
                stream.disposition = av.stream.Disposition.default
            for packet in given.demux(audio=0):
                if packet.dts is not None and (track == 0 or packet.pts < 16000):
                    packet.stream = stream
                    packets.append(packet)
        for packet in packets:
            container.mux(packet)
    sound = Sound(str(tmp_path / "two.mkv"))
    join([Piece(write(tmp_path / "1.mp4", range(5)), 0.0, 5)], tmp_path / "a.mp4", PICTURES, sound)
    with av.open(str(tmp_path / "a.mp4")) as container:
        (copied,) = container.streams.audio
        assert float(copied.duration * copied.time_base) == pytest.approx(1, abs=0.1)


def test_sound_of_which_only_the_number_of_channels_is_known(tmp_path):
    """As AVI has it, of two channels: MP4 wants to be told that they are left and right."""
    source = tmp_path / "sound.avi"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 32000), np.int16), "s16", "stereo")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    part = write(tmp_path / "1.mp4", range(5))
    join([Piece(part, 0.0, 5)], tmp_path / "whole.mp4", PICTURES, Sound(str(source)))
    with av.open(str(tmp_path / "whole.mp4")) as container:
        (copied,) = container.streams.audio
        assert copied.layout.name == "stereo"
        assert float(copied.duration * copied.time_base) == pytest.approx(1, abs=0.1)


def test_sound_that_the_file_cannot_hold_is_left_out(tmp_path, caplog):
    part = write(tmp_path / "1.mp4", range(5))
    source = sounding(tmp_path / "a.wav", "pcm_mulaw")
    join([Piece(part, 0.0, 5)], tmp_path / "whole.mp4", PICTURES, Sound(str(source)))
    with av.open(str(tmp_path / "whole.mp4")) as container:
        assert not container.streams.audio
    assert "a.wav: its sound (pcm_mulaw) is left out" in caplog.text
    assert indices(tmp_path / "whole.mp4") == list(range(5))


def test_of_several_sounds_the_first_that_fits_goes_along(tmp_path, caplog):
    """Players would take the uncompressed one, which MP4 cannot hold."""
    source = tmp_path / "two.mkv"
    with av.open(str(source), "w") as container:
        kinds = {"aac": "mono", "pcm_s16le": "5.1"}
        streams = [container.add_stream(c, rate=48000, layout=kinds[c]) for c in kinds]
        streams[1].disposition = av.stream.Disposition.default
        for stream in streams:
            wave = np.zeros((1, 1024 * stream.channels), np.int16)
            frame = av.AudioFrame.from_ndarray(wave, "s16", stream.layout.name)
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    with av.open(str(source)) as container:
        assert container.streams.best("audio").codec_context.name == "pcm_s16le"
    piece = Piece(write(tmp_path / "1.mp4", range(5)), 0.0, 5)
    join([piece], tmp_path / "whole.mp4", PICTURES, Sound(str(source)))
    with av.open(str(tmp_path / "whole.mp4")) as container:
        (copied,) = container.streams.audio
        assert copied.codec_context.name == "aac"
    assert not caplog.text


def test_sound_goes_along_whatever_the_encoding_of_its_title(tmp_path):
    source = sounding(tmp_path / "sound.mp4", title="cafe")
    source.write_bytes(source.read_bytes().replace(b"cafe", "café".encode("latin-1")))
    piece = Piece(write(tmp_path / "1.mp4", range(5)), 0.0, 5)
    join([piece], tmp_path / "whole.mp4", PICTURES, Sound(str(source)))
    with av.open(str(tmp_path / "whole.mp4")) as container:
        assert container.streams.audio


def test_sound_keeps_step_whatever_the_clock_of_its_file_says(tmp_path):
    """MPEG-TS begins anywhere, and strung together it begins anew."""
    sound = sounding(tmp_path / "sound.mp4")
    with av.open(str(sound)) as source, av.open(str(tmp_path / "a.ts"), "w") as container:
        stream = container.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.pts = packet.dts = packet.dts + 3600 * 16000
                packet.stream = stream
                container.mux(packet)
    (tmp_path / "twice.ts").write_bytes((tmp_path / "a.ts").read_bytes() * 2)
    with av.open(str(tmp_path / "a.ts")) as container:
        zero = float(container.streams[0].start_time * container.streams[0].time_base)
    part = write(tmp_path / "1.mp4", range(30))
    for name, length in (("a.ts", 2), ("twice.ts", 4)):
        join(
            [Piece(part, 0.0, 30)], tmp_path / "b.mp4", PICTURES, Sound(str(tmp_path / name), zero)
        )
        with av.open(str(tmp_path / "b.mp4")) as container:
            times = [float(p.pts * p.time_base) for p in container.demux(audio=0) if p.size]
        assert times[0] == pytest.approx(0, abs=0.1)
        assert times[-1] == pytest.approx(length, abs=0.2)
        assert max(np.diff(times)) < 0.1


def test_a_picture_that_is_cut_off_does_not_count(tmp_path):
    """A kill may come amid the bytes of one."""
    path = tmp_path / "a.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (20, 200, 300, 3), dtype=np.uint8)
    with Part(path, PICTURES, (200, 300), RATE) as part:
        for index, pixels in enumerate(noise):
            part.write(pixels, float(index / RATE))
    data = path.read_bytes()
    for length in range(len(data) // 4, len(data), len(data) // 7):
        path.write_bytes(data[:length])
        with av.open(str(path)) as container:
            sizes = [p.is_corrupt for p in container.demux(video=0) if p.dts is not None]
        assert sizes[-1]  # what this is about
        assert count_pictures(path) == len(sizes) - 1


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        Part(tmp_path / "file" / "a.mp4", PICTURES, (48, 64), RATE)
    part = write(tmp_path / "1.mp4", range(3))
    with pytest.raises(OutputError, match="cannot write"):
        join([Piece(part, 0.0, 3)], tmp_path / "absent" / "a.mp4", PICTURES)


def test_a_full_disk(tmp_path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / "a.mp4").symlink_to(full)
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "a.mp4", range(200))
