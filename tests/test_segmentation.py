import numpy as np
import pytest

from ovseg_cli.segmentation import UNLABELED, Segmentation, percentage
from ovseg_cli.vocabulary import Vocabulary

NAMES = Vocabulary(["sky", "road", "car"])


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (0, "0.0%"),
        (1e-9, "<0.1%"),
        (0.00099, "<0.1%"),
        (0.001, "0.1%"),
        (0.5556, "55.6%"),
        (1, "100.0%"),
    ],
)
def test_shares_as_tables_and_legends_tell_them(share, told):
    assert percentage(share) == told


def segmentation(labels, confidence=None, vocabulary=NAMES):
    labels = np.array(labels, np.int32)
    if confidence is None:
        confidence = np.ones(labels.shape)
    return Segmentation(labels, np.array(confidence, np.float32), vocabulary)


def test_areas_of_a_hand_made_case():
    areas = segmentation([[2, 0, 2], [-1, 2, 0]], [[0.5, 0.25, 1], [0.1, 0.75, 0.75]]).areas()
    assert [(a.class_id, a.name, a.pixels) for a in areas] == [
        (0, "sky", 2),
        (2, "car", 3),
        (UNLABELED, "unlabelled", 1),
    ]
    assert [a.fraction for a in areas] == pytest.approx([2 / 6, 3 / 6, 1 / 6])
    assert [a.mean_confidence for a in areas] == pytest.approx([0.5, 0.75, 0.1])


def test_areas_against_a_loop_over_the_pixels():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 3, (13, 17))
    confidence = rng.random((13, 17)).astype(np.float32)
    areas = segmentation(labels, confidence).areas()
    assert sum(area.fraction for area in areas) == pytest.approx(1)
    for area in areas:
        values = [
            float(confidence[y, x])
            for y in range(13)
            for x in range(17)
            if labels[y, x] == area.class_id
        ]
        assert area.pixels == len(values)
        assert area.mean_confidence == pytest.approx(sum(values) / len(values))


def test_full_confidence_stays_within_one():
    areas = segmentation(np.zeros((300, 300)), np.full((300, 300), np.float32(1))).areas()
    assert areas[0].mean_confidence == 1.0


def test_nothing_labelled():
    (area,) = segmentation([[-1, -1]]).areas()
    assert (area.class_id, area.pixels, area.fraction) == (UNLABELED, 2, 1.0)


@pytest.mark.parametrize(
    ("labels", "confidence", "message"),
    [
        (np.zeros((2, 2), np.int64), np.zeros((2, 2), np.float32), "int32"),
        (np.zeros((1, 2, 2), np.int32), np.zeros((1, 2, 2), np.float32), "H×W"),
        (np.zeros((2, 2), np.int32), np.zeros((2, 3), np.float32), r"\(2, 2\) float32"),
        (np.zeros((2, 2), np.int32), np.zeros((2, 2)), "float32"),
        (np.full((2, 2), 3, np.int32), np.zeros((2, 2), np.float32), r"-1\.\.2, not 3\.\.3"),
        (np.full((2, 2), -2, np.int32), np.zeros((2, 2), np.float32), r"-1\.\.2, not -2"),
    ],
)
def test_invariants(labels, confidence, message):
    with pytest.raises(ValueError, match=message):
        Segmentation(labels, confidence, NAMES)


def test_mean_confidences_of_large_areas_are_as_exact_as_of_small_ones():
    """Added up in single precision they would be wrong in the third decimal."""
    labels, value = np.zeros((1500, 2000)), np.float32(0.1)
    (area,) = segmentation(labels, np.full(labels.shape, value)).areas()
    assert area.mean_confidence == pytest.approx(float(value), abs=1e-9)
