"""Test-time augmentation: looks at one photo in a mirror, larger and smaller; their mean map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ovseg_cli.model.interpolation import centres, linear, support
from ovseg_cli.model.network import NetworkOutput
from ovseg_cli.model.score_map import (
    GridScores,
    QueryScores,
    ScoreMap,
    Sharp,
    sharpened,
)


def unmirrored(output: NetworkOutput) -> NetworkOutput:
    """What a network says of mirrored images, turned back to how the photos are."""
    if output.mask_logits is not None:
        return replace(output, mask_logits=output.mask_logits.flip(-1))
    logits = output.class_logits.unflatten(1, output.grid_hw).flip(2).flatten(1, 2)
    return replace(output, class_logits=logits)


def mean(maps: Sequence[ScoreMap]) -> ScoreMap:
    """The mean of several maps of one photo, at the size of the first."""
    base = maps[0]
    if len(maps) == 1:
        return base
    if isinstance(base, QueryScores):
        alike = [m for m in maps if isinstance(m, type(base)) and m.places == base.places]
        if len(alike) == len(maps):  # a mean of sums over regions is a sum over all their regions
            return replace(
                base,
                probabilities=torch.cat([m.probabilities for m in alike]) / len(alike),
                mask_logits=torch.cat([m.mask_logits for m in alike]),
            )
    if isinstance(base, GridScores):  # small enough to be held
        return GridScores(MeanScores(maps).rows(0, base.size_hw[0]), base.span_hw)
    return SharpMeanScores(maps) if isinstance(base, Sharp) else MeanScores(maps)


@dataclass(frozen=True, eq=False)
class MeanScores:
    """Each map read at the places of the first one's numbers."""

    maps: Sequence[ScoreMap]

    @property
    def channels(self) -> int:
        """K+1."""
        return self.maps[0].channels

    @property
    def size_hw(self) -> tuple[int, int]:
        """Of the first map."""
        return self.maps[0].size_hw

    @property
    def span_hw(self) -> tuple[float, float]:
        """Of the first map."""
        return self.maps[0].span_hw

    def rows(self, first: int, last: int) -> Tensor:
        """See `ScoreMap`."""
        base, *others = self.maps
        total = base.rows(first, last).clone()
        for scores in others:
            total += self._read(scores, first, last)
        return total / len(self.maps)

    def _read(self, scores: ScoreMap, first: int, last: int) -> Tensor:
        """Another map at the places of some rows of the first."""
        if (scores.size_hw, scores.span_hw) == (self.size_hw, self.span_hw):
            return scores.rows(first, last)
        down, across = (
            linear(centres(0, length, span / own), source)
            for length, own, span, source in zip(
                self.size_hw, self.span_hw, scores.span_hw, scores.size_hw, strict=True
            )
        )
        start, end, weights = support(down[first:last])
        part = scores.rows(start, end)
        read: Tensor = weights.to(part) @ part @ across.T.to(part)
        return read


@dataclass(frozen=True, eq=False)
class SharpMeanScores(MeanScores):
    """Of a photo's size mask logits are interpolated, not scores."""

    def at(self, size_hw: tuple[int, int]) -> MeanScores:
        """The scores at a photo's own size."""
        return MeanScores([sharpened(scores, size_hw) for scores in self.maps])
