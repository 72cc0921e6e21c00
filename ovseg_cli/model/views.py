"""Test-time augmentation: looks at one photo in a mirror, larger and smaller; their mean map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce

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
from ovseg_cli.model.tiles import TiledScores

_LEAST = 1e-20  # of a probability, so that it has a logarithm


def unmirrored(output: NetworkOutput) -> NetworkOutput:
    """What a network says of mirrored images, turned back to how the photos are."""
    if output.mask_logits is not None:
        return replace(output, mask_logits=output.mask_logits.flip(-1))
    logits = output.class_logits.unflatten(1, output.grid_hw).flip(2).flatten(1, 2)
    return replace(output, class_logits=logits)


def mean(maps: Sequence[ScoreMap]) -> ScoreMap:
    """The mean of several maps of one photo, at the size of the first.

    Where a patch has one distribution over the classes it is that of `mean_of_patches`; of sums
    over regions, which are no distributions, the arithmetic one.
    """
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
        return GridScores(PatchMeanScores(maps).rows(0, base.size_hw[0]), base.span_hw)
    if isinstance(base, Sharp):
        return SharpMeanScores(maps)
    of_patches = isinstance(base, TiledScores | PatchMeanScores)
    return PatchMeanScores(maps) if of_patches else MeanScores(maps)


def mean_of_patches(distributions: Iterable[Tensor], dim: int) -> Tensor:
    """The mean of distributions over K classes and R, the non-object mass, which comes last.

    With m the mass that a look gives to all names, they have the mean of m, and share it as in the
    geometric mean of p_k / m, a look counting as much as its m. So a look that is sure that it is
    not this name says more than in the arithmetic mean; one that sees none of them does not. A look
    alone stays as it is. (weights/EXPERIMENTS.md, "Looks at a photo".)
    """
    count, rest, total, logs = 0, *torch.zeros(3)
    for distribution in distributions:
        classes = distribution.shape[dim] - 1
        names = distribution.narrow(dim, 0, classes).clamp(min=_LEAST)  # a copy
        mass = names.sum(dim, keepdim=True)
        logs = logs + names.log_().mul_(mass)  # of p: log m is the same for all names
        total = total + mass
        rest = rest + distribution.narrow(dim, classes, 1)
        count += 1
    if count == 1:
        return distribution
    shares = (logs / total).softmax(dim).mul_(total / count)
    return torch.cat([shares, rest / count], dim)


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
        return reduce(torch.add, self._read_all(first, last)) / len(self.maps)

    def _read_all(self, first: int, last: int) -> Iterator[Tensor]:
        """Of each map what it has at the places of some rows of the first."""
        return (self._read(scores, first, last) for scores in self.maps)

    def _read(self, scores: ScoreMap, first: int, last: int) -> Tensor:
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
class PatchMeanScores(MeanScores):
    """The same of maps that have one distribution over the classes at each number."""

    def rows(self, first: int, last: int) -> Tensor:
        """See `ScoreMap`."""
        return mean_of_patches(self._read_all(first, last), 0)


@dataclass(frozen=True, eq=False)
class SharpMeanScores(MeanScores):
    """Of a photo's size mask logits are interpolated, not scores."""

    def at(self, size_hw: tuple[int, int]) -> MeanScores:
        """The scores at a photo's own size."""
        return MeanScores([sharpened(scores, size_hw) for scores in self.maps])
