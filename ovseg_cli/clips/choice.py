"""Which frames of a clip are segmented, and what becomes of those between."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ovseg_cli.clips.motion import difference, thumbnail
from ovseg_cli.errors import UsageError
from ovseg_cli.frame import Frame

_ROUNDING = 6e-4  # seconds by which a time may be early: Matroska and FLV have whole milliseconds


@dataclass(frozen=True)
class Choice:
    """A part of a clip, and how many of its frames."""

    start: float = 0.0  # seconds
    end: float | None = None  # seconds; a frame at this time is not part of it
    every: int = 1  # of so many frames the first
    rate: float | None = None  # so many frames a second at most, instead of `every`
    most: int | None = None  # frames that are segmented
    still: float = 0.0  # frames that differ less from the last one segmented take its labels
    hold: bool = True  # the frames between go along with the labels of the last one segmented

    def __post_init__(self) -> None:
        if self.end is not None and self.end <= self.start:
            raise UsageError(f"the end at {self.end:g} s is not after the start at {self.start:g}")
        if self.still and not self.hold:
            raise UsageError("--reuse needs --fill hold: its frames take the labels of another")
        if self.every > 1 and self.rate is not None:
            raise UsageError("--every and --fps exclude each other")

    def of(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
        """The frames of the part that are written, and of each whether it is segmented anew.

        frames: those from `start` on, in order.
        """
        chosen = 0
        key = None  # the last frame segmented
        span = None  # the number of the last 1/rate seconds that have their frame
        for count, frame in enumerate(frames):
            if self.end is not None and frame.seconds >= self.end:
                return
            if self.rate is None:
                due = count % self.every == 0
            else:
                early = min(max(1e-6, _ROUNDING * self.rate), 0.5)
                now = math.floor((frame.seconds - self.start) * self.rate + early)
                due, span = now != span, now
            if due and chosen == self.most:
                return
            if due and self.still:
                small = thumbnail(frame)
                due = key is None or difference(key, small) >= self.still
                key = small if due else key
            chosen += due
            if due or self.hold:
                yield frame, due
