"""Confusion matrices against counting pixel by pixel."""

import math
import warnings

import numpy as np
import pytest

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.evaluation.confusion import ConfusionMatrix
from ovseg_cli.segmentation import UNLABELED


def slow_iou(photos, classes):
    """Intersection over union of each class, one pixel at a time; None where it never occurs."""
    result = []
    for k in range(classes):
        both = either = 0
        for truth, prediction in photos:
            for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
                if t != 255:
                    both += t == k and p == k
                    either += t == k or p == k
        result.append(both / either if either else None)
    return result


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_iou_is_that_of_counting_pixels(kind):
    draw = np.random.default_rng(0)
    matrix, photos = ConfusionMatrix(6), []
    for size in ((7, 9), (4, 5), (1, 30)):
        truth = draw.integers(5, size=size)  # class 5 is only ever predicted
        truth[draw.random(size) < 0.2] = 255
        photos.append((truth.astype(kind), draw.integers(6, size=size).astype(kind)))
        matrix.add(*photos[-1])
    assert matrix.iou().tolist() == pytest.approx(slow_iou(photos, 6))
    assert matrix.mean_iou() == pytest.approx(np.mean(slow_iou(photos, 6)))
    right = sum(int(((t == p) & (t != 255)).sum()) for t, p in photos)
    counted = sum(int((t != 255).sum()) for t, _ in photos)
    assert matrix.counts.sum() == counted
    assert matrix.pixel_accuracy() == pytest.approx(right / counted)


