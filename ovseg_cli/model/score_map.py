"""From regions and their classes to scores of pixels, as DeOP does (arXiv 2304.01198).

S[k, y, x] = Σ_n p[n, k] · sigmoid(M_n)[y, x] exists at the network's own size, one band of rows at
a time; at the photo's size it exists only where somebody asks for it (`full_scores`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg_cli.model.interpolation import centres, interpolation, linear, support
from ovseg_cli.model.network import NetworkOutput

ROWS = 32  # of a map resized at a time


class ScoreMap(Protocol):
    """Scores of K classes and of R, the non-object mass, at the network's own size.

    Pixel (y, x) of a photo of H×W pixels lies at (y + ½)·span/H − ½ of this map, and bilinearly
    between its numbers.
    """

    @property
    def channels(self) -> int:
        """K+1."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Of the map."""

    @property
    def span_hw(self) -> tuple[float, float]:
        """How much of the map the photo covers; the rest is padding."""

    def rows(self, first: int, last: int) -> Tensor:
        """(K+1, last − first, width) float32, not negative."""


@runtime_checkable
class Sharp(Protocol):
    """Scores that are made at a photo's size, not interpolated from smaller ones."""

    def at(self, size_hw: tuple[int, int]) -> ScoreMap:
        """The scores at a photo's own size."""


@dataclass(frozen=True, eq=False)
class GridScores:
    """Every patch is its own region: S is the patch's own class probabilities."""

    probabilities: Tensor  # (K+1, h, w)
    span_hw: tuple[float, float]

    @property
    def channels(self) -> int:
        return len(self.probabilities)

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.probabilities.shape[1], self.probabilities.shape[2]

    def rows(self, first: int, last: int) -> Tensor:
        """See `ScoreMap`."""
        return self.probabilities[:, first:last]


class RegionScores:
    """S is a sum over regions, each with one distribution over the classes.

    So a class is nowhere stronger than its regions allow, which says beforehand what can win.
    """

    probabilities: Tensor  # (Q, K+1)

    @property
    def channels(self) -> int:
        """K+1."""
        return self.probabilities.shape[1]

    def shares(self, first: int, last: int, start: int = 0, end: int | None = None) -> Tensor:
        """How much of some rows and columns belongs to each region, (Q, ., .) in [0, 1]."""
        raise NotImplementedError

    def rows(self, first: int, last: int) -> Tensor:
        """See `ScoreMap`."""
        return torch.einsum("qk,qyx->kyx", self.probabilities, self.shares(first, last))


