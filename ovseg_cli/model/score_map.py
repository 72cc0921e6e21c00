"""From regions and their classes to scores and labels of pixels (deop.md, step 6).

S[k, y, x] = Σ_n p[n, k] · sigmoid(M_n)[y, x] exists at the network's own size, one band of rows at
a time; at the photo's size it exists only where somebody asks for it (`full_scores`). Labels need
no more than the few classes that can win in a tile, and which can is known beforehand: what is
interpolated between four numbers lies between the smallest and the largest of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg_cli.model.deop import DeOPOutput
from ovseg_cli.segmentation import UNLABELED

BAND = 1 << 25  # numbers that a band of rows may hold
CELLS = 32  # side of a tile, numbers of the map
FEW = 8  # so many classes are compared without asking first which can win
CHEAP = 1 << 18  # so many class scores are interpolated rather than the tile split


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


@dataclass(frozen=True, eq=False)
class QueryScores:
    """Regions are mask proposals; the map has the size of the network's input, padding cut off."""

    probabilities: Tensor  # (Q, K+1)
    mask_logits: Tensor  # (Q, h, w) at stride 4 of the padded input
    size_hw: tuple[int, int]

    @property
    def channels(self) -> int:
        return self.probabilities.shape[1]

    @property
    def span_hw(self) -> tuple[float, float]:
        return self.size_hw

    def rows(self, first: int, last: int) -> Tensor:
        """See `ScoreMap`. The logits are resized, then the sigmoid is taken."""
        above, below = first // 4 - 1, -(-last // 4) + 1  # one row more on each side to blend with
        part = self.mask_logits[:, max(above, 0) : below]
        part = F.interpolate(part[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
        start = first - 4 * max(above, 0)
        masks = part[:, start : start + last - first, : self.size_hw[1]].sigmoid()
        return torch.einsum("qk,qyx->kyx", self.probabilities, masks)


@dataclass(frozen=True, eq=False)
class MaskScores:
    """Regions are masks from elsewhere: S is the sum over the masks that a pixel lies in."""

    probabilities: Tensor  # (Q, K+1)
    masks: Tensor  # (Q, h, w) in [0, 1]

    @property
    def channels(self) -> int:
        return self.probabilities.shape[1]

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.masks.shape[1], self.masks.shape[2]

    @property
    def span_hw(self) -> tuple[float, float]:
        return self.size_hw

    def rows(self, first: int, last: int) -> Tensor:
        """See `ScoreMap`."""
        masks = self.masks[:, first:last].to(self.probabilities)
        return torch.einsum("qk,qyx->kyx", self.probabilities, masks)


def score_map(output: DeOPOutput, index: int, valid_hw: tuple[int, int], patch: int) -> ScoreMap:
    """The scores of one photo of a batch.

    valid_hw: the photo's size in the network's input, without padding; patch: side of a patch of
    the visual encoder's grid, input pixels.
    """
    probabilities = output.class_logits[index].float().softmax(-1)  # (Q, K+1)
    if output.mask_logits is not None:
        return QueryScores(probabilities, output.mask_logits[index].float(), valid_hw)
    grid = probabilities.T.unflatten(1, output.grid_hw).contiguous()
    return GridScores(grid, (valid_hw[0] / patch, valid_hw[1] / patch))


def full_scores(scores: ScoreMap, size_hw: tuple[int, int]) -> Tensor:
    """Scores (K+1, H, W) at a photo's size; the last channel is R. K×H×W numbers: ask sparingly."""
    source = scores.rows(0, scores.size_hw[0])
    down, across = _axes(scores, size_hw)
    return down.to(source) @ source @ across.T.to(source)


def class_maps(scores: ScoreMap, ids: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Scores (n, H, W) of some classes `ids` (n,) at another size, and the sum (H, W) over all."""
    like = scores.rows(0, 1)
    down, across = (axis.to(like) for axis in _axes(scores, size_hw))
    maps, total = like.new_empty(len(ids), *size_hw), like.new_empty(size_hw)
    for top in range(0, size_hw[0], CELLS):
        rows = slice(top, min(top + CELLS, size_hw[0]))
        first, last, weights = _window(down[rows])
        band = scores.rows(first, last)
        maps[:, rows] = weights @ band[ids] @ across.T
        total[rows] = weights @ band.sum(0) @ across.T
    return maps, total


def label_map(
    scores: ScoreMap, size_hw: tuple[int, int], other: bool = False
) -> tuple[Tensor, Tensor]:
    """The best class (H, W) int32 of every pixel, and its confidence (H, W) float32 in [0, 1].

    Confidence is S_k / (Σ_k S_k + R). other: R takes part as class K. Pixels that no region covers
    are UNLABELED.
    """
    like = scores.rows(0, 1)
    down, across = (axis.to(like) for axis in _axes(scores, size_hw))
    labels = torch.empty(size_hw, dtype=torch.int32, device=down.device)
    confidence = torch.empty(size_hw, device=down.device)
    tile_h, tile_w = (
        _tile(length, span) for length, span in zip(size_hw, scores.span_hw, strict=True)
    )
    room = BAND // (scores.channels * scores.size_hw[1])  # rows of the map
    tile_h = max(1, min(tile_h, int(room * size_hw[0] / scores.span_hw[0])))
    ids = torch.arange(scores.channels if other else scores.channels - 1, device=down.device)
    for top in range(0, size_hw[0], tile_h):
        rows = slice(top, min(top + tile_h, size_hw[0]))
        first, last, weights_y = _window(down[rows])
        band = scores.rows(first, last)
        total = band.sum(0)
        for left in range(0, size_hw[1], tile_w):
            columns = slice(left, min(left + tile_w, size_hw[1]))
            start, end, weights_x = _window(across[columns])
            best = confidence[rows, columns]
            tile = band[: len(ids), :, start:end]
            _contest(tile, ids, weights_y, weights_x, labels[rows, columns], best)
            best /= (weights_y @ total[:, start:end] @ weights_x.T).clamp(min=1e-12)
    labels[confidence == 0] = UNLABELED
    return labels, confidence.clamp_(0, 1)


def _contest(
    tile: Tensor, ids: Tensor, weights_y: Tensor, weights_x: Tensor, labels: Tensor, best: Tensor
) -> None:
    """Write the winners' ids and scores of a part of the photo into `labels` and `best` (h, w).

    tile: (n, ., .) scores on the map of the classes `ids` (n,); weights_y, weights_x: from the map
    to the photo. A part that is still contested is split: its quarters have fewer rivals.
    """
    rivals = _rivals(tile)
    tile, ids = tile[rivals], ids[rivals]
    height, width = labels.shape
    if len(ids) <= FEW or len(ids) * height * width <= CHEAP or max(tile.shape[1:]) <= 3:
        scores, index = (weights_y @ tile @ weights_x.T).max(0)
        best.copy_(scores)
        labels.copy_(ids[index])
        return
    for rows in _halves(height):
        first, last, inner_y = _window(weights_y[rows])
        for columns in _halves(width):
            start, end, inner_x = _window(weights_x[columns])
            part = tile[:, first:last, start:end]
            _contest(part, ids, inner_y, inner_x, labels[rows, columns], best[rows, columns])


def _halves(length: int) -> list[slice]:
    middle = (length + 1) // 2
    return [part for part in (slice(0, middle), slice(middle, length)) if part.start < part.stop]


def _rivals(tile: Tensor) -> Tensor:
    """The classes (n,) that can be the best one somewhere in a tile of scores (K, h, w).

    In a cell of four neighbours no class falls below its smallest corner, so one whose largest
    corner lies below somebody's smallest cannot win there.
    """
    rivals = torch.arange(len(tile), device=tile.device)
    if len(tile) <= FEW:
        return rivals
    lowest, highest = torch.aminmax(tile.flatten(1), dim=1)  # the tile as one cell: a coarse sieve
    rivals = rivals[highest >= lowest.max()]
    cells = F.pad(tile[rivals][None], (0, 1, 0, 1), mode="replicate")
    highest = F.max_pool2d(cells, 2, 1)[0]
    lowest = -F.max_pool2d(-cells, 2, 1)[0]
    return rivals[(highest >= lowest.amax(0)).flatten(1).any(1)]


def _tile(length: int, span: float) -> int:
    """Side of a tile in the photo's pixels: about CELLS of the map."""
    return min(max(round(CELLS * length / span), 64), 512)


def _window(weights: Tensor) -> tuple[int, int, Tensor]:
    """The part [first, last) of the map that some rows of an axis's weights look at."""
    used = weights.any(0).nonzero()
    first, last = int(used[0]), int(used[-1]) + 1
    return first, last, weights[:, first:last]


def _axes(scores: ScoreMap, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    (height, width), (span_y, span_x) = scores.size_hw, scores.span_hw
    return (
        interpolation(size_hw[0], height, span_y),
        interpolation(size_hw[1], width, span_x),
    )


def interpolation(length: int, source: int, span: float) -> Tensor:
    """Weights (length, source) of bilinear resizing along one axis.

    `length` pixels cover the first `span` of `source` numbers; half-pixel centres, no
    antialiasing, borders repeated, as torch's `interpolate` has it with align_corners=False.
    """
    place = (torch.arange(length, dtype=torch.float64) + 0.5) * (span / length) - 0.5
    place = place.clamp(0, source - 1)
    lower = place.floor().long()
    upper = (lower + 1).clamp(max=source - 1)
    weight = (place - lower).float()
    weights = torch.zeros(length, source)
    rows = torch.arange(length)
    weights[rows, lower] += 1 - weight
    weights[rows, upper] += weight
    return weights
