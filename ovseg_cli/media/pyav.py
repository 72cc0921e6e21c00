"""PyAV, ffmpeg's libraries for Python: loaded late, its paths, time stamps and errors.

It decodes instead of OpenCV because it keeps what that drops: each frame's time stamp, the
rotation that phones note, 10-bit colours, and what is left of a damaged file.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import ModuleType

from ovseg_cli.errors import UsageError

# Time stamps that go back by so many steps, of so many seconds at least and at most, begin anew;
# by less they do so in damaged files.
RESTART, RESTART_SECONDS = 4, (Fraction(1, 10), Fraction(1))


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


def reason(error: Exception) -> str:
    """What an error says, on one line: of the operating system's kind without its path."""
    return getattr(error, "strerror", None) or " ".join(str(error).split())


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
            least, most = RESTART_SECONDS
            back = min(max(RESTART * step, least), most)
            if self._now is not None and now < self._now - back:
                self._zero, now = stamp - follows, follows
        self._now = now if self._now is None else max(now, self._now)
        return self._now
