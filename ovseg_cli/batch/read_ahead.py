"""Reading in order, ahead of the consumer, within bounds of number and size."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


class ReadAhead(Generic[Item, Value]):
    """Iterates over read(item) of all items, in order, while the next ones are read already.

    read returns a value and its size in pixels. Ahead of the consumer are at most max_items
    values of about max_pixels pixels: one still being read counts as large as the largest of the
    last few, and the first is read alone. A value larger than max_pixels has the stage to itself.
    """

    def __init__(
        self,
        items: Iterable[Item],
        read: Callable[[Item], tuple[Value, int]],
        pool: ThreadPoolExecutor,
        *,
        workers: int,
        max_items: int,
        max_pixels: int,
    ) -> None:
        self._items = iter(items)
        self._read = read
        self._pool = pool
        self._workers = workers
        self._max_items = max_items
        self._max_pixels = max_pixels
        self._lock = threading.Lock()
        self._ahead: deque[Future[tuple[Value, int]]] = deque()
        self._reading = 0
        self._pixels = 0  # of what is read and not consumed
        self._recent: deque[int] = deque(maxlen=16)  # pixels of what was read last

    def __iter__(self) -> Iterator[Value]:
        while (first := self.coming()) is not None:
            value, pixels = first.result()
            with self._lock:
                self._ahead.popleft()
                self._pixels -= pixels
                self._fill()
            yield value

    def coming(self) -> Future[tuple[Value, int]] | None:
        """What gives the next value, to wait for it and for others at once; None at the end."""
        with self._lock:
            self._fill()
            return self._ahead[0] if self._ahead else None

    def close(self) -> None:
        """Begin nothing more."""
        with self._lock:
            self._items = iter(())
            for future in self._ahead:
                future.cancel()

    def _fill(self) -> None:
        while self._has_room():
            try:
                item = next(self._items)
            except StopIteration:
                return
            self._reading += 1
            self._ahead.append(self._pool.submit(self._work, item))

    def _has_room(self) -> bool:
        if not self._ahead:
            return True
        largest = max(self._recent, default=self._max_pixels)
        expected = self._pixels + (self._reading + 1) * largest
        return (
            self._reading < self._workers
            and len(self._ahead) < self._max_items
            and expected <= self._max_pixels
        )

    def _work(self, item: Item) -> tuple[Value, int]:
        pixels = 0
        try:
            value, pixels = self._read(item)
            return value, pixels
        finally:
            with self._lock:
                self._reading -= 1
                self._pixels += pixels
                if pixels:
                    self._recent.append(pixels)
                self._fill()
