"""Accuracy by the size of regions."""

import numpy as np
import pytest

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.evaluation.confusion import ConfusionMatrix
from ovseg_cli.evaluation.region_sizes import RegionCounts, connected_regions
from ovseg_cli.segmentation import UNLABELED


def test_sizes_by_hand():
    """Of 200 pixels 1 is small, 2 and 19 are medium, 20 are large; the rest is ignored."""
    truth = np.full((10, 20), IGNORE, np.uint8)
    truth[0, 0] = 3
    truth[0, 5:7] = 3
    truth[2, :19] = 0
    truth[5] = 1
    prediction = np.zeros((10, 20), np.int32)
    prediction[0, 5] = 3
    prediction[5, 4:] = 1
    prediction[5, 19] = UNLABELED
    counts = RegionCounts()
    counts.add(truth, prediction)
    assert counts.regions.tolist() == [1, 2, 1]
    assert counts.pixels.tolist() == [1, 21, 20]
    assert counts.right.tolist() == [0, 20, 15]
    counts.add(truth, prediction)
    assert counts.regions.tolist() == [2, 4, 2]
    assert counts.accuracy().tolist() == [0, 20 / 21, 15 / 20]


def test_all_sizes_together_are_the_confusion_matrix():
    draw = np.random.default_rng(0)
    counts, matrix = RegionCounts(), ConfusionMatrix(4)
    for _ in range(3):
        truth = draw.integers(0, 4, (5, 6)).repeat(draw.integers(1, 9, 5), 0).repeat(7, 1)
        truth[draw.random(truth.shape) < 0.1] = IGNORE
        prediction = draw.integers(-1, 4, truth.shape)
        counts.add(truth, prediction)
        matrix.add(truth, prediction)
    assert counts.pixels.sum() == matrix.counts.sum()
    assert counts.right.sum() == np.diag(matrix.counts).sum()


def test_nothing_but_ignored_pixels():
    counts = RegionCounts()
    counts.add(np.full((3, 3), IGNORE, np.uint8), np.zeros((3, 3), np.int32))
    assert counts.regions.tolist() == [0, 0, 0]
    assert np.isnan(counts.accuracy()).all()


def spiral(side: int) -> np.ndarray:
    """One line of ones that winds to the middle: the worst that a region can be."""
    labels = np.zeros((side, side), int)
    y, x, dy, dx = 0, 0, 0, 1
    labels[0, 0] = 1
    for length in [side - 1, *sorted([*range(2, side, 2)] * 2, reverse=True)]:
        for _ in range(length):
            if not (0 <= y + dy < side and 0 <= x + dx < side) or labels[y + dy, x + dx]:
                break
            y, x = y + dy, x + dx
            labels[y, x] = 1
        dy, dx = dx, -dy
    return labels


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((1, 1), int),
        np.array([[0, 1, 0, 0, 1]]),
        np.array([[0], [1], [0], [0]]),
        np.array([[0, 1], [1, 0]]),  # a corner alone does not connect
        np.eye(9, dtype=int),
        spiral(21),
        np.random.default_rng(0).integers(0, 2, (40, 50)),
        np.random.default_rng(1).integers(0, 3, (9, 11)).repeat(4, 0).repeat(5, 1),
    ],
)
def test_regions_are_those_of_another_implementation(labels):
    measure = pytest.importorskip("skimage.measure")
    theirs = measure.label(labels + 1, connectivity=1)
    ours = connected_regions(labels)
    pairs = set(zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(theirs)) == ours.max() + 1
