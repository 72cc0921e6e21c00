"""Scores and labels of pixels against the plain way: everything at full size, then argmax."""

import pytest
import torch
import torch.nn.functional as F

from ovseg_cli.model import score_map as module
from ovseg_cli.model.deop import DeOPOutput
from ovseg_cli.model.score_map import (
    GridScores,
    MaskScores,
    QueryScores,
    full_scores,
    interpolation,
    label_map,
    score_map,
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


def plain_scores(scores: QueryScores) -> torch.Tensor:
    """S of deop.md, step 6, at the network's size, in one go."""
    masks = F.interpolate(scores.mask_logits[None], scale_factor=4, mode="bilinear")[0].sigmoid()
    height, width = scores.size_hw
    return torch.einsum("qk,qyx->kyx", scores.probabilities, masks[:, :height, :width])


def test_rows_are_those_of_the_whole_map():
    scores = queries()
    whole = plain_scores(scores)
    for first, last in ((0, 57), (0, 1), (3, 9), (17, 40), (56, 57)):
        torch.testing.assert_close(scores.rows(first, last), whole[:, first:last])


@pytest.mark.parametrize("size_hw", [(57, 90), (200, 333), (31, 40), (1, 1), (3, 500)])
def test_full_scores_are_torch_s_bilinear_resizing(size_hw):
    scores = queries()
    expected = F.interpolate(plain_scores(scores)[None], size_hw, mode="bilinear")[0]
    torch.testing.assert_close(full_scores(scores, size_hw), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("length", "source"), [(7, 7), (30, 7), (3, 8), (1, 5), (5, 1)])
def test_interpolation_without_padding_is_torch_s(length, source):
    values = torch.randn(1, 1, source)
    expected = F.interpolate(values, length, mode="linear", align_corners=False)
    actual = interpolation(length, source, source) @ values[0, 0]
    torch.testing.assert_close(actual, expected[0, 0])


def test_padding_is_left_out():
    # 8 numbers of which the photo covers 6: stretching them over 12 pixels halves the step.
    values = torch.arange(8.0)
    expected = (torch.arange(12) + 0.5) * 0.5 - 0.5
    actual = interpolation(12, 8, 6.0) @ values
    torch.testing.assert_close(actual, expected.clamp(min=0))


@pytest.mark.parametrize("classes", [1, 3, 40, 300])
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("size_hw", [(131, 97), (20, 17)])
def test_labels_and_confidence_are_those_of_the_full_scores(classes, other, size_hw):
    scores = GridScores(smooth(classes + 1, 20, 30), (18.6, 29.1))
    full = full_scores(scores, size_hw)
    rivals = full if other else full[:-1]
    labels, confidence = label_map(scores, size_hw, other)
    best = rivals.amax(0)
    chosen = rivals.gather(0, labels[None].long())[0]
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
    labels, confidence = label_map(mostly_nothing, (5, 5), other=True)
    assert (labels == 2).all()
    torch.testing.assert_close(confidence, torch.full((5, 5), 0.6))


def test_nothing_covered_has_no_confidence():
    scores = QueryScores(torch.tensor([[0.5, 0.5]]), torch.full((1, 8, 8), -200.0), (32, 32))
    _, confidence = label_map(scores, (4, 4))
    assert (confidence == 0).all()


def test_score_map_of_a_batch():
    logits = torch.randn(2, 6, 4)
    grid = score_map(DeOPOutput(None, logits, (2, 3)), 1, (30, 40), patch=16)
    assert isinstance(grid, GridScores)
    assert grid.span_hw == (30 / 16, 40 / 16)
    torch.testing.assert_close(
        grid.rows(1, 2)[:, 0], logits[1].softmax(-1)[3:].T
    )  # patches 3, 4, 5 are the second row
    masks = torch.randn(2, 6, 8, 8)
    proposals = score_map(DeOPOutput(masks, logits, (2, 3)), 0, (30, 32), patch=16)
    assert isinstance(proposals, QueryScores)
    assert proposals.size_hw == (30, 32)
    torch.testing.assert_close(proposals.mask_logits, masks[0])


def test_masks_from_elsewhere_add_up_and_what_none_covers_is_unlabelled():
    masks = torch.zeros(3, 4, 6, dtype=torch.bool)
    masks[0, :, :3], masks[1, :2, 2:4], masks[2, 3, 5] = True, True, True
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.1, 0.1, 0.8]])
    scores = MaskScores(probabilities, masks)
    full = full_scores(scores, (4, 6))
    torch.testing.assert_close(full[:, 3, 0], probabilities[0])
    torch.testing.assert_close(full[:, 0, 2], probabilities[0] + probabilities[1])
    assert (full[:, 3, 4] == 0).all()
    labels, confidence = label_map(scores, (4, 6))
    assert labels.tolist() == [
        [0, 0, 1, 1, -1, -1],
        [0, 0, 1, 1, -1, -1],
        [0, 0, 0, -1, -1, -1],
        [0, 0, 0, -1, -1, 0],
    ]
    assert confidence[3, 5] == pytest.approx(0.1)
    assert confidence[0, 5] == 0
    assert label_map(scores, (4, 6), other=True)[0][3, 5] == 2
