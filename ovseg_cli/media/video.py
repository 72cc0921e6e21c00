"""Read video: files, streams, cameras, standard input and folders of numbered pictures as Frames.

PyAV (ffmpeg's libraries) decodes, because it keeps what OpenCV drops: each frame's time stamp, the
rotation that phones note, 10-bit colours, and what is left of a damaged file.
"""

from __future__ import annotations

import json
import logging
import queue
import re
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, Protocol

import numpy as np

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.media.images import MAX_PIXELS, read_image
from ovseg_cli.media.inputs import find_images
from ovseg_cli.media.opencv import load_opencv
from ovseg_cli.printable import printable

USUAL_RATE = Fraction(25)  # frames a second, of pictures and cameras that do not tell
CAMERA = "camera:"
COMPLETE = 0.95  # share of the length in a header that a whole file has, at least
STALL = 10.0  # seconds without a byte after which a stream is given up
RESTART = 1  # seconds that time stamps go back, at least, where they begin anew
TICK = 0.1  # seconds between two looks at whether a source that waits is to end
_CHUNK, _CHUNKS = 65_536, 16  # bytes read of a pipe at once, at most, and how many times ahead

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is read."""

    rate: Fraction  # frames a second, on average
    frames: int | None  # about; None where nobody knows
    has_audio: bool = False


class Video(Protocol):
    """An open video: `info`, and the frames in order, upright, with their times."""

    info: VideoInfo
    zero: float  # time stamp of the first frame in the file, seconds; known once that is read
    pixel_aspect: Fraction  # width to height of a pixel of the frames; known as `zero` is

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """Those from `start` seconds on; `index` counts from the video's first frame."""

    def close(self) -> None:
        """Let go of the file or device."""


def load_av() -> ModuleType:
    """The module av; raises UsageError that says how to get it."""
    try:
        import av
    except ImportError as error:
        raise UsageError(f"video needs PyAV ({error}): pip install av") from error
    return av


def local_file(path: str | Path) -> str:
    """A path as ffmpeg takes it for one, whatever it looks like: 12:30.mp4 names a protocol."""
    return f"file:{path}"


def without_credentials(source: str) -> str:
    """What may be shown and noted of an address: all but its user and password."""
    return re.sub(r"(?<=://)[^/?#]*@", "", source)


@contextmanager
def open_video(source: str, stop: Callable[[], bool] = lambda: False) -> Iterator[Video]:
    """Open a file, folder of pictures, URL, `camera:N`, or `-` for standard input.

    stop: where it becomes true, standard input that gives nothing is at its end. Raises UsageError
    where there is no such thing, InputError for what cannot be read as video.
    """
    video: Video
    if source.startswith(CAMERA):
        video = _Camera(source)
    elif source != "-" and "://" not in source and Path(source).is_dir():
        video = _Pictures(Path(source))
    else:
        video = _Stream(source, stop)
    try:
        yield video
    finally:
        video.close()


class Clock:
    """Makes seconds from 0 on of time stamps that begin anywhere, and may begin anew.

    They do the latter where files were strung together, as MPEG-TS can be.
    """

    def __init__(self, zero: Fraction | None = None) -> None:
        """zero: the time stamp of second 0; None = the first one."""
        self._zero = zero
        self._now: Fraction | None = None

    def seconds(self, stamp: Fraction | None, step: Fraction) -> Fraction:
        """The time of a stamp. step: after the last one, where there is none or it begins anew."""
        follows = Fraction(0) if self._now is None else self._now + step
        if stamp is None:
            now = follows
        else:
            if self._zero is None:
                self._zero = stamp
            now = stamp - self._zero
            if self._now is not None and now < self._now - RESTART:
                self._zero, now = stamp - follows, follows
        self._now = now if self._now is None else max(now, self._now)
        return self._now


