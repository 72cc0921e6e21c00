"""How right small and large things are: pixels sorted by the size of the region they lie in."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ovseg_cli.data.pixel_set import IGNORE

SIZES = ("small", "medium", "large")
LIMITS = (0.01, 0.1)  # shares of the photo from which a region is medium, and large


@dataclass(eq=False)
class RegionCounts:
    """Regions of the truth by size, with their pixels and how many of these are labelled right.

    A region is a set of pixels of one true class that touch along their sides; small: less than
    1 % of the photo's area, medium: less than 10 %. Sizes are relative to the photo, unlike COCO's
    small, medium and large objects, since photos here differ much in size. What is ignored is no
    region. So the three together are all the pixels that a confusion matrix counts.
    """

    regions: np.ndarray = field(init=False)  # (3,) int64: as many of each of SIZES
    pixels: np.ndarray = field(init=False)
    right: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.regions, self.pixels, self.right = np.zeros((3, len(SIZES)), np.int64)

    def add(self, truth: np.ndarray, prediction: np.ndarray, ignore: int = IGNORE) -> None:
        """Count one photo: two label maps (H, W), as of `ConfusionMatrix.add`."""
        region = connected_regions(truth)
        area = np.bincount(region[truth != ignore], minlength=region.max() + 1)
        right = np.bincount(region[(truth != ignore) & (truth == prediction)], minlength=len(area))
        area, right = area[area > 0], right[area > 0]  # the ignored ones have none
        size = np.searchsorted(LIMITS, area / truth.size, side="right")
        np.add.at(self.regions, size, 1)
        np.add.at(self.pixels, size, area)
        np.add.at(self.right, size, right)

    def accuracy(self) -> np.ndarray:
        """Share of the pixels labelled right in regions of each size (3,), NaN without any."""
        missing = np.full(len(SIZES), np.nan)
        return np.divide(self.right, self.pixels, out=missing, where=self.pixels > 0)


def connected_regions(labels: np.ndarray) -> np.ndarray:
    """The region of every pixel, from 0: (H, W) integers, for labels (H, W).

    Two neighbours in a row or column with equal labels are in one region.
    """
    begins = np.ones(labels.shape, bool)
    begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
    run = np.cumsum(begins).reshape(labels.shape) - 1  # equal labels side by side in one row
    same = labels[1:] == labels[:-1]
    above, below = run[:-1][same], run[1:][same]
    if above.size:  # runs touch along many pixels: one is enough
        new = np.append(True, (above[1:] != above[:-1]) | (below[1:] != below[:-1]))
        above, below = above[new], below[new]
    number = np.unique(_joined(int(run[-1, -1]) + 1, above, below), return_inverse=True)[1]
    return np.asarray(number)[run]


def _joined(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """For 0..count-1 a number that is the same for all that the pairs connect: (count,)."""
    root = np.arange(count)
    while True:
        low, high = np.minimum(root[first], root[second]), np.maximum(root[first], root[second])
        if (low == high).all():
            return root
        np.minimum.at(root, high, low)
        while not np.array_equal(root[root], root):
            root = root[root]
