"""Large inputs in windows: where they lie, and their scores blended into one map without seams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ovseg_cli.model.interpolation import centres, interpolation, linear
from ovseg_cli.model.score_map import LogitScores, ScoreMap, SharpQueryScores

NEGLIGIBLE = 1e-6  # the weight of a window at its very edge


def window_starts(length: int, window: int, overlap: float, step: int) -> list[int]:
    """Where windows begin along an axis of `length` pixels or patches so that they cover it.

    window: their length, `step` or more; overlap: the share of a window that the next one covers
    again, at least, 0..1. All but the last begin at multiples of `step`; that one ends where the
    axis does.
    """
    if length <= window:
        return [0]
    advance = max(step, int(window * (1 - overlap)) // step * step)
    return [*range(0, length - window, advance), length - window]


def ramp(places: Tensor, length: int, margin: float) -> Tensor:
    """How much a window counts at places (n,) in 0..length: 1 in the middle, less at both ends.

    A network sees least around the edge of a window, and a hard change from one window to the next
    would show; so the weight falls linearly to (almost) zero within `margin` of its ends.
    """
    distance = torch.minimum(places, length - places)
    return (distance / max(margin, 0.5)).clamp(NEGLIGIBLE, 1).float()


@dataclass(frozen=True, eq=False)
class Tile:
    """The scores of one window, where its first number lies in the whole map, and its weights."""

    scores: ScoreMap
    top: int
    left: int
    down: Tensor  # (h,) of its rows, positive
    across: Tensor  # (w,) of its columns


@dataclass(frozen=True, eq=False)
class TiledScores:
    """One map of many windows: their mean by their weights (`ramp`)."""

    tiles: Sequence[Tile]
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
            share = torch.outer(tile.down[above - tile.top : below - tile.top], tile.across)
            share = share.to(like)
            rows, columns = slice(above - first, below - first), slice(tile.left, tile.left + width)
            total[:, rows, columns] += part * share
            weight[rows, columns] += share
        return total / weight


@dataclass(frozen=True, eq=False)
class SharpTiledScores(TiledScores):
    """Windows whose mask logits are interpolated to a photo's size, not their scores."""

    margin: tuple[float, float]  # of `ramp`, along height and width, pixels of the network's input

    def at(self, size_hw: tuple[int, int]) -> TiledScores:
        """The scores at a photo's own size."""
        tiles = (self._tile_at(tile, size_hw) for tile in self.tiles)
        return TiledScores([tile for tile in tiles if tile is not None], size_hw, size_hw)

    def _tile_at(self, tile: Tile, size_hw: tuple[int, int]) -> Tile | None:
        """What a window says of the pixels of the photo that lie in it; None: there are none."""
        assert isinstance(tile.scores, SharpQueryScores)
        masks = tile.scores.mask_logits
        firsts, weights, shares = [], [], []
        for axis, start in enumerate((tile.top, tile.left)):
            length, span = tile.scores.size_hw[axis], self.span_hw[axis]
            # From the window's edge.
            places = centres(0, size_hw[axis], span / size_hw[axis]) + 0.5 - start
            inside = ((places >= 0) & (places <= length)).nonzero()[:, 0]
            if len(inside) == 0:
                return None
            seen = int(min(length, span - start))  # without padding
            upwards = interpolation(seen, masks.shape[1 + axis], seen / tile.scores.steps[axis])
            firsts.append(int(inside[0]))
            weights.append((linear(places[inside] - 0.5, seen) @ upwards).to(masks))
            shares.append(ramp(places[inside], length, self.margin[axis]))
        scores = LogitScores(tile.scores.probabilities, masks, weights[0], weights[1])
        return Tile(scores, firsts[0], firsts[1], shares[0], shares[1])
