"""Scores of pixels against the plain way: everything at full size."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_models import CLIP, SMALL_SAN

from ovseg_cli.model.build import build
from ovseg_cli.model.label_map import label_map
from ovseg_cli.model.network import NetworkOutput, TextFeatures
from ovseg_cli.model.score_map import (
    GridScores,
    MaskScores,
    QueryScores,
    SharpQueryScores,
    class_maps,
    full_scores,
    score_map,
)


def queries(channels: int = 6, count: int = 7) -> QueryScores:
    """Proposals of a 64×96 input of which 57×90 pixels are photo."""
    return QueryScores(
        (torch.randn(count, channels) * 3).softmax(-1), torch.randn(count, 16, 24) * 4, (57, 90)
    )


def plain_scores(scores: QueryScores) -> torch.Tensor:
    """S, the sum over regions of p times mask, at the network's size, in one go."""
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


def test_score_map_of_a_batch():
    logits = torch.randn(2, 6, 4)
    grid = score_map(NetworkOutput(None, logits, (2, 3)), 1, (30, 40), patch=16)
    assert isinstance(grid, GridScores)
    assert grid.span_hw == (30 / 16, 40 / 16)
    torch.testing.assert_close(
        grid.rows(1, 2)[:, 0], logits[1].softmax(-1)[3:].T
    )  # patches 3, 4, 5 are the second row
    masks = torch.randn(2, 6, 8, 8)
    proposals = score_map(NetworkOutput(masks, logits, (2, 3)), 0, (30, 32), patch=16)
    assert isinstance(proposals, QueryScores)
    assert proposals.size_hw == (30, 32)
    torch.testing.assert_close(proposals.mask_logits, masks[0])
    odd = NetworkOutput(masks, logits, (2, 3), input_hw=(30, 32))
    assert score_map(odd, 0, (30, 32), patch=16).steps == (3.75, 4.0)


def test_masks_from_elsewhere_add_up():
    masks = torch.zeros(3, 4, 6, dtype=torch.bool)
    masks[0, :, :3], masks[1, :2, 2:4], masks[2, 3, 5] = True, True, True
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.1, 0.1, 0.8]])
    scores = MaskScores(probabilities, masks)
    full = full_scores(scores, (4, 6))
    torch.testing.assert_close(full[:, 3, 0], probabilities[0])
    torch.testing.assert_close(full[:, 0, 2], probabilities[0] + probabilities[1])
    assert (full[:, 3, 4] == 0).all()


@pytest.mark.parametrize("size_hw", [(57, 90), (15, 23), (130, 200)])
def test_maps_of_some_classes_at_another_size(size_hw):
    scores = queries()
    full = full_scores(scores, size_hw)
    maps, total = class_maps(scores, torch.tensor([4, 0]), size_hw)
    torch.testing.assert_close(maps, full[[4, 0]], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(total, full.sum(0), atol=1e-5, rtol=1e-4)
    grid = GridScores(scores.rows(0, 57), (57, 90))
    again, total_again = class_maps(grid, torch.tensor([4, 0]), size_hw)
    torch.testing.assert_close(again, maps, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(total_again, total, atol=1e-5, rtol=1e-4)


def uneven(channels: int = 6, count: int = 7) -> QueryScores:
    """Proposals of a 61×94 input, no multiple of their stride, of which 57×90 pixels are photo."""
    return QueryScores(
        (torch.randn(count, channels) * 3).softmax(-1),
        torch.randn(count, 16, 24) * 4,
        (57, 90),
        input_hw=(61, 94),
    )


def test_masks_are_resized_to_the_padded_input_whatever_its_size():
    scores = uneven()
    masks = F.interpolate(scores.mask_logits[None], (61, 94), mode="bilinear")[0].sigmoid()
    whole = torch.einsum("qk,qyx->kyx", scores.probabilities, masks[:, :57, :90])
    for first, last in ((0, 57), (0, 1), (3, 9), (17, 40), (56, 57)):
        torch.testing.assert_close(scores.rows(first, last), whole[:, first:last])
    part = scores.shares(17, 40, 31, 90)
    torch.testing.assert_close(part, masks[:, 17:40, 31:90])
    expected = F.interpolate(whole[None], (130, 200), mode="bilinear")[0]
    torch.testing.assert_close(full_scores(scores, (130, 200)), expected, atol=1e-5, rtol=1e-5)
    labels, _ = label_map(scores, (130, 200))
    assert (labels == expected[:-1].argmax(0)).float().mean() > 0.999


@pytest.mark.parametrize(("config", "size_hw"), [(CLIP, (61, 93)), (SMALL_SAN, (64, 96))])
def test_a_network_says_what_its_masks_cover(config, size_hw):
    model = build(config).eval()
    with torch.inference_mode():
        names = TextFeatures(torch.eye(2, config.joint_width))
        output = model(torch.randn(1, 3, *size_hw), names)
    assert output.input_hw == size_hw
    rows, columns = output.mask_logits.shape[2:]
    scores = score_map(output, 0, size_hw, patch=16)
    assert scores.steps == (size_hw[0] / rows, size_hw[1] / columns)


def test_an_input_of_the_usual_size_is_as_if_it_were_not_given():
    plain = queries()
    given = replace(plain, input_hw=(64, 96))
    assert torch.equal(given.rows(0, 57), plain.rows(0, 57))


def test_sharp_masks_of_an_input_of_any_size():
    scores = replace(sharp(), input_hw=(61, 94))
    masks = F.interpolate(scores.mask_logits[None], (61, 94), mode="bilinear")[..., :57, :90]
    masks = F.interpolate(masks, (130, 200), mode="bilinear")[0].sigmoid()
    expected = torch.einsum("qk,qyx->kyx", scores.probabilities, masks)
    torch.testing.assert_close(full_scores(scores, (130, 200)), expected, atol=1e-5, rtol=1e-5)


def sharp(channels: int = 6, count: int = 7) -> SharpQueryScores:
    """Proposals at stride 16 of a 64×96 input of which 57×90 pixels are photo."""
    return SharpQueryScores(
        (torch.randn(count, channels) * 3).softmax(-1),
        torch.randn(count, 4, 6) * 4,
        (57, 90),
        stride=16,
    )


def test_at_any_stride_rows_are_those_of_the_whole_map():
    scores = sharp()
    masks = F.interpolate(scores.mask_logits[None], scale_factor=16, mode="bilinear")[0].sigmoid()
    whole = torch.einsum("qk,qyx->kyx", scores.probabilities, masks[:, :57, :90])
    for first, last in ((0, 57), (0, 1), (15, 33), (56, 57)):
        torch.testing.assert_close(scores.rows(first, last), whole[:, first:last])


@pytest.mark.parametrize("size_hw", [(57, 90), (200, 333), (31, 40), (1, 1), (3, 500)])
def test_sharp_scores_resize_the_logits_and_take_the_sigmoid_last(size_hw):
    scores = sharp()
    masks = F.interpolate(scores.mask_logits[None], (64, 96), mode="bilinear")[..., :57, :90]
    masks = F.interpolate(masks, size_hw, mode="bilinear")[0].sigmoid()
    expected = torch.einsum("qk,qyx->kyx", scores.probabilities, masks)
    torch.testing.assert_close(full_scores(scores, size_hw), expected, atol=1e-5, rtol=1e-5)
    maps, total = class_maps(scores, torch.tensor([4, 0]), size_hw)
    torch.testing.assert_close(maps, expected[[4, 0]], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(total, expected.sum(0), atol=1e-5, rtol=1e-5)