class _Stream:
    """Anything that ffmpeg's libraries demultiplex."""

    def __init__(self, source: str, stop: Callable[[], bool]) -> None:
        self._av = load_av()
        self._source = shown = without_credentials(source)
        self._stop = stop
        if source != "-" and "://" not in source and not Path(source).is_file():
            if Path(source).exists():
                raise UsageError(f"{printable(source)}: a pipe or device: give it as -, with <")
            raise UsageError(f"no such video: {printable(source)}")
        try:
            self._container = self._open(source)
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            late = isinstance(error, self._av.error.ExitError)
            reason = f"no answer within {STALL:g} s" if late else f"not a video ({_reason(error)})"
            # The error itself has the address as it was given: --debug would show it.
            cause = error if shown == source else None
            raise InputError(f"{printable(shown)}: {reason}") from cause
        if not self._container.streams.video:
            self._container.close()
            raise InputError(f"{printable(shown)}: it holds no pictures")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.zero, self.pixel_aspect = 0.0, Fraction(1)
        self.info = self._look()

    def _open(self, source: str) -> Any:
        # Names and comments in a file may be in any encoding.
        how: dict[str, Any] = {"metadata_errors": "replace"}
        if source == "-":
            return self._av.open(_standard_input(self._stop), **how)
        if "://" in source:
            return self._av.open(source, timeout=STALL, **how)
        # One picture called a%d.png is that file, not the first of a sequence.
        return self._av.open(local_file(source), options={"pattern_type": "none"}, **how)

    def _look(self) -> VideoInfo:
        stream = self._stream
        rate = Fraction(stream.average_rate or stream.base_rate or USUAL_RATE)
        frames = stream.frames or None
        if frames is None and self._container.duration:
            frames = round(self._container.duration / self._av.time_base * rate)
        return VideoInfo(rate, frames, bool(self._container.streams.audio))

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """See `Video`. Ends with a warning where the rest of a file is damaged or missing."""
        clock, step = Clock(), 1 / self.info.rate
        seconds = None
        index, length = -1, 0.0  # of the last frame
        for index, decoded in enumerate(self._decoded()):
            stamp = None if decoded.pts is None else decoded.pts * decoded.time_base
            if index == 0:
                self.zero = float(stamp or 0)
                aspect = Fraction(self._stream.sample_aspect_ratio or 1)
                self.pixel_aspect = 1 / aspect if _turn(decoded)[1] % 2 else aspect
            seconds = float(clock.seconds(stamp, step))
            length = float((decoded.duration or 0) * (decoded.time_base or 0))
            if seconds >= start:
                yield Frame(self._upright(decoded), index, seconds, self._source)
        if seconds is not None and not self._stop():
            self._check_end(index + 1, seconds + max(length, float(step)))

    def _check_end(self, count: int, end: float) -> None:
        """Warn where the header tells of far more than these frames and seconds."""
        stream, told = self._stream, 0.0
        if stream.frames:
            complete, told = count >= COMPLETE * stream.frames, float(stream.frames)
            found, unit = float(count), "frames"
        else:
            if stream.duration:
                told = float(stream.duration * stream.time_base)
            elif self._container.duration and not self.info.has_audio:  # sound may go on alone
                told = float(self._container.duration / self._av.time_base)
            complete, found, unit = end >= COMPLETE * told - 1, end, "s"
        if not complete:
            log.warning(
                "%s: ends after %.4g %s, its header tells of %.4g: is it cut off?",
                self._source,
                found,
                unit,
                told,
            )

    def _upright(self, decoded: Any) -> np.ndarray:
        """The picture (H, W, 3) uint8 RGB, turned as the file says. Raises InputError."""
        try:
            if decoded.width * decoded.height > MAX_PIXELS:
                raise ValueError("it is too large")
            pixels = decoded.to_ndarray(format="rgb24")
        except (self._av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
            size = f"a frame of {decoded.width}×{decoded.height} pixels"
            raise InputError(f"{printable(self._source)}: {size}: {_reason(error)}") from error
        mirrored, quarters = _turn(decoded)
        return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if mirrored else pixels, quarters))

    def _decoded(self) -> Iterator[Any]:
        count = 0
        try:
            for packet in self._container.demux(self._stream):
                try:
                    for frame in packet.decode():
                        count += 1
                        yield frame
                except self._av.error.InvalidDataError as error:
                    log.debug("%s: a damaged packet: %s", self._source, error)
        except self._av.error.ExitError:
            log.warning("%s: stalled for %g s after %d frames", self._source, STALL, count)
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            log.warning("%s: damaged after %d frames: %s", self._source, count, _reason(error))
        if count == 0:
            raise InputError(f"{printable(self._source)}: no frame of it can be decoded")

    def close(self) -> None:
        """See `Video`."""
        self._container.close()


