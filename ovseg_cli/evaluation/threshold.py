"""The best threshold for the confidence, found in one pass over the photos."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.evaluation.confusion import mean_of_present
from ovseg_cli.segmentation import UNLABELED

STEPS = 200
THRESHOLDS = np.linspace(0, 1, STEPS + 1)


@dataclass(eq=False)
class ConfidenceCounts:
    """Pixel counts by class and confidence, from which mIoU follows for every threshold.

    Pixels below a threshold are unlabelled: they count as `background` where there is such a
    class, else as wrong. IoU needs of each class only its right, its true and its predicted
    pixels, so that a histogram of each is enough.
    """

    classes: int
    background: int | None = None  # the class that takes what is unlabelled
    right: np.ndarray = field(init=False)  # (classes, STEPS + 1) int64; bin b: from THRESHOLDS[b]
    true: np.ndarray = field(init=False)
    predicted: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.right, self.true, self.predicted = np.zeros((3, self.classes, STEPS + 1), np.int64)

    def add(
        self,
        truth: np.ndarray,
        prediction: np.ndarray,
        confidence: np.ndarray,
        ignore: int = IGNORE,
    ) -> None:
        """Count one photo: label maps as of `ConfusionMatrix.add`, confidence (H, W) float32."""
        valid = truth != ignore
        rows, columns = truth[valid].astype(np.int64), prediction[valid].astype(np.int64)
        # As float32, so that a pixel is compared as the segmenter compares it.
        bins = np.searchsorted(THRESHOLDS.astype(np.float32), confidence[valid], side="right") - 1
        labelled = columns != UNLABELED
        self.right += self._histogram(rows, bins, rows == columns)
        self.true += self._histogram(rows, bins, np.ones_like(labelled))
        self.predicted += self._histogram(columns, bins, labelled)

    def _histogram(self, labels: np.ndarray, bins: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        flat = labels[chosen] * (STEPS + 1) + bins[chosen]
        return np.bincount(flat, minlength=self.true.size).reshape(self.true.shape)

    def mean_iou(self) -> np.ndarray:
        """mIoU at each of THRESHOLDS (STEPS + 1,), over the classes that occur; NaN for none."""
        right, predicted = _from_each_bin_on(self.right), _from_each_bin_on(self.predicted)
        true = self.true.sum(1, keepdims=True)
        if self.background is not None:
            below = predicted[:, :1] - predicted  # of each class, now unlabelled
            predicted[self.background] += below.sum(0)
            of_background = self.true[self.background]
            right[self.background] += of_background.cumsum() - of_background
        union = true + predicted - right
        iou = np.divide(right, union, out=np.full(union.shape, np.nan), where=union > 0)
        return np.array([mean_of_present(column) for column in iou.T])

    def best(self) -> tuple[float, float]:
        """The threshold with the greatest mIoU, the lowest of several, and that mIoU.

        A class without true pixels has no part in mIoU any more once it is no longer predicted:
        where a set lacks many of its classes, that favours high thresholds.
        """
        means = self.mean_iou()
        if np.isnan(means).all():
            return 0.0, float("nan")
        index = int(np.nanargmax(means))
        return float(THRESHOLDS[index]), float(means[index])


def _from_each_bin_on(counts: np.ndarray) -> np.ndarray:
    return counts[:, ::-1].cumsum(1)[:, ::-1].copy()
