"""Several looks at one photo, and their mean."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import SMALL_SAN

from ovseg_cli.model.network import NetworkOutput, every_patch
from ovseg_cli.model.score_map import GridScores, QueryScores, full_scores, score_map
from ovseg_cli.model.tiles import Tile, TiledScores
from ovseg_cli.model.views import MeanScores, mean, unmirrored
from ovseg_cli.scoring import Scorer


def queries(seed: int, size_hw: tuple[int, int]) -> QueryScores:
    torch.manual_seed(seed)
    masks = torch.randn(5, size_hw[0] // 4, size_hw[1] // 4)
    return QueryScores(torch.rand(5, 4).softmax(-1), masks, size_hw)


def test_a_mirrored_grid_is_turned_back():
    """A network that names each patch by its brightness, shown photos in a mirror."""
    images = torch.rand(2, 6, 8)
    shown = images.flip(-1).flatten(1)
    logits = torch.stack([shown, -shown], -1)
    output = unmirrored(NetworkOutput(None, logits, (6, 8)))
    scores = score_map(output, 1, (6, 8), 1)
    expected = torch.stack([images[1], -images[1]]).softmax(0)
    torch.testing.assert_close(scores.rows(0, 6), expected)


class Brightness(torch.nn.Module):
    """Names each patch of 20 pixels by its brightness, and leaves out what fills none."""

    config = replace(
        SMALL_SAN,
        proposals="grid",
        visual=replace(SMALL_SAN.visual, patch_size=14),
        clip_scale=0.7,
    )

    def prepare(self, masks):
        pass

    def forward(self, images, text):
        means = F.avg_pool2d(images.mean(1, keepdim=True), 20)
        logits = torch.stack([means, -means], -1)[:, 0]
        return every_patch(logits)


def test_the_patches_of_a_mirrored_photo_show_the_same_pixels():
    """Of 96 columns they cover 80; in the mirror they were 16 pixels further to the right."""
    scorer = Scorer(Brightness(), torch.device("cpu"), "fp32")
    images = torch.rand(2, 3, 64, 96)
    plain, mirrored = (scorer._pass(images, None, way).class_logits for way in (False, True))
    torch.testing.assert_close(mirrored, plain)


def test_mirrored_masks_are_turned_back():
    masks = torch.rand(1, 3, 4, 6)
    output = NetworkOutput(masks.flip(-1), torch.rand(1, 3, 2), (2, 3))
    assert torch.equal(unmirrored(output).mask_logits, masks)


@pytest.mark.parametrize("other_hw", [(32, 48), (24, 36)])
def test_the_mean_of_sums_over_regions(other_hw):
    one, other = queries(1, (32, 48)), queries(2, other_hw)
    found = mean([one, other])
    assert isinstance(found, QueryScores) == (other_hw == (32, 48))
    expected = (full_scores(one, (32, 48)) + full_scores(other, (32, 48))) / 2
    torch.testing.assert_close(full_scores(found, (32, 48)), expected)


def test_masks_that_cover_inputs_of_other_sizes_are_not_thrown_together():
    one, other = queries(1, (32, 48)), replace(queries(2, (32, 48)), input_hw=(33, 50))
    found = mean([one, other])
    assert not isinstance(found, QueryScores)
    expected = (full_scores(one, (32, 48)) + full_scores(other, (32, 48))) / 2
    torch.testing.assert_close(full_scores(found, (32, 48)), expected)
    alike = replace(queries(1, (32, 48)), input_hw=(33, 50))
    assert mean([alike, other]).input_hw == (33, 50)


def test_a_map_of_another_size_is_read_where_the_first_has_its_numbers():
    """Scores that rise linearly along a photo of 40×80 are the same on every grid, edges aside."""

    def rising(height: int, width: int, span_hw: tuple[float, float]) -> GridScores:
        y = (torch.arange(height) + 0.5) / span_hw[0]
        x = (torch.arange(width) + 0.5) / span_hw[1]
        share = (y[:, None] + 2 * x) / 3
        return GridScores(torch.stack([share, 1 - share]), span_hw)

    large, small = rising(12, 24, (10, 20)), rising(7, 14, (6.25, 12.5))
    found = mean([large, small])
    assert isinstance(found, GridScores)
    assert (found.size_hw, found.span_hw) == ((12, 24), (10, 20))
    inner = slice(None), slice(1, 9), slice(1, 19)
    torch.testing.assert_close(found.probabilities[inner], large.probabilities[inner])
    padded = rising(12, 24, (6, 12))  # as many numbers, of which the photo covers fewer
    found = mean([large, padded])
    torch.testing.assert_close(found.probabilities[inner], large.probabilities[inner])


def test_a_mean_can_be_read_a_few_rows_at_a_time():
    one, other = queries(1, (32, 48)), queries(2, (24, 36))
    scores = MeanScores([one, other])
    whole = scores.rows(0, 32)
    parts = torch.cat([scores.rows(0, 7), scores.rows(7, 20), scores.rows(20, 32)], 1)
    torch.testing.assert_close(parts, whole)


def test_the_mean_of_maps_made_of_windows():
    weights = torch.ones(4), torch.ones(6)
    shares = [torch.tensor([share, 1 - share])[:, None, None] for share in (0.2, 0.6)]
    parts = [GridScores(share.expand(2, 4, 6), (4, 6)) for share in shares]
    maps = [TiledScores([Tile(part, 0, 0, *weights)], (4, 6), (4, 6)) for part in parts]
    expected = torch.tensor([0.4, 0.6])[:, None, None].expand(2, 2, 6)  # of one name
    torch.testing.assert_close(mean(maps).rows(1, 3), expected)
    torch.testing.assert_close(mean([mean(maps), *maps]).rows(1, 3), expected)


def test_the_mean_of_patches():
    """By hand: the names have (0.8 + 0.2) / 2 of the mass, and what of it each has is as the first
    look says, whose mass is four times the second's: (3/4)^0.8 (1/2)^0.2 : (1/4)^0.8 (1/2)^0.2."""
    looks = [torch.tensor(p)[:, None, None] for p in ([0.6, 0.2, 0.2], [0.1, 0.1, 0.8])]
    found = mean([GridScores(look, (1, 1)) for look in looks]).probabilities[:, 0, 0]
    ratio = 3**0.8
    expected = [0.5 * ratio / (1 + ratio), 0.5 / (1 + ratio), 0.5]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_the_mean_of_patches_that_rule_something_out():
    """Against the definition in double precision; a look alone, and alike ones, change nothing."""
    torch.manual_seed(0)
    looks = [(3 * torch.randn(5, 3, 4)).softmax(0) for _ in range(3)]
    looks[1][2] = 0
    looks[1] /= looks[1].sum(0)
    looks[2][:4, 0, 0], looks[2][4, 0, 0] = 0, 1  # none of the names at all
    p = np.stack(looks).astype(np.float64)[:, :-1].clip(1e-20)
    mass = p.sum(1, keepdims=True)
    product = ((p / mass) ** (mass / mass.sum(0))).prod(0)
    expected = product / product.sum(0) * mass.mean(0)
    found = mean([GridScores(look, (3, 4)) for look in looks]).probabilities
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[:-1].numpy(), expected, atol=1e-6)
    torch.testing.assert_close(found.sum(0), torch.ones(3, 4))
    torch.testing.assert_close(mean([GridScores(looks[0], (3, 4))] * 3).probabilities, looks[0])
    void = torch.zeros(5, 1, 1)
    void[-1] = 1
    assert mean([GridScores(void, (1, 1))] * 2).probabilities.isfinite().all()
