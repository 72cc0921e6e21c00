"""Frames of a source that may give none for a long time, or more than there is time for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from ovseg_cli.frame import Frame
from ovseg_cli.media.video_source import TICK

PATIENCE = 5.0  # seconds


class Live:
    """Iterates over frames that another thread reads, until stop() is true, even if none comes."""

    def __init__(self, frames: Iterable[Frame], stop: Callable[[], bool], *, drop: bool) -> None:
        """drop: a frame that is not taken in time is lost; else the next is read once it is."""
        self.dropped = 0
        self._frames = frames
        self._stop = stop
        self._drop = drop
        self._changed = threading.Condition()
        self._waiting: Frame | None = None
        self._error: Exception | None = None
        self._ended = False
        self._closed = False
        self._thread = threading.Thread(target=self._read, name="ovseg-live", daemon=True)

    def __iter__(self) -> Iterator[Frame]:
        self._thread.start()
        while True:
            with self._changed:
                while self._waiting is None and not self._ended and not self._stop():
                    self._changed.wait(TICK)
                frame, self._waiting = self._waiting, None
                self._changed.notify_all()
                if frame is None:
                    if self._error is not None:
                        raise self._error
                    return
            yield frame

    def close(self) -> None:
        """Read nothing more, and wait a little for the thread to let go of the source.

        A camera that gives no picture any more may never do so.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def _read(self) -> None:
        try:
            for frame in self._frames:
                with self._changed:
                    while self._waiting is not None and not self._drop and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        break
                    self.dropped += self._waiting is not None
                    self._waiting = frame
                    self._changed.notify_all()
        except Exception as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
