"""Large inputs in windows: where they lie, and their scores blended into one map without seams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ovseg_cli.model.score_map import ScoreMap


def window_starts(length: int, window: int, overlap: float, step: int) -> list[int]:
    """Where windows begin along an axis of `length` pixels so that they cover it.

    window: their length, a multiple of `step`, as `length` and all starts are; overlap: the share
    of a window that the next one covers again, at least, 0..1. The last one ends where the axis
    does.
    """
    if length <= window:
        return [0]
    advance = max(step, int(window * (1 - overlap)) // step * step)
    return [*range(0, length - window, advance), length - window]


@dataclass(frozen=True, eq=False)
class Tile:
    """The scores of one window, and where its first number lies in the whole map."""

    scores: ScoreMap
    top: int
    left: int


@dataclass(frozen=True, eq=False)
class TiledScores:
    """One map of many windows: a mean in which a window counts less towards its edges.

    A network sees least around the edge of a window, and a hard change from one window to the next
    would show; so a window's weight falls linearly to zero within `margin` numbers of its edges.
    """

    tiles: Sequence[Tile]
    margin: tuple[float, float]  # along height and width, numbers of the map
    size_hw: tuple[int, int]
    span_hw: tuple[float, float]

    @property
    def channels(self) -> int:
        """K+1."""
        return self.tiles[0].scores.channels

    def rows(self, first: int, last: int) -> Tensor:
        """See `ScoreMap`."""
        like = self.tiles[0].scores.rows(0, 1)
        total = like.new_zeros(self.channels, last - first, self.size_hw[1])
        weight = like.new_zeros(last - first, self.size_hw[1])
        for tile in self.tiles:
            height, width = tile.scores.size_hw
            above, below = max(first, tile.top), min(last, tile.top + height)
            if above >= below:
                continue
            part = tile.scores.rows(above - tile.top, below - tile.top)
            down = _ramp(height, self.margin[0])[above - tile.top : below - tile.top]
            share = torch.outer(down, _ramp(width, self.margin[1])).to(like)
            rows, columns = slice(above - first, below - first), slice(tile.left, tile.left + width)
            total[:, rows, columns] += part * share
            weight[rows, columns] += share
        return total / weight


def _ramp(length: int, margin: float) -> Tensor:
    """Weights (length,) in (0, 1]: 1 in the middle, falling within `margin` of both ends."""
    place = torch.arange(length) + 0.5
    distance = torch.minimum(place, length - place)
    return (distance / max(margin, 0.5)).clamp(max=1)
