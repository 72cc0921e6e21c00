"""Where a mask's loss is taken."""

import numpy as np
import torch
import torch.nn.functional as F

from ovseg_cli.training.points import all_pixels, doubtful_points


def test_all_pixels_are_those_of_the_maps():
    logits, masks = torch.randn(2, 4, 6), (torch.rand(2, 8, 12) > 0.5).float()
    found, truth = all_pixels(logits, masks)
    expected = F.interpolate(logits[None], (8, 12), mode="bilinear")[0]
    assert torch.equal(found, expected.flatten(1))
    assert torch.equal(truth, masks.flatten(1))


def test_points_see_logits_and_truth_at_one_place():
    """Both maps tell the column: the logits by a ramp, the truth by stripes."""
    logits = (torch.arange(32) - 15.5).expand(3, 32, 32).contiguous()
    stripes = torch.arange(64).expand(3, 64, 64).float()
    found, column = doubtful_points(200, np.random.default_rng(0), logits, stripes)
    assert found.shape == column.shape == (3, 200)
    # Column c of 64 lies at (c + ½) / 2 − ½ of 32; the place within it is not known.
    torch.testing.assert_close(
        found, ((column + 0.5) / 2 - 16).clamp(-15.5, 15.5), atol=0.26, rtol=0
    )
    assert len(column.unique()) > 40  # a quarter of the points lies anywhere


def test_three_quarters_are_the_most_doubtful_of_three_times_as_many():
    logits = torch.linspace(-10, 10, 400).view(1, 20, 20)
    (found,) = doubtful_points(400, np.random.default_rng(1), logits)
    # 300 of 1200 points: a quarter of the range around 0, and a quarter of the 100 others there.
    inside = (found.abs() < 2.5).float().mean().item()
    assert 0.72 < inside < 0.9
    everywhere = torch.linspace(-10, 10, 400).abs().lt(2.5).float().mean().item()
    assert everywhere < 0.3


def test_they_are_as_the_generator_draws_them():
    logits = torch.randn(2, 9, 9)
    one, same, other = (
        doubtful_points(30, np.random.default_rng(seed), logits)[0] for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
