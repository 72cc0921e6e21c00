"""The frames of a clip, tinted, all of one size: the strip with the colours never moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from ovseg_cli.frame import Frame
from ovseg_cli.legend import PAPER, draw_legend
from ovseg_cli.render import palette, tinted
from ovseg_cli.segmentation import UNLABELED, ClassArea, Segmentation
from ovseg_cli.vocabulary import Vocabulary

ENTRIES = 12  # classes in the strip; of more, those that the clip has shown most of so far


class ClipOverlay:
    """Draws one clip's frames."""

    def __init__(self, vocabulary: Vocabulary, size_hw: tuple[int, int]) -> None:
        self._names = vocabulary.names
        self._colors = palette(len(vocabulary))
        self._size_hw = size_hw
        self._pixels: Counter[int] = Counter()
        self._shown: tuple[int, ...] = tuple(range(len(self._names)))
        longest = sorted(self._shown, key=lambda number: -len(self._names[number]))[:ENTRIES]
        widest = self._draw(tuple(longest))
        height = -(-(size_hw[0] + widest.shape[0]) // 2) * 2  # even, as video wants it
        self._canvas = np.full((height, -(-widest.shape[1] // 2) * 2, 3), PAPER, np.uint8)
        if len(self._names) <= ENTRIES:
            self._put(self._draw(self._shown))
        else:
            self._shown = ()

    def draw(self, frame: Frame, segmentation: Segmentation) -> np.ndarray:
        """The picture of a frame, (H', W', 3) uint8 RGB of the same even size each time."""
        if len(self._names) > ENTRIES:
            self.count(segmentation.areas())
            self._update()
        height, width = self._size_hw
        picture = self._canvas.copy()
        tinted(frame, segmentation, out=picture[:height, :width])
        return picture

    def count(self, areas: Iterable[ClassArea]) -> None:
        """Add what a frame shows; `draw` does so of its own."""
        for area in areas:
            if area.class_id != UNLABELED:
                self._pixels[area.class_id] += area.pixels

    def _update(self) -> None:
        most = self._pixels.most_common(ENTRIES)
        shown = tuple(sorted(number for number, _ in most))
        if shown != self._shown:
            self._shown = shown
            self._put(self._draw(shown))

    def _put(self, strip: np.ndarray) -> None:
        """Lay a strip below the picture; none is higher than that of the longest names."""
        below = self._canvas[self._size_hw[0] :]
        below[:] = PAPER
        strip = strip[: len(below)]
        below[: len(strip), : strip.shape[1]] = strip

    def _draw(self, shown: tuple[int, ...]) -> np.ndarray:
        areas = [ClassArea(number, self._names[number], 0, 0.0, 0.0) for number in shown]
        return draw_legend(areas, self._colors, self._size_hw, shares=False)
