"""Write video in parts that survive a kill, and join them into one file with the sound of another.

Pictures go into a fragmented MP4 (H.264), label maps into Matroska (FFV1, lossless): both can be
read up to where they break off. `join` copies the packets, without encoding anew.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ovseg_cli.errors import InputError, OutputError
from ovseg_cli.media.pyav import Clock, load_av, local_file, reason
from ovseg_cli.printable import printable

logger = logging.getLogger(__name__)

BASE = Fraction(1, 90000)  # seconds, of the time stamps: whole for all usual rates
_LAYOUTS = {1: "mono", 2: "stereo"}  # of sound of which AVI tells the number of channels alone
BT709 = 1  # colour primaries, transfer and matrix, as ITU-T H.273 and ffmpeg number them
LONGEST = 2**31 - 1  # units of time that MP4 shows a picture, at most
LIMITED = 1  # range of colours, as ffmpeg numbers them: 16 to 235


@dataclass(frozen=True)
class Format:
    """How a kind of video is stored."""

    codec: str
    pixels: str  # of the encoder, as ffmpeg names it
    given: str  # of the arrays
    options: dict[str, str]
    file: str  # the file's format, as ffmpeg names it
    part: dict[str, str]  # options for a part
    even: bool = False  # both sides must be even
    bt709: bool = False  # coloured; players that are told nothing guess by the size
    largest: int = 65535  # pixels along a side


# yuv420p and Baseline to High profiles are what every browser plays.
PICTURES = Format(
    codec="libx264",
    pixels="yuv420p",
    given="rgb24",
    options={"crf": "20", "preset": "veryfast", "bf": "0"},  # so that parts can be joined
    file="mp4",
    # Each picture can be read as soon as it is written. Those that x264 looks ahead cannot, about
    # ten: without (tune zerolatency) it blurs by 0.2 to 1.5 dB.
    part={"movflags": "frag_every_frame+empty_moov+default_base_moof", "flush_packets": "1"},
    even=True,
    bt709=True,
    largest=16384,
)
# A cluster, which is written as a whole, holds one label map instead of 5 s of them.
_AT_ONCE = {"cluster_time_limit": "1", "flush_packets": "1"}
LABELS_8 = Format("ffv1", "gray", "gray", {"level": "3"}, "matroska", _AT_ONCE)
LABELS_16 = replace(LABELS_8, pixels="gray16le", given="gray16le")


class Part:
    """A part of a clip that is being written; `with` ends it in good order."""

    def __init__(self, path: Path, form: Format, size_hw: tuple[int, int], rate: Fraction) -> None:
        """rate: frames a second, about.

        Raises OutputError where it cannot be written, InputError for pictures that are too large.
        """
        if max(size_hw) > form.largest:
            raise InputError(
                f"pictures of {size_hw[1]}x{size_hw[0]} pixels are too large for a video in "
                f"{form.codec}, which has at most {form.largest} along a side: --save without it"
            )
        av = load_av()
        self._av = av
        self._path = path
        self._form = form
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(local_file(path), "w", form.file, options=form.part)
        except OSError as error:
            raise self._complaint(error) from error
        self._stream = self._container.add_stream(form.codec, rate=rate, options=form.options)
        step = 2 if form.even else 1
        height, width = (-(-side // step) * step for side in size_hw)
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = form.pixels
        context = self._stream.codec_context
        context.time_base = BASE
        context.gop_size = max(1, round(2 * rate))  # players can begin every 2 s
        if form.bt709:
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED
        self._begin: float | None = None  # seconds of the first picture: there a part begins
        self._last = -1
        self._failed = False

    def write(self, pixels: np.ndarray, seconds: float) -> None:
        """Add a picture, (H, W, 3) uint8 RGB or (H, W) uint8 or uint16, to be shown from then on.

        Raises OutputError (no space).
        """
        missing = (self._stream.height - pixels.shape[0], self._stream.width - pixels.shape[1])
        if any(missing):
            edges = [(0, missing[0]), (0, missing[1])] + [(0, 0)] * (pixels.ndim - 2)
            pixels = np.pad(pixels, edges, mode="edge")
        frame = self._av.VideoFrame.from_ndarray(
            np.ascontiguousarray(pixels), format=self._form.given
        )
        if self._form.bt709:
            frame = frame.reformat(
                format=self._form.pixels, dst_colorspace="ITU709", dst_color_range="MPEG"
            )
        if self._begin is None:
            self._begin = seconds
        # Two pictures of one moment cannot both be stored.
        self._last = frame.pts = max(round((seconds - self._begin) / BASE), self._last + 1)
        frame.time_base = BASE
        self._mux(frame)

    def _mux(self, frame: Any) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            self._failed = True
            raise self._complaint(error) from error

    def _complaint(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self._path}: {reason(error)}")

    def close(self) -> None:
        """Write what is still held back, unless writing has failed. Raises OutputError."""
        if self._failed:  # ffmpeg's muxers must not be asked again
            return
        self._mux(None)
        try:
            self._container.close()
        except OSError as error:
            raise self._complaint(error) from error

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Sound:
    """Whose sound goes along, and what part of it."""

    source: str  # a video
    zero: float = 0.0  # its time stamp where its pictures begin, seconds
    begin: float = 0.0  # seconds after that
    end: float = math.inf


@dataclass(frozen=True)
class Piece:
    """A part as it goes into the whole."""

    path: Path
    begin: float  # seconds in the whole
    count: int  # pictures of it, from its first one


def count_pictures(path: Path) -> int:
    """How many pictures of a part can be read, also of one whose writing was cut off."""
    av = load_av()
    try:
        with av.open(local_file(path)) as container:
            packets = _until_damage(av, container.demux(video=0))
            return sum(packet.dts is not None for packet in packets)
    except (av.error.FFmpegError, OSError, ValueError, IndexError):
        return 0


def _until_damage(av: Any, packets: Iterator[Any]) -> Iterator[Any]:
    """Those before the first that is cut off or cannot be read."""
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError, OSError, ValueError):
            return
        if packet.is_corrupt:
            return
        yield packet


def join(
    pieces: Sequence[Piece],
    target: Path,
    form: Format,
    sound: Sound | None = None,
    pixel_aspect: Fraction = Fraction(1),
    end: float | None = None,
) -> None:
    """Put parts into one file that can be played while it is loaded.

    form: of all the parts; sound: goes along as it is, up to where it is damaged; a codec that the
    file cannot hold is left out; pixel_aspect: width to height of a pixel; end: seconds in the
    whole until which the last picture is shown, None = as long as its part says. Raises
    OutputError.
    """
    av = load_av()
    options = {"movflags": "faststart"} if form.file == "mp4" else {}
    try:
        with av.open(local_file(target), "w", form.file, options=options) as container:
            with av.open(local_file(pieces[0].path)) as first:
                pictures = container.add_stream_from_template(first.streams.video[0])
            pictures.codec_context.sample_aspect_ratio = pixel_aspect
            source: Any = sound and av.open(local_file(sound.source), metadata_errors="replace")
            try:
                heard = sound and _track(container, source, sound.source)
                packets = _of_pieces(av, pieces, pictures, end)
                if sound is not None and heard is not None:
                    stream = _sound_stream(container, heard)
                    packets = _merged(packets, _of_sound(av, heard, stream, sound))
                for packet in packets:
                    container.mux(packet)
            finally:
                if source is not None:
                    source.close()
    except (av.error.FFmpegError, OSError, ValueError, LookupError) as error:
        raise OutputError(f"cannot write {target}: {reason(error)}") from error


def _track(container: Any, source: Any, name: str) -> Any:
    """The sound that players take, or the first that fits better; None where there is none."""
    best = source.streams.best("audio")
    if best is None:
        return None

    def unfit(stream: Any) -> tuple[bool, bool, bool]:
        kind = stream.codec_context.name
        # Of uncompressed sound MP4 can hold some kinds only.
        return (
            kind not in container.supported_codecs,
            kind.startswith("pcm_"),
            stream.index != best.index,
        )

    found = min(source.streams.audio, key=unfit)
    if unfit(found)[0]:
        kind = best.codec_context.name
        logger.warning("%s: its sound (%s) is left out: MP4 cannot hold it", printable(name), kind)
        return None
    return found


def _sound_stream(container: Any, heard: Any) -> Any:
    stream, layout = container.add_stream_from_template(heard), heard.codec_context.layout
    if layout.name.endswith("channels") and layout.nb_channels in _LAYOUTS:
        stream.codec_context.layout = _LAYOUTS[layout.nb_channels]  # which MP4 wants to be told
    return stream


def _of_pieces(av: Any, pieces: Sequence[Piece], stream: Any, end: float | None) -> Iterator[Any]:
    last = -1
    for piece in pieces:
        with av.open(local_file(piece.path)) as container:
            readable = _until_damage(av, container.demux(video=0))
            packets = (packet for packet in readable if packet.dts is not None)
            for number, packet in enumerate(islice(packets, piece.count), 1):
                shift = round(piece.begin / packet.time_base)
                # As in a part: two pictures of one moment cannot both be stored.
                packet.pts = packet.dts = last = max(packet.dts + shift, last + 1)
                if end is not None and piece is pieces[-1] and number == piece.count:
                    packet.duration = min(max(round(end / packet.time_base) - last, 1), LONGEST)
                packet.stream = stream
                yield packet


def _of_sound(av: Any, heard: Any, stream: Any, sound: Sound) -> Iterator[Any]:
    clock, last = Clock(Fraction(sound.zero)), -1
    for packet in _until_damage(av, heard.container.demux(heard)):
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None:
            continue
        length = (packet.duration or 0) * packet.time_base
        seconds = clock.seconds(stamp * packet.time_base, length)
        if seconds >= sound.end:
            return
        begin = round((seconds - Fraction(sound.begin)) / packet.time_base)
        if begin > last:  # else it is before the part, or damaged
            packet.pts = packet.dts = last = begin
            packet.stream = stream
            yield packet


def _merged(one: Iterator[Any], other: Iterator[Any]) -> Iterator[Any]:
    """Both in the order of their times."""
    import heapq

    return heapq.merge(one, other, key=lambda packet: packet.dts * packet.time_base)
