"""Boundary IoU: how well the label maps follow the borders of the classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.evaluation.confusion import mean_of_present

RATIO = 0.02  # width of the band, a share of the photo's diagonal: the paper's value
_NOTHING = 0  # in the maps below: ignored, unlabelled or outside the photo; classes follow


@dataclass(eq=False)
class BoundaryCounts:
    """Boundary IoU (Cheng et al., CVPR 2021, arXiv 2103.16562) of every class over a whole set.

    The boundary region of a class in one label map are its pixels that lie within a distance of
    RATIO times the photo's diagonal from its contour, measured as repeated erosion with a 3×3
    square does. The photo's edge counts as a contour. Intersections and unions of the true and the
    predicted boundary regions are summed over all photos before they are divided; the mean is over
    the classes that occur. Ignored pixels belong to no class on either side, so that a perfect
    prediction scores 1.
    """

    classes: int
    intersection: np.ndarray = field(init=False)  # (classes,) int64 pixels
    union: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.intersection = np.zeros(self.classes, np.int64)
        self.union = np.zeros(self.classes, np.int64)

    def add(self, truth: np.ndarray, prediction: np.ndarray, ignore: int = IGNORE) -> None:
        """Count one photo: two label maps (H, W), as of `ConfusionMatrix.add`."""
        thickness = max(1, round(RATIO * float(np.hypot(*truth.shape))))
        ignored = truth == ignore
        true, predicted = (  # in 16 bits, which is faster; UNLABELED = -1 becomes _NOTHING, too
            np.where(ignored, _NOTHING, labels.astype(np.int32) + 1).astype(np.uint16)
            for labels in (truth, prediction)
        )
        true, predicted = (
            np.where(boundary_band(labels, thickness), labels, np.uint16(_NOTHING))
            for labels in (true, predicted)
        )
        both = self._pixels(true[true == predicted])
        self.intersection += both
        self.union += self._pixels(true) + self._pixels(predicted) - both

    def _pixels(self, labels: np.ndarray) -> np.ndarray:
        return np.bincount(labels.ravel(), minlength=self.classes + 1)[1:]

    def iou(self) -> np.ndarray:
        """Boundary IoU of each class (classes,), NaN where it occurs on neither side."""
        missing = np.full(self.classes, np.nan)
        return np.divide(self.intersection, self.union, out=missing, where=self.union > 0)

    def mean_iou(self) -> float:
        """Mean over the classes that occur in ground truth or prediction; NaN for none."""
        return mean_of_present(self.iou())


def boundary_band(labels: np.ndarray, thickness: int) -> np.ndarray:
    """Pixels that have another label, or the outside, at most `thickness` away: (H, W) bool.

    labels is (H, W) of integers from 1, with 0 for what is like the outside. The distance is the
    larger of rows and columns. All classes at once: a square holds one label exactly where its
    greatest is its least.
    """
    padded = np.pad(labels, thickness, constant_values=_NOTHING)
    side = 2 * thickness + 1
    return _in_squares(np.maximum, padded, side) != _in_squares(np.minimum, padded, side)


def _in_squares(
    extreme: Callable[[np.ndarray, np.ndarray], np.ndarray], values: np.ndarray, side: int
) -> np.ndarray:
    """The greatest, or least, value of every square of side² pixels."""
    for _ in range(2):
        span = 1  # each row now holds the extreme of so many rows from there on
        while span < side:
            step = min(span, side - span)  # doubles at first; the last windows may overlap
            values = extreme(values[:-step], values[step:])
            span += step
        values = values.T
    return values
