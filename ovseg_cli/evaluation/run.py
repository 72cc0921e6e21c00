"""One pass over a labelled set: each photo is predicted and counted in every way at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from ovseg_cli.data.pixel_set import PixelSet
from ovseg_cli.errors import InputError
from ovseg_cli.evaluation.boundary import BoundaryCounts
from ovseg_cli.evaluation.confusion import ConfusionMatrix
from ovseg_cli.evaluation.region_sizes import RegionCounts
from ovseg_cli.evaluation.threshold import ConfidenceCounts
from ovseg_cli.failures import is_out_of_memory, reason_of
from ovseg_cli.frame import Frame
from ovseg_cli.segmentation import UNLABELED, Segmentation

# The key and pixels (H, W, 3) of a photo -> labels (H, W) int32, and confidence (H, W) if known.
Predict = Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True)
class PhotoScore:
    """How right one photo's label map is."""

    key: str
    mean_iou: float  # over the classes that occur there on either side; NaN where nothing counts
    pixel_accuracy: float
    mean_confidence: float | None  # over all pixels; None where the prediction has none

    @property
    def order(self) -> tuple[bool, float, str]:
        """Sorts the worst first, and last what cannot be scored."""
        unknown = self.mean_iou != self.mean_iou
        return unknown, 0.0 if unknown else self.mean_iou, self.key


@dataclass(eq=False)
class Evaluation:
    """What is counted over the photos of one set, and which photos went worst."""

    classes: int
    ignore: int
    keep_worst: int = 0  # so many predictions are kept, to be looked at
    confidences: ConfidenceCounts | None = None  # filled where there are any
    matrix: ConfusionMatrix = field(init=False)
    boundary: BoundaryCounts = field(init=False)
    regions: RegionCounts = field(init=False)
    photos: list[PhotoScore] = field(default_factory=list)
    worst: list[tuple[PhotoScore, np.ndarray]] = field(default_factory=list)  # with labels (H, W)
    strangers: Counter[int] = field(default_factory=Counter)  # see `PixelSet.strangers`
    failures: dict[str, str] = field(default_factory=dict)  # key -> why it is not counted

    def __post_init__(self) -> None:
        self.matrix = ConfusionMatrix(self.classes)
        self.boundary = BoundaryCounts(self.classes)
        self.regions = RegionCounts()

    def add(
        self, key: str, truth: np.ndarray, labels: np.ndarray, confidence: np.ndarray | None
    ) -> None:
        """Count one photo, in every way or, where memory does not suffice for one, in none.

        truth and labels (H, W) as of `ConfusionMatrix.add`.
        """
        # As the totals are, and empty.
        photo = replace(self.matrix)
        boundary, regions = replace(self.boundary), replace(self.regions)
        photo.add(truth, labels, self.ignore)
        boundary.add(truth, labels, self.ignore)
        regions.add(truth, labels, self.ignore)
        counted: list[tuple[Any, Any]] = [
            (self.matrix, photo),
            (self.boundary, boundary),
            (self.regions, regions),
        ]
        if confidence is not None and self.confidences is not None:
            confidences = replace(self.confidences)
            confidences.add(truth, labels, confidence, self.ignore)
            counted.append((self.confidences, confidences))
        score = PhotoScore(
            key,
            photo.mean_iou(),
            photo.pixel_accuracy(),
            None if confidence is None else float(confidence.mean(dtype=np.float64)),
        )
        for total, counts in counted:
            for each in fields(counts):
                if not each.init:
                    getattr(total, each.name)[...] += getattr(counts, each.name)
        self.photos.append(score)
        self.worst = sorted([*self.worst, (score, labels)], key=lambda kept: kept[0].order)
        del self.worst[self.keep_worst :]

    def scores(self) -> dict[str, float]:
        """The measures over all classes, by name; NaN for what nothing was counted of."""
        return {
            "mIoU": self.matrix.mean_iou(),
            "fwIoU": self.matrix.frequency_weighted_iou(),
            "mean_accuracy": self.matrix.mean_accuracy(),
            "pixel_accuracy": self.matrix.pixel_accuracy(),
            "boundary_mIoU": self.boundary.mean_iou(),
        }

    def unseen_scores(self, unseen: list[int]) -> dict[str, float]:
        """mIoU of the classes that a model was not trained on, of the others, and hIoU."""
        return {
            "mIoU_seen": self.matrix.mean_iou(self.matrix.others(unseen)),
            "mIoU_unseen": self.matrix.mean_iou(unseen),
            "hIoU": self.matrix.harmonic_iou(unseen),
        }


def evaluate(predict: Predict, data: PixelSet, evaluation: Evaluation) -> Iterator[str]:
    """Count every photo of a labelled set; yields its key once it is counted, or has failed.

    One that cannot be read, whose sizes differ or for which memory does not suffice is left out;
    `evaluation.failures` says why.
    predict: knows the set's names in their order; where the set has background, one class more
    that takes it. There what is left unlabelled counts as background, too, elsewhere as wrong.
    """
    for key in data.keys:
        try:
            image, stored = data.load_stored(key)
            labels, confidence = predict(key, image)
            if data.has_other:
                labels = np.where(labels == UNLABELED, np.int32(data.other), labels)
            strangers = data.strangers(stored)
            evaluation.add(key, data.labels_of(stored), labels, confidence)
        except InputError as error:
            evaluation.failures[key] = str(error)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            evaluation.failures[key] = f"{data.name}: {key}: {reason_of(error, key)}"
        else:
            evaluation.strangers += strangers
        yield key


def by_model(segment: Callable[[Frame], Segmentation]) -> Predict:
    """Predictions of a segmenter that has the set's names."""

    def predict(key: str, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        result = segment(Frame(image, source=f"{key}.jpg"))
        return result.labels, result.confidence

    return predict
