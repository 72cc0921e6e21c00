"""Windows over large inputs."""

import pytest
import torch

from ovseg_cli.model.score_map import GridScores
from ovseg_cli.model.tiles import Tile, TiledScores, window_starts


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


def tiled(whole, starts_y, starts_x, window, margin=2.0):
    tiles = [
        Tile(GridScores(whole[:, y : y + window, x : x + window], (window, window)), y, x)
        for y in starts_y
        for x in starts_x
    ]
    size = (whole.shape[1], whole.shape[2])
    return TiledScores(tiles, (margin, margin), size, size)


def test_windows_that_agree_give_the_whole_again():
    whole = whole_map(14, 20)
    scores = tiled(whole, (0, 3, 6), (0, 5, 12), 8)
    assert scores.channels == 3
    torch.testing.assert_close(scores.rows(0, 14), whole)
    torch.testing.assert_close(scores.rows(5, 9), whole[:, 5:9])


def test_windows_that_disagree_are_blended_without_a_step():
    """Two windows of 8, one all 0 and one all 1, that share 4 columns."""
    zero, one = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
    tiles = [Tile(GridScores(zero, (8, 8)), 0, 0), Tile(GridScores(one, (8, 8)), 0, 4)]
    scores = TiledScores(tiles, (4.0, 4.0), (8, 12), (8, 12)).rows(0, 8)[0]
    assert (scores[:, :4] == 0).all() and (scores[:, 8:] == 1).all()
    # Weights 7, 5, 3, 1 eighths against 1, 3, 5, 7.
    for row in scores[:, 4:8]:
        assert row.tolist() == pytest.approx([1 / 8, 3 / 8, 5 / 8, 7 / 8])
