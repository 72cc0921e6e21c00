"""What may be read as a video: the face that files, streams, cameras and pictures have alike."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from ovseg_cli.frame import Frame

USUAL_RATE = Fraction(25)  # frames a second, of pictures and cameras that do not tell
TICK = 0.1  # seconds between two looks at whether a source that waits is to end


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
    end: float | None  # seconds at which the last frame read ends; None where nobody knows
    pixel_aspect: Fraction  # width to height of a pixel of the frames; known as `zero` is

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """Those from `start` seconds on; `index` counts from the video's first frame."""

    def close(self) -> None:
        """Let go of the file or device."""


def without_credentials(source: str) -> str:
    """What may be shown and noted of an address: all but its user and password."""
    return re.sub(r"(?<=://)[^/?#]*@", "", source)
