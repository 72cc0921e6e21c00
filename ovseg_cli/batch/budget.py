"""A bound on what is under way, in number and size."""

import threading


class Budget:
    """Room for so many items of so many pixels; whoever finds none waits.

    An item larger than the whole room is let in when nothing else is.
    """

    def __init__(self, *, max_items: int, max_pixels: int) -> None:
        self._max_items = max_items
        self._max_pixels = max_pixels
        self._items = 0
        self._pixels = 0
        self._changed = threading.Condition()

    def take(self, pixels: int) -> None:
        """Wait until there is room for one more item of this size, and fill it."""
        with self._changed:
            self._changed.wait_for(lambda: self._fits(pixels))
            self._items += 1
            self._pixels += pixels

    def give(self, pixels: int) -> None:
        """Return the room of one item."""
        with self._changed:
            self._items -= 1
            self._pixels -= pixels
            self._changed.notify_all()

    def _fits(self, pixels: int) -> bool:
        if not self._items:
            return True
        return self._items < self._max_items and self._pixels + pixels <= self._max_pixels