def test_rows_are_the_truth():
    matrix = ConfusionMatrix(3)
    matrix.add(np.array([0, 0, 2, 255]), np.array([1, 1, 0, 2]))
    assert matrix.counts.tolist() == [[0, 2, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]


def test_many_classes_in_8_bits_do_not_overflow():
    """200 · 201 + 3 does not fit the label maps' own type."""
    truth = np.array([[200, 17, 200]], np.uint8)
    prediction = np.array([[3, 17, 200]], np.uint8)
    matrix = ConfusionMatrix(201)
    matrix.add(truth, prediction)
    assert matrix.counts[200, 3] == matrix.counts[17, 17] == matrix.counts[200, 200] == 1
    assert matrix.counts.sum() == 3


def test_classes_that_never_occur_have_no_part_in_the_mean():
    matrix = ConfusionMatrix(4)
    matrix.add(np.array([0, 0, 1]), np.array([0, 1, 1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        iou = matrix.iou()
        assert iou[:2].tolist() == [0.5, 0.5] and np.isnan(iou[2:]).all()
        assert matrix.mean_iou() == 0.5


def test_a_class_that_is_only_predicted_counts_as_zero():
    matrix = ConfusionMatrix(2)
    matrix.add(np.array([0, 0]), np.array([0, 1]))
    assert matrix.iou().tolist() == [0.5, 0.0]
    assert matrix.mean_iou() == 0.25


def test_nothing_counted_is_not_a_number():
    matrix = ConfusionMatrix(2)
    matrix.add(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(matrix.mean_iou())
        assert math.isnan(matrix.pixel_accuracy())


def test_maps_that_do_not_fit_are_refused():
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=r"truth is \(2,\), prediction \(3,\)"):
        matrix.add(np.zeros(2, int), np.zeros(3, int))
    for truth, prediction in ((3, 0), (0, 3), (-1, 0), (0, -2), (1, -2)):
        with pytest.raises(ValueError, match=r"not in 0\.\.2"):
            matrix.add(np.array([truth]), np.array([prediction]))
    assert not matrix.counts.any()


# Rows are the truth: 10 pixels of class 0, 5 of class 1, none of class 2, 5 of class 3.
COUNTS = np.array([[8, 1, 1, 0], [2, 3, 0, 0], [0, 0, 0, 0], [0, 5, 0, 0]])
IOU = (8 / 12, 3 / 11, 0 / 1, 0 / 5)


def counted() -> ConfusionMatrix:
    matrix = ConfusionMatrix(4)
    for truth, row in enumerate(COUNTS):
        for prediction, count in enumerate(row):
            matrix.add(np.full(count, truth), np.full(count, prediction))
    return matrix


def test_the_field_s_other_measures_by_hand():
    matrix = counted()
    assert matrix.iou().tolist() == pytest.approx(IOU)
    assert matrix.mean_accuracy() == pytest.approx((8 / 10 + 3 / 5 + 0 / 5) / 3)
    assert matrix.frequency_weighted_iou() == pytest.approx(
        10 / 20 * IOU[0] + 5 / 20 * IOU[1] + 5 / 20 * IOU[3]
    )
    assert matrix.mean_iou([1, 3]) == pytest.approx(IOU[1] / 2)


def test_the_harmonic_mean_of_seen_and_unseen():
    seen, unseen = (IOU[0] + IOU[3]) / 2, (IOU[1] + IOU[2]) / 2
    assert counted().harmonic_iou([1, 2]) == pytest.approx(2 / (1 / seen + 1 / unseen))
    assert counted().harmonic_iou([3]) == 0  # never found


def test_measures_of_nothing_are_not_a_number():
    matrix = ConfusionMatrix(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (
            matrix.mean_accuracy(),
            matrix.frequency_weighted_iou(),
            matrix.mean_iou([1]),
            matrix.harmonic_iou([1]),
        ):
            assert math.isnan(value)


def test_what_is_left_unlabelled_is_wrong():
    matrix = ConfusionMatrix(2)
    matrix.add(np.array([0, 0, 0, 1, 1, IGNORE]), np.array([0, 0, UNLABELED, 1, 0, UNLABELED]))
    assert matrix.iou().tolist() == [2 / 4, 1 / 2]
    assert matrix.pixel_accuracy() == 3 / 5
    assert matrix.mean_accuracy() == pytest.approx((2 / 3 + 1 / 2) / 2)
    with pytest.raises(ValueError, match="not in 0..1"):
        matrix.add(np.array([0]), np.array([-2]))


def test_the_scores_are_those_of_torchmetrics():
    """A second implementation, on maps in which some class occurs on one side or none."""
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    draw = np.random.default_rng(3)
    truth = draw.integers(0, 5, (6, 40, 50))
    prediction = np.where(draw.random(truth.shape) < 0.6, truth, draw.integers(0, 6, truth.shape))
    truth[draw.random(truth.shape) < 0.1] = IGNORE
    matrix = ConfusionMatrix(7)
    for one, other in zip(truth, prediction, strict=True):
        matrix.add(one, other)
    sides = torch.from_numpy(prediction), torch.from_numpy(truth)
    given = {"num_classes": 7, "ignore_index": IGNORE}
    theirs = metrics.multiclass_jaccard_index(*sides, **given, average="none").numpy()
    ours = matrix.iou()
    assert np.isnan(ours).tolist() == [False] * 6 + [True]
    np.testing.assert_allclose(ours[:6], theirs[:6], rtol=1e-6)
    mean = metrics.multiclass_jaccard_index(*sides, **given, average="macro").item()
    assert matrix.mean_iou() == pytest.approx(mean, rel=1e-6)  # it leaves out absent classes, too
    weighted = metrics.multiclass_jaccard_index(*sides, **given, average="weighted").item()
    assert matrix.frequency_weighted_iou() == pytest.approx(weighted, rel=1e-6)
    recall = metrics.multiclass_accuracy(*sides, **given, average="none").numpy()
    np.testing.assert_allclose(matrix.accuracy()[:5], recall[:5], rtol=1e-6)  # 5 and 6 are not true
    assert np.isnan(matrix.accuracy()[5:]).all()
    assert matrix.mean_accuracy() == pytest.approx(recall[:5].mean(), rel=1e-6)
    accuracy = metrics.multiclass_accuracy(*sides, **given, average="micro").item()
    assert matrix.pixel_accuracy() == pytest.approx(accuracy, rel=1e-6)