@dataclass(frozen=True, eq=False)
class QueryScores(RegionScores):
    """Regions are mask proposals; the map has the size of the network's input, padding cut off."""

    probabilities: Tensor  # (Q, K+1)
    mask_logits: Tensor  # (Q, h, w) at `stride` of the padded input
    size_hw: tuple[int, int]
    stride: int = 4
    input_hw: tuple[int, int] | None = None  # of the padded input; None: `stride` times the masks'

    @property
    def span_hw(self) -> tuple[float, float]:
        return self.size_hw

    @property
    def steps(self) -> tuple[float, float]:
        """Pixels of the padded input for each row and column of the mask logits.

        That is `stride`, unless the input is no multiple of it.
        """
        if self.input_hw is None:
            return self.stride, self.stride
        rows, columns = self.mask_logits.shape[1:]
        return self.input_hw[0] / rows, self.input_hw[1] / columns

    @property
    def places(self) -> tuple[tuple[int, ...], tuple[float, float]]:
        """What two maps have in common whose numbers lie at the same places of a photo."""
        return self.size_hw, self.steps

    def shares(self, first: int, last: int, start: int = 0, end: int | None = None) -> Tensor:
        """See `RegionScores`. The logits are resized, then the sigmoid is taken."""
        end = self.size_hw[1] if end is None else end
        if self.steps != (self.stride, self.stride):
            return self._shares_between(first, last, start, end)
        step = self.stride
        top, left = (max(edge // step - 1, 0) for edge in (first, start))
        # One more on each side to blend with.
        bottom, right = (-(-edge // step) + 1 for edge in (last, end))
        part = self.mask_logits[None, :, top:bottom, left:right]
        part = F.interpolate(part, scale_factor=step, mode="bilinear", align_corners=False)[0]
        y, x = first - step * top, start - step * left
        return part[:, y : y + last - first, x : x + end - start].sigmoid()

    def _shares_between(self, first: int, last: int, start: int, end: int) -> Tensor:
        """The same where the masks are resized by no whole number."""
        (top, bottom, weights_y), (left, right, weights_x) = (
            support(linear(centres(a, b, 1 / step), source))
            for a, b, step, source in zip(
                (first, start), (last, end), self.steps, self.mask_logits.shape[1:], strict=True
            )
        )
        part = self.mask_logits[:, top:bottom, left:right]
        return (weights_y.to(part) @ part @ weights_x.to(part).T).sigmoid_()


@dataclass(frozen=True, eq=False)
class SharpQueryScores(QueryScores):
    """Of a photo's size the mask logits are interpolated, not the scores (arXiv 2302.12242)."""

    def at(self, size_hw: tuple[int, int]) -> LogitScores:
        """The scores at a photo's own size."""
        axes = []
        for length, valid, count, step in zip(
            size_hw, self.size_hw, self.mask_logits.shape[1:], self.steps, strict=True
        ):
            # From the masks to the input without its padding, and from there to the photo.
            upwards = interpolation(valid, count, valid / step)
            axes.append((interpolation(length, valid, valid) @ upwards).to(self.mask_logits))
        return LogitScores(self.probabilities, self.mask_logits, axes[0], axes[1])


@dataclass(frozen=True, eq=False)
class LogitScores(RegionScores):
    """Mask logits on the way to a photo's size, at which the sigmoid is taken."""

    probabilities: Tensor  # (Q, K+1)
    mask_logits: Tensor  # (Q, h, w)
    down: Tensor  # (H, h) weights from the masks' rows to the photo's
    across: Tensor  # (W, w)

    @property
    def size_hw(self) -> tuple[int, int]:
        return len(self.down), len(self.across)

    @property
    def span_hw(self) -> tuple[float, float]:
        return self.size_hw

    def shares(self, first: int, last: int, start: int = 0, end: int | None = None) -> Tensor:
        """See `RegionScores`."""
        top, bottom, weights_y = support(self.down[first:last])
        left, right, weights_x = support(self.across[start:end])
        part = self.mask_logits[:, top:bottom, left:right]
        return (weights_y @ part @ weights_x.T).sigmoid_()


@dataclass(frozen=True, eq=False)
class MaskScores(RegionScores):
    """Regions are masks from elsewhere: S is the sum over the masks that a pixel lies in."""

    probabilities: Tensor  # (Q, K+1)
    masks: Tensor  # (Q, h, w) in [0, 1]

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.masks.shape[1], self.masks.shape[2]

    @property
    def span_hw(self) -> tuple[float, float]:
        return self.size_hw

    def shares(self, first: int, last: int, start: int = 0, end: int | None = None) -> Tensor:
        """See `RegionScores`."""
        return self.masks[:, first:last, start:end].to(self.probabilities)


def score_map(
    output: NetworkOutput, index: int, valid_hw: tuple[int, int], patch: float
) -> ScoreMap:
    """The scores of one photo of a batch.

    valid_hw: the photo's size in the network's input, without padding; patch: side of a patch of
    the visual encoder's grid, input pixels.
    """
    probabilities = output.class_logits[index].float().softmax(-1)  # (Q, K+1)
    if output.mask_logits is not None:
        kind = SharpQueryScores if output.sharp else QueryScores
        logits = output.mask_logits[index].float()
        return kind(probabilities, logits, valid_hw, output.stride, output.input_hw)
    grid = probabilities.T.unflatten(1, output.grid_hw).contiguous()
    return GridScores(grid, (valid_hw[0] / patch, valid_hw[1] / patch))


def sharpened(scores: ScoreMap, size_hw: tuple[int, int]) -> ScoreMap:
    """The map that the scores of a photo of H×W pixels are interpolated from."""
    return scores.at(size_hw) if isinstance(scores, Sharp) else scores


def full_scores(scores: ScoreMap, size_hw: tuple[int, int]) -> Tensor:
    """Scores (K+1, H, W) at a photo's size; the last channel is R. K×H×W numbers: ask sparingly."""
    scores = sharpened(scores, size_hw)
    if isinstance(scores, LogitScores):  # they have this size already
        return scores.rows(0, size_hw[0])
    source = scores.rows(0, scores.size_hw[0])
    down, across = axes(scores, size_hw)
    return down.to(source) @ source @ across.T.to(source)


def class_maps(scores: ScoreMap, ids: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Scores (n, H, W) of some classes `ids` (n,) at another size, and the sum (H, W) over all."""
    scores = sharpened(scores, size_hw)
    like = scores.rows(0, 1)
    down, across = (axis.to(like) for axis in axes(scores, size_hw))
    maps, total = like.new_empty(len(ids), *size_hw), like.new_empty(size_hw)
    for top in range(0, size_hw[0], ROWS):
        rows = slice(top, min(top + ROWS, size_hw[0]))
        if isinstance(scores, RegionScores):  # there are fewer regions than classes to be resized
            shares = _shares(scores, rows, down, across)
            maps[:, rows] = torch.einsum("qk,qyx->kyx", scores.probabilities[:, ids], shares)
            total[rows] = torch.einsum("q,qyx->yx", scores.probabilities.sum(1), shares)
        else:
            first, last, weights = support(down[rows])
            band = scores.rows(first, last)
            maps[:, rows] = weights @ band[ids] @ across.T
            total[rows] = weights @ band.sum(0) @ across.T
    return maps, total


def _shares(scores: RegionScores, rows: slice, down: Tensor, across: Tensor) -> Tensor:
    """What of some rows of a photo belongs to each region, (Q, rows, W)."""
    if isinstance(scores, LogitScores):
        return scores.shares(rows.start, rows.stop)
    first, last, weights = support(down[rows])
    return weights @ scores.shares(first, last) @ across.T


def axes(scores: ScoreMap, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The weights from a map's rows and columns to those of a photo of H×W pixels."""
    (height, width), (span_y, span_x) = scores.size_hw, scores.span_hw
    return (
        interpolation(size_hw[0], height, span_y),
        interpolation(size_hw[1], width, span_x),
    )
