"""Runs of equal ids in a label map, gathered by id: run lengths, areas and boxes in one pass."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ovseg_cli.media.opencv import load_opencv


@dataclass(frozen=True, eq=False)
class Segment:
    """All pixels of one id, as runs down the columns, column after column."""

    value: int
    starts: np.ndarray  # (n,) places in column-major order, ascending
    lengths: np.ndarray  # (n,)
    size_hw: tuple[int, int]  # of the whole map

    @property
    def area(self) -> int:
        """How many pixels."""
        return int(self.lengths.sum())

    @property
    def box_xywh(self) -> tuple[int, int, int, int]:
        """The smallest box around it: left, top, width, height in pixels."""
        height = self.size_hw[0]
        ends = self.starts + self.lengths - 1
        left, right = int(self.starts[0]) // height, int(ends[-1]) // height
        if (self.starts // height != ends // height).any():  # a run goes on in the next column
            return left, 0, right - left + 1, height
        top, bottom = int((self.starts % height).min()), int((ends % height).max())
        return left, top, right - left + 1, bottom - top + 1

    def counts(self) -> np.ndarray:
        """(m,) lengths of the runs of other pixels and of its own, in turns; others first."""
        ends = self.starts + self.lengths
        counts = np.empty(2 * len(ends) + 1, np.int64)
        counts[0], counts[2:-1:2] = self.starts[0], self.starts[1:] - ends[:-1]
        counts[1::2] = self.lengths
        counts[-1] = self.size_hw[0] * self.size_hw[1] - ends[-1]
        return counts if counts[-1] else counts[:-1]


def segments(ids: np.ndarray) -> Iterator[Segment]:
    """A Segment for each id of 0 and more that occurs, ascending.

    ids: (H, W) int32. The time is that of one pass, however many ids there are.
    """
    flat = ids.ravel(order="F")
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(starts, append=flat.size)
    values = flat[starts]
    del flat  # as large as the map
    order = np.argsort(values, kind="stable")
    order = order[values[order] >= 0]
    if order.size:
        borders = np.flatnonzero(np.diff(values[order])) + 1
        for own in np.split(order, borders):
            yield Segment(int(values[own[0]]), starts[own], lengths[own], ids.shape)


def regions(labels: np.ndarray, connectivity: int = 8) -> tuple[np.ndarray, list[int]]:
    """Number the connected regions of each class.

    labels: (H, W) int32 class ids, negative where there is none; connectivity is 4 or 8. Returns
    (H, W) int32 with the region's number from 0, or -1, and the class id of each region.
    """
    cv2 = load_opencv()
    ids = np.full(labels.shape, -1, np.int32)
    classes: list[int] = []
    for part in segments(labels):
        left, top, width, height = part.box_xywh
        window = np.s_[top : top + height, left : left + width]
        own = labels[window] == part.value
        count, numbers = cv2.connectedComponents(own.astype(np.uint8), connectivity=connectivity)
        numbers += len(classes) - 1  # in place, as what follows: they may be as large as the map
        np.copyto(ids[window], numbers, where=own)
        classes += [part.value] * (count - 1)
    return ids, classes
