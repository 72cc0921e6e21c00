"""Ctrl-C and SIGTERM: the first asks a run to end in good order, the second ends it at once."""

import os
import signal
from types import FrameType
from typing import Any

_MESSAGE = b"\novseg: stopping when what is at hand is written; once more ends it at once\n"


class Interruption:
    """While the block runs, signals are noted instead of raised; ask `requested`.

    A signal that is ignored when the block begins (nohup) stays ignored.
    """

    def __init__(self) -> None:
        self.number: int | None = None  # of the signal that came
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        """Whether the run should end."""
        return self.number is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells have it: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.number or 0)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for caught in self._before:
            signal.signal(caught, signal.SIG_DFL)
        os.write(2, _MESSAGE)  # a signal handler may not use the buffered stream
