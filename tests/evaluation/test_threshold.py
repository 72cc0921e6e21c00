"""The best threshold: one pass against a pass for each threshold."""

import math

import numpy as np
import pytest

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.evaluation.confusion import ConfusionMatrix
from ovseg_cli.evaluation.threshold import THRESHOLDS, ConfidenceCounts
from ovseg_cli.segmentation import UNLABELED


def photos():
    """Truth, prediction and confidence, the last partly at the thresholds themselves."""
    draw = np.random.default_rng(0)
    for size in ((20, 30), (15, 40)):
        truth = draw.integers(0, 5, size)
        prediction = np.where(draw.random(size) < 0.6, truth, draw.integers(0, 6, size))
        confidence = draw.random(size) ** 2 * 0.7 + 0.3 * (truth == prediction)
        confidence[:3] = draw.choice(THRESHOLDS, (3, size[1]))
        confidence[3] = np.linspace(0, 1, size[1])
        prediction[4, :10] = UNLABELED
        truth[draw.random(size) < 0.1] = IGNORE
        yield truth, prediction, confidence.astype(np.float32)


@pytest.mark.parametrize("background", [None, 0, 5])
def test_mean_iou_at_each_threshold_is_that_of_a_pass_with_it(background):
    counts = ConfidenceCounts(6, background)
    for photo in photos():
        truth, prediction, confidence = photo
        if background is not None:  # as `evaluate` hands them on
            prediction = np.where(prediction == UNLABELED, background, prediction)
        counts.add(truth, prediction, confidence)
    means = counts.mean_iou()
    assert means.shape == THRESHOLDS.shape
    slow = []
    for threshold in THRESHOLDS:
        matrix = ConfusionMatrix(6)
        for truth, prediction, confidence in photos():
            below = confidence < np.float32(threshold)
            taken = UNLABELED if background is None else background
            labels = np.where(below | (prediction == UNLABELED), taken, prediction)
            matrix.add(truth, labels)
        slow.append(matrix.mean_iou())
    assert means == pytest.approx(slow, abs=1e-12)
    best = max(slow)
    assert counts.best() == (THRESHOLDS[slow.index(best)], pytest.approx(best, abs=1e-12))


def test_the_lowest_of_equal_thresholds():
    counts = ConfidenceCounts(2, background=1)
    truth, prediction = np.array([[0, 1, 1]]), np.array([[0, 0, 1]])
    counts.add(truth, prediction, np.array([[0.9, 0.3, 0.9]], np.float32))
    threshold, mean = counts.best()
    assert (threshold, mean) == (pytest.approx(0.305), 1)


def test_nothing_counted():
    threshold, mean = ConfidenceCounts(2).best()
    assert threshold == 0 and math.isnan(mean)
