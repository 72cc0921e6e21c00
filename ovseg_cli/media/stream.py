"""Frames of whatever ffmpeg's libraries demultiplex: files, addresses, standard input."""

from __future__ import annotations

import logging
import math
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from ovseg_cli.errors import InputError
from ovseg_cli.frame import Frame
from ovseg_cli.media.conversion import by_strips, over_white
from ovseg_cli.media.images import MAX_PIXELS
from ovseg_cli.media.pipe import standard_input
from ovseg_cli.media.pyav import Clock, load_av, local_file, reason
from ovseg_cli.media.video_source import USUAL_RATE, VideoInfo, without_credentials
from ovseg_cli.printable import printable, quantity

COMPLETE = 0.95  # share of the length in a header that a whole file has, at least
STALL = 10.0  # seconds without a byte after which a stream is given up
_MOST_BOXES = 1000  # of an MP4 that are looked at; without fragments it has about five
_DURATION = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d*)?)", re.ASCII)

log = logging.getLogger(__name__)


class Stream:
    """Anything that ffmpeg's libraries demultiplex."""

    def __init__(self, source: str, stop: Callable[[], bool]) -> None:
        self._av = load_av()
        self._source = shown = without_credentials(source)
        self._stop = stop
        self._waits = False  # for bytes, or for what becomes of them
        self._closed = False
        try:
            self._container = self._open(source)
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            why = self._why_not(source, error)
            # The error itself has the address as it was given: --debug would show it.
            cause = error if shown == source else None
            raise InputError(f"{printable(shown)}: {why}") from cause
        self._stream = self._container.streams.best("video")  # not the cover of a film
        cover = self._av.stream.Disposition.attached_pic
        if self._stream is None or self._stream.disposition & cover:
            self._container.close()
            only = "" if self._stream is None else " but a cover"
            raise InputError(f"{printable(shown)}: it holds no pictures{only}")
        self._stream.thread_type = "AUTO"
        self.zero, self.pixel_aspect = 0.0, Fraction(1)
        self.end: float | None = None
        self.info = self._look()

    def _open(self, source: str) -> Any:
        # Names and comments in a file may be in any encoding.
        how: dict[str, Any] = {"metadata_errors": "replace"}
        if source == "-":
            return self._av.open(standard_input(self._stop), **how)
        if "://" in source:
            return self._av.open(source, timeout=STALL, **how)
        # One picture called a%d.png is that file, not the first of a sequence.
        return self._av.open(local_file(source), options={"pattern_type": "none"}, **how)

    def _why_not(self, source: str, error: Exception) -> str:
        """What is wrong with what cannot be opened."""
        if isinstance(error, self._av.error.ExitError):
            return f"no answer within {STALL:g} s"
        if not isinstance(error, ValueError | EOFError):  # ffmpeg's for what it does not know
            return f"cannot be opened ({reason(error)})"
        if os.path.isfile(source):
            if os.path.getsize(source) == 0:
                return "not a video: the file is empty"
            if _lacks_index(source):
                return "cut off: its index (moov) is missing, without which nothing can be read"
        return f"not a video ({reason(error)})"

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
        for count, decoded in enumerate(self._decoded(), 1):
            stamp = None if decoded.pts is None else decoded.pts * decoded.time_base
            if count == 1:
                self.zero = float(stamp or 0)
                aspect = Fraction(self._stream.sample_aspect_ratio or 1)
                self.pixel_aspect = 1 / aspect if _turn(decoded)[1] % 2 else aspect
            seconds = float(clock.seconds(stamp, step))
            length = (decoded.duration or 0) * (decoded.time_base or 0)
            self.end = seconds + float(length or step)
            if seconds >= start:
                yield Frame(self._upright(decoded), count - 1, seconds, self._source)
        if self.end is not None and not self._stop():
            self._check_end(count, self.end)

    def _check_end(self, count: int, end: float) -> None:
        """Warn where the header tells of far more than these frames and seconds."""
        seconds = self._told_seconds()
        told, found, unit = seconds, end, "s"
        if self._stream.frames:
            told, found, unit = float(self._stream.frames), float(count), "frames"
            # Of the frames that a file holds its edit list may leave some out.
            complete = count >= COMPLETE * told or 0 < COMPLETE * seconds <= end
        else:
            complete = end >= COMPLETE * seconds - 1
        if not complete:
            log.warning(
                "%s: ends after %.4g %s, its header tells of %.4g: is it cut off?",
                self._source,
                found,
                unit,
                told,
            )

    def _told_seconds(self) -> float:
        """How long the pictures last by the header; 0 where it does not tell."""
        stream, whole = self._stream, (self._container.duration or 0) / self._av.time_base
        if stream.duration:
            return float(stream.duration * stream.time_base)
        noted = _DURATION.fullmatch(stream.metadata.get("DURATION", ""))
        if noted is not None:  # in Matroska
            hours, minutes, seconds = map(float, noted.groups())
            return min(3600 * hours + 60 * minutes + seconds, whole or math.inf)
        return 0.0 if self.info.has_audio else float(whole)  # sound may go on alone

    def _upright(self, decoded: Any) -> np.ndarray:
        """The picture (H, W, 3) uint8 RGB, turned as the file says. Raises InputError."""
        try:
            if decoded.width * decoded.height > MAX_PIXELS:
                raise ValueError("it is too large")
            pixels = self._rgb(decoded)
        except (self._av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
            size = f"a frame of {decoded.width}×{decoded.height} pixels"
            raise InputError(f"{printable(self._source)}: {size}: {reason(error)}") from error
        mirrored, quarters = _turn(decoded)
        return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if mirrored else pixels, quarters))

    def _rgb(self, decoded: Any) -> np.ndarray:
        """As a photo of the same picture is read: what is transparent lies over white."""
        alpha = any(component.is_alpha for component in decoded.format.components)
        pixels: np.ndarray = decoded.to_ndarray(format="rgba" if alpha else "rgb24")
        if alpha and pixels[..., 3].min() < 255:
            return np.asarray(by_strips(Image.fromarray(pixels), over_white))
        return pixels[..., :3]

    def _decoded(self) -> Iterator[Any]:
        count = damaged = 0
        why = ""
        self._waits = True
        try:
            for packet in self._container.demux(self._stream):
                if self._closed:  # while another thread passes over what is not asked for
                    return
                try:
                    for frame in packet.decode():
                        count += 1
                        self._waits = False
                        yield frame
                        self._waits = True
                except self._av.error.InvalidDataError as error:
                    damaged += 1
                    log.debug("%s: a damaged packet: %s", self._source, error)
        except self._av.error.ExitError:
            log.warning("%s: stalled for %g s after %d frames", self._source, STALL, count)
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            why = f" ({reason(error)})"
            if count:
                log.warning("%s: damaged after %d frames: %s", self._source, count, reason(error))
        finally:
            self._waits = False
        if count == 0:
            why = self._why_nothing() or why
            raise InputError(f"{printable(self._source)}: no frame of it can be decoded{why}")
        if damaged:
            log.warning(
                "%s: damaged within: %s left out, and what follows is numbered without them",
                self._source,
                quantity(damaged, "packet"),
            )

    def _why_nothing(self) -> str:
        """Why what could be opened gave no frame, where its kind tells; else nothing."""
        kind = self._container.format.name
        if "mov" in kind and not os.path.exists(self._source):
            return (
                ": where the index of an MP4 stands at its end, it must be a file that can be "
                "wound back; ffmpeg's -movflags +faststart puts it in front"
            )
        if "webp" in kind:
            return ": ffmpeg reads no animated WebP; make a GIF of it, or a folder of pictures"
        return ""

    def close(self) -> None:
        """See `Video`. A container that another thread reads is left to that thread, which ends."""
        self._closed = True
        if not self._waits:
            self._container.close()


def _lacks_index(path: str) -> bool:
    """Whether a file is an MP4 or MOV that ends before its index."""
    kinds = set()
    with suppress(OSError), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(_MOST_BOXES):
            start = file.tell()
            length, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
            if length == 1:  # it is in the next eight bytes
                (length,) = struct.unpack(">Q", file.read(8).ljust(8, b"\0"))
            kinds.add(kind)
            if length < 8 or start + length >= size:
                break
            file.seek(start + length)
    return b"ftyp" in kinds and kinds.isdisjoint((b"moov", b"meta"))  # meta: of photos


def _turn(decoded: Any) -> tuple[bool, int]:
    """How a picture gets upright: whether mirrored left to right, then by how many quarters turned.

    Quarters are counterclockwise.
    """
    mirrored = False
    with suppress(KeyError, ValueError):  # there is no matrix, or something PyAV has no name for
        a, b, _, c, d = struct.unpack_from("5i", decoded.side_data["DISPLAYMATRIX"])
        mirrored = a * d < b * c
    return mirrored, (round(decoded.rotation / 90) + 2 * mirrored) % 4
