"""Standard input as a file for PyAV, from which others may wait in vain."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from ovseg_cli.errors import UsageError
from ovseg_cli.media.video_source import TICK

_CHUNK, _CHUNKS = 65_536, 16  # bytes read of a pipe at once, at most, and how many times ahead


def standard_input(stop: Callable[[], bool]) -> BinaryIO | Pipe:
    """Standard input to be read; what cannot be wound back ends where stop() is true.

    Raises UsageError where it is closed.
    """
    check_standard_input()
    stream = sys.stdin.buffer
    return stream if stream.seekable() else Pipe(stream, stop)


def check_standard_input() -> None:
    """Raise UsageError where it is closed."""
    if sys.stdin is None:
        raise UsageError(
            "-: standard input is closed: pipe what is to be read into it, or name a file"
        )


class Pipe:
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
