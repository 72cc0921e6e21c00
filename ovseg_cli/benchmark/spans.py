"""Which part of a program runs when: spans of time, taken from outside of what is timed."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Span:
    """One part at work once."""

    label: str
    thread: int
    begin: float  # seconds of `time.perf_counter`
    end: float
    own: float  # seconds of it in which no span within it ran


class Tracer(ExitStack):
    """Records spans of callables that it watches; leaving it undoes the watching.

    A span within another one of the same thread takes its time from it, so that the `own` times
    of all spans add up to those of the outermost ones.
    """

    def __init__(self, wait: Callable[[], None] = lambda: None) -> None:
        """wait: called at every border, for a device that works on by itself (CUDA)."""
        super().__init__()
        self.spans: list[Span] = []
        self._wait = wait
        self._within = threading.local()  # .inner: seconds of the spans within each open one

    @contextmanager
    def span(self, label: str) -> Iterator[None]:
        """Time what happens in the block."""
        open_spans: list[float] = self._within.__dict__.setdefault("inner", [])
        self._wait()
        begin = time.perf_counter()
        open_spans.append(0.0)
        try:
            yield
        finally:
            self._wait()
            end = time.perf_counter()
            inner = open_spans.pop()
            if open_spans:
                open_spans[-1] += end - begin
            thread = threading.get_ident()
            self.spans.append(Span(label, thread, begin, end, end - begin - inner))

    def watch(self, owner: Any, name: str, label: str) -> None:
        """Time every call of `owner.name`: a function of a module, a method, a network's forward.

        Where there is no such thing nothing happens: not every model has every part.
        """
        original = getattr(owner, name, None)
        if original is None:
            return

        @functools.wraps(original)
        def timed(*args: Any, **options: Any) -> Any:
            with self.span(label):
                return original(*args, **options)

        self._replace(owner, name, timed)

    def watch_block(self, owner: Any, name: str, label: str) -> None:
        """The same for what gives a context: its span lasts as long as the block."""
        original = getattr(owner, name)

        @contextmanager
        def timed(*args: Any, **options: Any) -> Iterator[Any]:
            with self.span(label), original(*args, **options) as value:
                yield value

        self._replace(owner, name, timed)

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        own = vars(owner).get(name)
        setattr(owner, name, value)
        if own is None:  # it came from the class
            self.callback(delattr, owner, name)
        else:
            self.callback(setattr, owner, name, own)
