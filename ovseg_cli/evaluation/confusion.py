"""Scores of label maps against ground truth: one confusion matrix over all photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.segmentation import UNLABELED


@dataclass(eq=False)
class ConfusionMatrix:
    """Pixel counts by true class (rows) and predicted class (columns)."""

    classes: int
    counts: np.ndarray = field(init=False)  # (classes, classes + 1) int64, unlabelled ones last

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.classes, self.classes + 1), np.int64)

    def add(self, truth: np.ndarray, prediction: np.ndarray, ignore: int = IGNORE) -> None:
        """Count one photo; `truth` pixels equal to `ignore` are left out.

        Both are integer arrays of one shape, with values in 0..classes-1 elsewhere. What the
        prediction leaves UNLABELED is wrong.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"truth is {truth.shape}, prediction {prediction.shape}")
        valid = truth != ignore
        # int64 first: in the label maps' own uint8 the product would overflow silently.
        rows, columns = truth[valid].astype(np.int64), prediction[valid].astype(np.int64)
        labelled = columns[columns != UNLABELED]
        for labels in (rows, labelled):
            if labels.size and not 0 <= labels.min() <= labels.max() < self.classes:
                raise ValueError(f"a label is not in 0..{self.classes - 1}")
        columns[columns == UNLABELED] = self.classes
        flat = np.bincount(rows * (self.classes + 1) + columns, minlength=self.counts.size)
        self.counts += flat.reshape(self.counts.shape)

    def iou(self) -> np.ndarray:
        """Intersection over union of each class (classes,), NaN where it occurs on neither side."""
        hit = np.diag(self.counts)
        union = self.counts.sum(0)[: self.classes] + self.counts.sum(1) - hit
        return np.divide(hit, union, out=np.full(self.classes, np.nan), where=union > 0)

    def mean_iou(self, classes: Sequence[int] | None = None) -> float:
        """mIoU over the classes that occur in ground truth or prediction; NaN for none.

        So one that is only predicted counts as 0, as MMSegmentation has it.

        classes: only these count, such as the unseen ones.
        """
        return mean_of_present(self.iou() if classes is None else self.iou()[list(classes)])

    def others(self, classes: Sequence[int]) -> list[int]:
        """All classes but these."""
        return [k for k in range(self.classes) if k not in classes]

    def harmonic_iou(self, unseen: Sequence[int]) -> float:
        """hIoU: the harmonic mean of the mIoU of the unseen classes and that of all others.

        As the zero-shot literature counts it (Xian et al., SPNet, CVPR 2019).
        """
        old, new = self.mean_iou(self.others(unseen)), self.mean_iou(unseen)
        return 2 * old * new / (old + new) if old + new else 0.0

    def frequency_weighted_iou(self) -> float:
        """fwIoU: the IoU of each class weighted with its share of the true pixels; NaN for none."""
        true = self.counts.sum(1)
        if not true.sum():
            return float("nan")
        return float((np.nan_to_num(self.iou()) * true).sum() / true.sum())

    def accuracy(self) -> np.ndarray:
        """Share of each class's true pixels that are right (classes,), NaN where it has none."""
        true = self.counts.sum(1)
        hit = np.diag(self.counts)
        return np.divide(hit, true, out=np.full(self.classes, np.nan), where=true > 0)

    def mean_accuracy(self) -> float:
        """Share of a class's true pixels that are right, averaged over the classes that occur."""
        return mean_of_present(self.accuracy())

    def pixel_accuracy(self) -> float:
        """Share of the counted pixels that are right; NaN for none."""
        total = self.counts.sum()
        return float(np.diag(self.counts).sum() / total) if total else float("nan")


def mean_of_present(values: np.ndarray) -> float:
    """The mean of what is a number; NaN where nothing is."""
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))
