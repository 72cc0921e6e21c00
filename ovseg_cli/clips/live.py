"""Frames of a source that does not wait: those that nobody had time for are dropped."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from ovseg_cli.frame import Frame

PATIENCE = 5.0  # seconds


class Newest:
    """Iterates over frames that another thread reads; a frame that is not taken in time is lost."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.dropped = 0
        self._frames = frames
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
                self._changed.wait_for(lambda: self._waiting is not None or self._ended)
                frame, self._waiting = self._waiting, None
                if frame is None:
                    if self._error is not None:
                        raise self._error
                    return
            yield frame

    def close(self) -> None:
        """Read nothing more, and wait a little for the thread to let go of the source.

        A camera that gives no picture any more may never do so.
        """
        self._closed = True
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def _read(self) -> None:
        try:
            for frame in self._frames:
                with self._changed:
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
