"""Refinement along edges, against the definition pixel by pixel."""

import math

import pytest
import torch

from ovseg_cli.model.label_map import label_map
from ovseg_cli.model.pamr import affinity, refine, refined
from ovseg_cli.model.score_map import GridScores, MaskScores, full_scores
from ovseg_cli.segmentation import UNLABELED

DILATIONS = (1, 3)


def slow_step(scores, image, dilations):
    """One step, with every neighbour of every pixel looked up on its own."""
    channels, height, width = image.shape
    result = torch.zeros_like(scores)

    def at(maps, y, x):
        return maps[:, min(max(y, 0), height - 1), min(max(x, 0), width - 1)].tolist()

    for y in range(height):
        for x in range(width):
            places = [
                (y + i * d, x + j * d) for d in dilations for i in (-1, 0, 1) for j in (-1, 0, 1)
            ]
            own = at(image, y, x)
            spread = []
            for c in range(channels):
                window = [at(image, *place)[c] for place in places]
                mean = sum(window) / len(window)
                squares = sum((value - mean) ** 2 for value in window)
                spread.append(math.sqrt(squares / (len(window) - 1)))
            neighbours = [place for place in places if place != (y, x)]
            kernel = []
            for place in neighbours:
                other = at(image, *place)
                distance = [abs(own[c] - other[c]) / (0.1 * spread[c] + 1e-8) for c in range(3)]
                kernel.append(math.exp(-sum(distance) / 3))
            for weight, place in zip(kernel, neighbours, strict=True):
                for k, value in enumerate(at(scores, *place)):
                    result[k, y, x] += weight / sum(kernel) * value
    return result


@pytest.fixture
def photo():
    torch.manual_seed(0)
    return 255 * torch.rand(3, 6, 8)


def test_steps_are_those_of_the_definition(photo):
    scores = torch.rand(2, 6, 8)
    expected = slow_step(slow_step(scores, photo, DILATIONS), photo, DILATIONS)
    torch.testing.assert_close(refine(scores, photo, 2, DILATIONS), expected, atol=1e-5, rtol=1e-4)


def test_weights_add_up_to_one_and_do_not_depend_on_the_normalisation(photo):
    weights = affinity(photo, DILATIONS)
    torch.testing.assert_close(weights.sum(0), torch.ones(6, 8))
    mean, std = torch.tensor([120.0, 110, 100]), torch.tensor([58.0, 57, 56])
    normalised = (photo - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(affinity(normalised, DILATIONS), weights, atol=1e-4, rtol=1e-3)


def test_an_edge_of_the_photo_becomes_the_edge_of_the_scores():
    """Left black, right white; the scores' own edge lies two pixels too far to the left."""
    photo = torch.zeros(3, 8, 16)
    photo[..., 8:] = 255.0
    scores = torch.zeros(2, 8, 16)
    scores[0, :, :6] = scores[1, :, 6:] = 1.0
    labels = refine(scores, photo, 20, (1, 2)).argmax(0)
    assert (labels[:, :8] == 0).all()
    assert (labels[:, 8:] == 1).all()


def test_a_flat_photo_is_smoothed_evenly():
    scores = torch.zeros(1, 5, 5)
    scores[0, 2, 2] = 8.0
    found = refine(scores, torch.full((3, 5, 5), 7.0), 1, (1,))
    expected = torch.ones(5, 5)
    expected[0] = expected[-1] = expected[:, 0] = expected[:, -1] = expected[2, 2] = 0
    torch.testing.assert_close(found[0], expected)


def test_classes_that_win_nowhere_share_their_mass(photo):
    """Class 1 never wins; the sum over all classes stays what smoothing makes of it."""
    grid = torch.rand(4, 3, 4)
    grid[1] *= 0.01
    grid[2] += 1
    grid[0, :, :2] += 3
    scores = refined(GridScores(grid, (3, 4)), photo)
    assert (scores.channels, scores.size_hw, scores.span_hw) == (4, (6, 8), (6, 8))
    assert scores.held.tolist() == [0, 2, 3]
    full = full_scores(GridScores(grid, (3, 4)), (6, 8))
    expected = refine(full, photo)
    torch.testing.assert_close(scores.rows(0, 6), expected)
    torch.testing.assert_close(scores.rows(2, 5)[1], expected[1, 2:5])


def test_what_no_mask_covers_holds_the_non_object_mass_once():
    masks = torch.zeros(1, 3, 4)
    masks[0, :, :2] = 1
    scores = refined(MaskScores(torch.tensor([[0.6, 0.3, 0.1]]), masks), torch.rand(3, 3, 4))
    assert scores.held.tolist() == [0, 2]


def test_what_no_mask_covers_stays_without_a_label():
    masks = torch.zeros(1, 8, 12)
    masks[0, 2:6, :5] = 1
    scores = refined(MaskScores(torch.tensor([[0.6, 0.3, 0.1]]), masks), torch.rand(3, 8, 12))
    labels, _ = label_map(scores, (8, 12))
    assert (labels == torch.where(masks[0] > 0, 0, UNLABELED)).all()


def test_a_thin_mask_keeps_its_class():
    """A column of one pixel, of whose mass its class has the most and seven others share the rest:
    class 1 was what remained of it, being the first that wins nowhere."""
    masks = torch.zeros(1, 8, 12)
    masks[0, :, 5] = 1
    probabilities = torch.tensor([[0.12, *[0.11] * 7, 0.11]])
    scores = refined(MaskScores(probabilities, masks), torch.rand(3, 8, 12))
    labels, _ = label_map(scores, (8, 12))
    assert (labels[:, 5] == 0).all()