def _turn(decoded: Any) -> tuple[bool, int]:
    """How a picture gets upright: whether mirrored left to right, then by how many quarters turned.

    Quarters are counterclockwise.
    """
    mirrored = False
    with suppress(KeyError, ValueError):  # there is no matrix, or something PyAV has no name for
        a, b, _, c, d = struct.unpack_from("5i", decoded.side_data["DISPLAYMATRIX"])
        mirrored = a * d < b * c
    return mirrored, (round(decoded.rotation / 90) + 2 * mirrored) % 4


def _standard_input(stop: Callable[[], bool]) -> BinaryIO | _Pipe:
    if sys.stdin is None:
        raise UsageError("-: standard input is closed: pipe a video into it, or name a file")
    stream = sys.stdin.buffer
    return stream if stream.seekable() else _Pipe(stream, stop)


class _Pipe:
    """Standard input as a file for PyAV: gives what has come, and ends where stop() is true.

    A thread of its own reads: a read that waits for others cannot be called off.
    """

    def __init__(self, stream: BinaryIO, stop: Callable[[], bool]) -> None:
        self._stop = stop
        self._chunks: queue.Queue[bytes] = queue.Queue(_CHUNKS)
        self._rest = b""
        self._ended = False
        # The raw one does not wait until a buffer is full, and holds no lock while it waits.
        raw = getattr(stream, "raw", stream)
        threading.Thread(target=self._fill, args=(raw,), name="ovseg-stdin", daemon=True).start()

    def read(self, size: int) -> bytes:
        """At least a byte, unless it is at its end."""
        while not self._rest and not self._ended and not self._stop():
            with suppress(queue.Empty):
                self._rest = self._chunks.get(timeout=TICK)
                self._ended = not self._rest
        part, self._rest = self._rest[:size], self._rest[size:]
        return part

    def _fill(self, stream: BinaryIO) -> None:
        with suppress(OSError):  # a terminal that went away: it is over
            while (chunk := stream.read(_CHUNK)) != b"":
                if chunk is None:  # a pipe that does not block has nothing yet
                    time.sleep(TICK)
                else:
                    self._chunks.put(chunk)
        self._chunks.put(b"")


class _Pictures:
    """A folder of numbered pictures."""

    def __init__(self, folder: Path) -> None:
        self.zero, self.pixel_aspect = 0.0, Fraction(1)
        self._images = find_images([str(folder)])
        self.info = VideoInfo(USUAL_RATE, len(self._images))

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """See `Video`. A picture that cannot be read raises InputError."""
        for index, image in enumerate(self._images):
            seconds = float(index / self.info.rate)
            if seconds >= start:
                pixels = read_image(image.path).pixels
                yield Frame(pixels, index, seconds, str(image.path))

    def close(self) -> None:
        """See `Video`."""


def pictures_version(folder: Path) -> tuple[int, int]:
    """Bytes of a folder's pictures, and a number that changes with their names, sizes and times."""
    digest, size = sha256(), 0
    for image in find_images([str(folder)]):
        bytes_, modified_ns = image.version()
        size += bytes_
        digest.update(json.dumps([image.name, bytes_, modified_ns]).encode())
    return size, int.from_bytes(digest.digest()[:7], "big")


class _Camera:
    """A camera of this machine, until somebody stops it."""

    def __init__(self, source: str) -> None:
        number = source.removeprefix(CAMERA)
        if not number.isdecimal():
            raise UsageError(f"{printable(source)}: a camera is {CAMERA}0, {CAMERA}1, ...")
        self._cv2 = load_opencv()
        self.zero, self.pixel_aspect = 0.0, Fraction(1)
        self._source = source
        self._waits = False  # for a picture
        self._device = self._cv2.VideoCapture(int(number))
        if not self._device.isOpened():
            raise InputError(f"{source}: there is no such camera, or another program holds it")
        rate = self._device.get(self._cv2.CAP_PROP_FPS)
        self.info = VideoInfo(
            Fraction(rate).limit_denominator(1001) if rate > 0 else USUAL_RATE, None
        )

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """See `Video`; the times are those at which pictures came."""
        began = time.monotonic()
        index = 0
        while True:
            self._waits = True
            try:
                there, picture = self._device.read()
            finally:
                self._waits = False
            if not there:
                return
            seconds = time.monotonic() - began
            if seconds >= start:
                pixels = np.ascontiguousarray(picture[..., ::-1])  # OpenCV has BGR
                yield Frame(pixels, index, seconds, self._source)
            index += 1

    def close(self) -> None:
        """See `Video`. A device that another thread waits for is left to the process's end."""
        if not self._waits:
            self._device.release()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())
