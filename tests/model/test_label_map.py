"""Labels of pixels against the plain way: all scores at full size, then argmax."""

import pytest
import torch
import torch.nn.functional as F

from ovseg_cli.model import label_map as module
from ovseg_cli.model.label_map import label_map
from ovseg_cli.model.score_map import (
    GridScores,
    MaskScores,
    QueryScores,
    SharpQueryScores,
    full_scores,
)


def smooth(channels: int, height: int, width: int, contrast: float = 5.0) -> torch.Tensor:
    """Probabilities that change slowly, as a photo's do: (channels, height, width)."""
    coarse = torch.randn(1, channels, max(2, height // 6), max(2, width // 6)) * contrast
    return F.interpolate(coarse, (height, width), mode="bicubic")[0].softmax(0)


def queries(channels: int = 6, count: int = 7) -> QueryScores:
    """Proposals of a 64×96 input of which 57×90 pixels are photo."""
    return QueryScores(
        (torch.randn(count, channels) * 3).softmax(-1), torch.randn(count, 16, 24) * 4, (57, 90)
    )


def expected_labels(full, other):
    """Best scores (H, W) and what label_map should choose, by `full` (K+1, H, W), R last."""
    best = full[:-1].amax(0)
    if other is None:
        return best, torch.zeros(best.shape, dtype=torch.bool)
    none = other * full[-1] > full[:-1].sum(0)
    return torch.where(none, full[-1], best), none


@pytest.mark.parametrize("classes", [1, 3, 40, 300])
@pytest.mark.parametrize("other", [None, 1.0, 2.5])
@pytest.mark.parametrize("size_hw", [(131, 97), (20, 17)])
def test_labels_and_confidence_are_those_of_the_full_scores(classes, other, size_hw):
    scores = GridScores(smooth(classes + 1, 20, 30), (18.6, 29.1))
    full = full_scores(scores, size_hw)
    labels, confidence = label_map(scores, size_hw, other)
    best, none = expected_labels(full, other)
    assert ((labels == classes) == none).float().mean() > 0.999  # a tie may fall either way
    chosen = full.gather(0, labels[None].long())[0]
    torch.testing.assert_close(chosen, best, atol=1e-6, rtol=0)  # a tie may fall either way
    torch.testing.assert_close(confidence, best / full.sum(0), atol=1e-5, rtol=0)
    assert labels.dtype == torch.int32


@pytest.mark.parametrize("contrast", [0.01, 30.0])
def test_labels_where_all_classes_are_alike_and_where_they_are_far_apart(contrast):
    scores = GridScores(smooth(50, 33, 47, contrast), (33.0, 47.0))
    full = full_scores(scores, (150, 210))[:-1]
    labels, _ = label_map(scores, (150, 210))
    chosen = full.gather(0, labels[None].long())[0]
    torch.testing.assert_close(chosen, full.amax(0), atol=1e-6, rtol=0)


def test_small_bands_give_the_same(monkeypatch):
    scores = queries(channels=40)
    labels, confidence = label_map(scores, (230, 301))
    monkeypatch.setattr(module, "BAND", 40 * 90 * 3)  # three rows at a time
    again, confidence_again = label_map(scores, (230, 301))
    torch.testing.assert_close(confidence_again, confidence)
    assert (again == labels).float().mean() > 0.9999


def test_confidence_takes_the_non_object_mass_into_account():
    # One proposal that covers all: half 'car', a quarter 'sky', a quarter no object.
    scores = QueryScores(torch.tensor([[0.5, 0.25, 0.25]]), torch.full((1, 8, 8), 100.0), (32, 32))
    labels, confidence = label_map(scores, (5, 5))
    assert (labels == 0).all()
    torch.testing.assert_close(confidence, torch.full((5, 5), 0.5))
    mostly_nothing = QueryScores(
        torch.tensor([[0.3, 0.1, 0.6]]), torch.full((1, 8, 8), 100.0), (32, 32)
    )
    labels, confidence = label_map(mostly_nothing, (5, 5), 1.0)
    assert (labels == 2).all()
    torch.testing.assert_close(confidence, torch.full((5, 5), 0.6))
    as_much = MaskScores(torch.tensor([[0.25, 0.25, 0.5]]), torch.ones(1, 5, 5))
    assert (label_map(as_much, (5, 5), 1.0)[0] == 0).all()  # it has to be more than the names


def test_names_that_are_alike_do_not_lose_to_the_non_object_by_sharing():
    """Ten names need more in all than the non-object has; where it weighs double, twice as much,
    which is 0.667 of both.
    """
    covered = torch.full((1, 8, 8), 100.0)
    for weight, share, expected in (
        (1.0, 0.051, 0),
        (1.0, 0.049, 10),
        (2.0, 0.067, 0),
        (2.0, 0.066, 10),
    ):
        probabilities = torch.tensor([[share] * 10 + [1 - 10 * share]])
        for scores in (
            QueryScores(probabilities, covered, (32, 32)),
            GridScores(probabilities.T[..., None].repeat(1, 8, 8), (8.0, 8.0)),
        ):
            labels, confidence = label_map(scores, (5, 5), weight)
            assert (labels == expected).all()
            chosen = probabilities[0, expected].item()
            torch.testing.assert_close(confidence, torch.full((5, 5), chosen))


def test_nothing_covered_has_no_confidence():
    scores = QueryScores(torch.tensor([[0.5, 0.5]]), torch.full((1, 8, 8), -200.0), (32, 32))
    _, confidence = label_map(scores, (4, 4))
    assert (confidence == 0).all()


@pytest.mark.parametrize("contrast", [0.01, 1.0, 6.0])
@pytest.mark.parametrize("classes", [1, 5, 40, 300])
@pytest.mark.parametrize("size_hw", [(57, 90), (231, 143)])
def test_labels_of_regions_are_those_of_the_full_scores(contrast, classes, size_hw):
    probabilities = (torch.randn(30, classes + 1) * contrast).softmax(-1)
    scores = QueryScores(probabilities, torch.randn(30, 16, 24) * contrast, (57, 90))
    full = full_scores(scores, size_hw)
    for other in (None, 1.0, 2.5):
        labels, confidence = label_map(scores, size_hw, other)
        best, none = expected_labels(full, other)
        assert ((labels == classes) == none).float().mean() > 0.999
        chosen = full.gather(0, labels[None].long())[0]
        torch.testing.assert_close(chosen, best, atol=1e-6, rtol=1e-5)
        expected = best / full.sum(0)
        torch.testing.assert_close(confidence, expected, atol=1e-5, rtol=1e-4)


def test_a_weak_class_may_win_in_a_corner():
    """It is not among the strongest of the tile, which all lie elsewhere."""
    masks = torch.zeros(21, 64, 64)
    masks[:20, :, :60] = 1
    masks[20, :, 60:] = 0.01
    probabilities = torch.eye(21, 22) * 0.9
    probabilities[:, 21] = 0.1
    labels, confidence = label_map(MaskScores(probabilities, masks), (64, 64))
    assert (labels[:, 60:] == 20).all()
    assert confidence[0, 63] == pytest.approx(0.9)
    assert (labels[:, :60] == 0).all()  # of equals the first


def test_many_equal_classes_are_told_apart_by_their_number():
    scores = MaskScores(torch.full((2, 401), 1 / 401), torch.ones(2, 40, 40))
    labels, _ = label_map(scores, (90, 90))
    assert (labels == 0).all()


def test_what_no_mask_covers_is_unlabelled():
    masks = torch.zeros(3, 4, 6, dtype=torch.bool)
    masks[0, :, :3], masks[1, :2, 2:4], masks[2, 3, 5] = True, True, True
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.1, 0.1, 0.8]])
    scores = MaskScores(probabilities, masks)
    labels, confidence = label_map(scores, (4, 6))
    assert labels.tolist() == [
        [0, 0, 1, 1, -1, -1],
        [0, 0, 1, 1, -1, -1],
        [0, 0, 0, -1, -1, -1],
        [0, 0, 0, -1, -1, 0],
    ]
    assert confidence[3, 5] == pytest.approx(0.1)
    assert confidence[0, 5] == 0
    assert label_map(scores, (4, 6), 1.0)[0][3, 5] == 2


