"""Windows over large inputs."""

import pytest
import torch

from ovseg_cli.model.score_map import GridScores, SharpQueryScores, full_scores
from ovseg_cli.model.tiles import SharpTiledScores, Tile, TiledScores, ramp, window_starts


@pytest.mark.parametrize("length", [32, 64, 96, 160, 224, 640, 1024])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_windows_cover_the_axis_and_overlap(length, overlap):
    starts = window_starts(length, 96, overlap, 32)
    assert starts == sorted(set(starts))
    assert all(start % 32 == 0 for start in starts)
    assert starts[0] == 0
    if length <= 96:
        assert starts == [0]
        return
    assert starts[-1] + 96 == length
    for one, other in zip(starts, starts[1:], strict=False):
        shared = one + 96 - other
        assert shared >= min(96 * overlap, 64)  # they move on by 32 at least


def whole_map(height, width):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows + 0.25 * columns, 10.0 - rows.float(), rows * columns % 5.0])


def tile(part, top, left, margin):
    height, width = part.shape[1:]
    down, across = (ramp(torch.arange(n) + 0.5, n, margin) for n in (height, width))
    return Tile(GridScores(part, (height, width)), top, left, down, across)


def tiled(whole, starts_y, starts_x, window, margin=2.0):
    tiles = [
        tile(whole[:, y : y + window, x : x + window], y, x, margin)
        for y in starts_y
        for x in starts_x
    ]
    size = (whole.shape[1], whole.shape[2])
    return TiledScores(tiles, size, size)


def test_windows_that_agree_give_the_whole_again():
    whole = whole_map(14, 20)
    scores = tiled(whole, (0, 3, 6), (0, 5, 12), 8)
    assert scores.channels == 3
    torch.testing.assert_close(scores.rows(0, 14), whole)
    torch.testing.assert_close(scores.rows(5, 9), whole[:, 5:9])


def test_windows_that_disagree_are_blended_without_a_step():
    """Two windows of 8, one all 0 and one all 1, that share 4 columns."""
    zero, one = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
    tiles = [tile(zero, 0, 0, 4.0), tile(one, 0, 4, 4.0)]
    scores = TiledScores(tiles, (8, 12), (8, 12)).rows(0, 8)[0]
    assert (scores[:, :4] == 0).all() and (scores[:, 8:] == 1).all()
    # Weights 7, 5, 3, 1 eighths against 1, 3, 5, 7.
    for row in scores[:, 4:8]:
        assert row.tolist() == pytest.approx([1 / 8, 3 / 8, 5 / 8, 7 / 8])


def sharp_tiles(logits, probabilities, valid_hw, starts, window, stride=16, margin=8.0):
    """The windows of one input, as they are where a network sees the same in each."""
    places = ramp(torch.arange(window) + 0.5, window, margin)
    tiles = [
        Tile(
            SharpQueryScores(
                probabilities,
                logits[:, y // stride : (y + window) // stride][
                    ..., x // stride : (x + window) // stride
                ],
                (window, window),
                stride,
            ),
            *(y, x, places, places),
        )
        for y in starts
        for x in starts
    ]
    whole = (logits.shape[1] * stride, logits.shape[2] * stride)
    return SharpTiledScores(tiles, whole, valid_hw, (margin, margin))


@pytest.mark.parametrize("size_hw", [(300, 217), (31, 40), (5, 3)])
def test_one_window_is_the_untiled_way(size_hw):
    draw = torch.Generator().manual_seed(1)
    logits = 4 * torch.randn(5, 6, 6, generator=draw)
    probabilities = torch.rand(5, 4, generator=draw)
    whole = full_scores(SharpQueryScores(probabilities, logits, (96, 84), 16), size_hw)
    scores = sharp_tiles(logits, probabilities, (96, 84), [0], 96)
    torch.testing.assert_close(full_scores(scores, size_hw), whole, atol=1e-5, rtol=1e-5)
    interpolated = full_scores(TiledScores(scores.tiles, (96, 96), (96, 84)), size_hw)
    assert (interpolated - whole).abs().max() > 1e-3  # the test can tell


@pytest.mark.parametrize("size_hw", [(200, 190), (571, 443), (100, 80), (3, 2)])
def test_sharp_windows_that_agree_give_the_whole_again(size_hw):
    """But for the windows' edges, where borders are repeated and weights are small."""
    y, x = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    logits = torch.stack([(y - 6) / 2, (6 - x) / 2, (x + y - 14) / 2])
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    valid_hw = (210, 200)
    whole = full_scores(SharpQueryScores(probabilities, logits, valid_hw, 16), size_hw)
    scores = sharp_tiles(logits, probabilities, valid_hw, [0, 64, 112], 112, margin=28.0)
    found = full_scores(scores, size_hw)
    torch.testing.assert_close(found, whole, atol=0.005, rtol=0)
