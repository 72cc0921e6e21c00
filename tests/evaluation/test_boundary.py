"""Boundary IoU against hand-made cases, the paper's erosion and counting pixel by pixel."""

import math
import warnings

import numpy as np
import pytest

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.evaluation.boundary import BoundaryCounts, boundary_band
from ovseg_cli.segmentation import UNLABELED

SIZE = (60, 80)  # its diagonal is 100: the band is 2 pixels wide


def halves(column: int) -> np.ndarray:
    """Class 0 to the left of a column, class 1 from there on."""
    labels = np.zeros(SIZE, np.uint8)
    labels[:, column:] = 1
    return labels


def slow_counts(truth, prediction, classes, distance):
    """Intersection and union of the boundary regions of each class, one pixel at a time."""
    height, width = truth.shape

    def in_band(mask, y, x):
        return mask[y, x] and any(
            not (0 <= y + dy < height and 0 <= x + dx < width) or not mask[y + dy, x + dx]
            for dy in range(-distance, distance + 1)
            for dx in range(-distance, distance + 1)
        )

    counts = []
    for k in range(classes):
        masks = [(labels == k) & (truth != IGNORE) for labels in (truth, prediction)]
        both = either = 0
        for y in range(height):
            for x in range(width):
                true, predicted = (in_band(mask, y, x) for mask in masks)
                both += bool(true and predicted)
                either += bool(true or predicted)
        counts.append((both, either))
    return counts


def test_a_border_that_is_three_pixels_off_by_hand():
    counts = BoundaryCounts(3)
    counts.add(halves(40), halves(42))
    # Class 0: frames 2 wide of 60×40 and of 60×42 pixels; they share 2·2 rows of 40 and 2 columns.
    true, predicted, both = 60 * 40 - 56 * 36, 60 * 42 - 56 * 38, 4 * 40 + 2 * 56
    assert counts.iou()[0] == both / (true + predicted - both)
    assert counts.iou()[1] == both_of_the_right() / union_of_the_right()
    assert np.isnan(counts.iou()[2])
    assert counts.mean_iou() == pytest.approx(counts.iou()[:2].mean())


def both_of_the_right() -> int:
    return 4 * 38 + 2 * 56  # the narrower frame's rows, and the columns at the photo's edge


def union_of_the_right() -> int:
    true, predicted = 60 * 40 - 56 * 36, 60 * 38 - 56 * 34
    return true + predicted - both_of_the_right()


def test_a_perfect_prediction_scores_one_also_beside_ignored_pixels():
    truth = halves(40)
    truth[:, 35:45] = IGNORE
    for prediction in (halves(40), halves(36), halves(45)):  # they differ in what is ignored
        counts = BoundaryCounts(2)
        counts.add(truth, prediction)
        assert counts.iou().tolist() == [1, 1]


def test_photos_are_summed_before_dividing():
    apart, counts = [], BoundaryCounts(2)
    for truth, prediction in ((halves(40), halves(42)), (halves(10), halves(60))):
        one = BoundaryCounts(2)
        one.add(truth, prediction)
        apart.append(one)
        counts.add(truth, prediction)
    summed = sum(one.intersection for one in apart) / sum(one.union for one in apart)
    assert counts.iou().tolist() == summed.tolist()


def test_it_is_what_counting_pixel_by_pixel_gives():
    draw = np.random.default_rng(0)
    counts, expected = BoundaryCounts(4), np.zeros((4, 2), int)
    for size in ((36, 70), (40, 30)):  # diagonals of 78.7 and 50: 2 pixels and 1
        truth, prediction = (
            draw.integers(0, 4, (6, 10)).repeat(9, 0).repeat(9, 1)[: size[0], : size[1]]
            for _ in range(2)
        )
        prediction = np.where(draw.random(size) < 0.8, truth, prediction)
        prediction[5:9, 3:20] = UNLABELED
        truth[20:24, 2:30] = IGNORE
        counts.add(truth.astype(np.uint8), prediction)
        distance = round(0.02 * math.hypot(*size))
        expected += slow_counts(truth, prediction, 4, distance)
    assert np.stack([counts.intersection, counts.union], 1).tolist() == expected.tolist()


@pytest.mark.parametrize("thickness", [1, 2, 3, 4, 7, 30])
def test_the_band_is_what_repeated_erosion_takes_away(thickness):
    """As the paper's code finds it: in a frame of zeros, by OpenCV."""
    cv2 = pytest.importorskip("cv2")
    draw = np.random.default_rng(thickness)
    labels = draw.integers(0, 4, (4, 5)).repeat(13, 0).repeat(11, 1)  # 0 is what is left out
    band = boundary_band(labels, thickness)
    for k in (1, 2, 3):
        mask = np.pad((labels == k).astype(np.uint8), 1)
        inner = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=thickness)
        assert ((mask - inner)[1:-1, 1:-1].astype(bool) == (band & (labels == k))).all()


def test_nothing_is_not_a_number():
    counts = BoundaryCounts(2)
    counts.add(np.full(SIZE, IGNORE, np.uint8), halves(40))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(counts.iou()).all() and math.isnan(counts.mean_iou())


def test_large_vocabularies():
    truth = np.array([[0, 300], [846, 65535]], np.uint16)
    counts = BoundaryCounts(847)
    counts.add(truth, np.array([[0, 300], [845, 5]], np.int32), ignore=65535)
    assert np.flatnonzero(counts.union).tolist() == [0, 300, 845, 846]
    assert counts.mean_iou() == 2 / 4