@pytest.mark.parametrize("classes", [1, 3, 300])
@pytest.mark.parametrize("other", [None, 1.0, 2.5])
@pytest.mark.parametrize("size_hw", [(231, 197), (20, 17)])
def test_labels_of_sharp_scores_are_those_of_the_full_scores(classes, other, size_hw):
    probabilities = (torch.randn(30, classes + 1) * 3).softmax(-1)
    scores = SharpQueryScores(probabilities, torch.randn(30, 4, 6) * 4, (57, 90), stride=16)
    full = full_scores(scores, size_hw)
    labels, confidence = label_map(scores, size_hw, other)
    best, none = expected_labels(full, other)
    assert ((labels == classes) == none).float().mean() > 0.999  # a tie may fall either way
    chosen = full.gather(0, labels[None].long())[0]
    torch.testing.assert_close(chosen, best, atol=1e-5, rtol=0)  # a tie may fall either way
    torch.testing.assert_close(confidence, best / full.sum(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [QueryScores, SharpQueryScores])
def test_no_rounding_makes_a_confidence_larger_than_one(kind):
    """One class has all there is: its score and the sum of all are added up in different orders."""
    for seed in range(8):
        torch.manual_seed(seed)
        probabilities = torch.zeros(30, 41)
        probabilities[:, 0] = torch.rand(30)
        scores = kind(probabilities, torch.randn(30, 16, 24), (57, 90))
        labels, confidence = label_map(scores, (131, 97))
        assert (labels == 0).all()
        assert confidence.max() <= 1
        assert confidence.min() > 1 - 1e-5
