"""The best class of every pixel, without the scores of all classes at the photo's size.

Labels need no more than the few classes that can win in a tile of the photo, and which can is known
beforehand: what is interpolated between four numbers lies between the smallest and the largest of
them, and a class is nowhere stronger than with all its regions at their strongest.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg_cli.model.interpolation import support
from ovseg_cli.model.score_map import RegionScores, ScoreMap, axes, sharpened
from ovseg_cli.segmentation import UNLABELED

BAND = 1 << 25  # numbers that a band of rows may hold
CELLS = 32  # side of a tile, numbers of the map
FEW = 8  # so many classes are compared without asking first which can win
CHEAP = 1 << 18  # so many class scores are interpolated rather than the tile split
STRONGEST = 12  # classes of a tile that are compared first, where regions bound the others
ROUNDING = 1e-5  # of a bound, relative


def label_map(
    scores: ScoreMap, size_hw: tuple[int, int], other_weight: float | None = None
) -> tuple[Tensor, Tensor]:
    """The best class (H, W) int32 of every pixel, and its confidence (H, W) float32 in [0, 1].

    Confidence is S_k / (Σ_k S_k + R). other_weight: if given, a class K takes the pixels where
    other_weight · R > Σ_k S_k; their confidence is R / (Σ_k S_k + R). Set against the best name
    alone, R would win wherever names that are alike share what speaks for each of them; and by
    chance K names collect more than one does, which the weight, the model's own, makes up for.
    Pixels that no region covers are UNLABELED.
    """
    scores = sharpened(scores, size_hw)
    like = scores.rows(0, 1)
    down, across = (axis.to(like) for axis in axes(scores, size_hw))
    labels = torch.empty(size_hw, dtype=torch.int32, device=down.device)
    confidence = torch.empty(size_hw, dtype=torch.float32, device=down.device)
    tile_h, tile_w = (
        _tile(length, span) for length, span in zip(size_hw, scores.span_hw, strict=True)
    )
    deep, classes, with_rest = scores.channels, scores.channels - 1, other_weight is not None
    if isinstance(scores, RegionScores):
        deep = len(scores.probabilities)
        named = scores.probabilities[:, :-1].T.contiguous()  # (K, Q)
        masses = _masses(scores.probabilities.T, with_rest)
    room = BAND // (deep * scores.size_hw[1])  # rows of the map
    tile_h = max(1, min(tile_h, int(room * size_hw[0] / scores.span_hw[0])))
    for top in range(0, size_hw[0], tile_h):
        rows = slice(top, min(top + tile_h, size_hw[0]))
        first, last, weights_y = support(down[rows])
        if not isinstance(scores, RegionScores):
            band = scores.rows(first, last)
            masses = _masses(band, with_rest)
        for left in range(0, size_hw[1], tile_w):
            columns = slice(left, min(left + tile_w, size_hw[1]))
            start, end, weights_x = support(across[columns])
            found, best = labels[rows, columns], confidence[rows, columns]
            if isinstance(scores, RegionScores):
                part = scores.shares(first, last, start, end)
                _contest_regions(named, part, weights_y, weights_x, found, best)
                sums = (masses @ part.flatten(1)).unflatten(1, part.shape[1:])
            else:
                ids = torch.arange(classes, device=down.device)
                _contest(band[:classes, :, start:end], ids, weights_y, weights_x, found, best)
                sums = masses[:, :, start:end]
            total, *rest = weights_y @ sums @ weights_x.T
            if other_weight is not None:
                more = other_weight * rest[0] > total - rest[0]
                found.masked_fill_(more, classes)
                best.copy_(torch.where(more, rest[0], best))
            best /= total.clamp(min=1e-12)
    labels.masked_fill_(confidence == 0, UNLABELED)
    return labels, confidence.clamp_(0, 1)


def _masses(scores: Tensor, with_rest: bool) -> Tensor:
    """Of scores (K+1, ...) the sum over all, and, if asked for, R: (1 or 2, ...)."""
    total = scores.sum(0, keepdim=True)
    return torch.cat([total, scores[-1:]]) if with_rest else total


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
    for rows, columns, (inner_y, inner_x), cells in _quarters(weights_y, weights_x):
        _contest(tile[cells], ids, inner_y, inner_x, labels[rows, columns], best[rows, columns])


def _contest_regions(
    probabilities: Tensor,
    shares: Tensor,
    weights_y: Tensor,
    weights_x: Tensor,
    labels: Tensor,
    best: Tensor,
) -> None:
    """The same for scores that are a sum over regions: probabilities (K, Q), shares (Q, ., .).

    The strongest classes are compared first. Where they end no lower than any other class can get,
    that is all; otherwise what can still win is compared, too, in parts if there is much of it.
    """
    limits = probabilities @ shares.amax((1, 2)) * (1 + ROUNDING)
    first = limits.topk(min(STRONGEST, len(limits))).indices.sort().values
    _compare(probabilities[first], first, shares, weights_y, weights_x, labels, best, fresh=True)
    rivals = (limits >= best.min()) & (limits > 0)
    rivals[first] = False
    ids = rivals.nonzero()[:, 0]
    if len(ids) == 0:
        return
    height, width = labels.shape
    if len(ids) * height * width <= CHEAP or max(shares.shape[1:]) <= 3:
        _compare(probabilities[ids], ids, shares, weights_y, weights_x, labels, best, fresh=False)
        return
    for rows, columns, (inner_y, inner_x), cells in _quarters(weights_y, weights_x):
        part = labels[rows, columns], best[rows, columns]
        _contest_regions(probabilities, shares[cells], inner_y, inner_x, *part)


def _compare(
    probabilities: Tensor,
    ids: Tensor,
    shares: Tensor,
    weights_y: Tensor,
    weights_x: Tensor,
    labels: Tensor,
    best: Tensor,
    *,
    fresh: bool,
) -> None:
    """Let some classes compete with what labels and best hold, or (fresh) take the place of it."""
    tile = (probabilities @ shares.flatten(1)).unflatten(1, shares.shape[1:])
    scores, index = (weights_y @ tile @ weights_x.T).max(0)
    found = ids[index].int()
    if fresh:
        best.copy_(scores)
        labels.copy_(found)
        return
    # Of equals the first class wins, as everywhere.
    better = (scores > best) | (scores == best) & (found < labels)
    best[better], labels[better] = scores[better], found[better]


def _quarters(
    weights_y: Tensor, weights_x: Tensor
) -> Iterator[tuple[slice, slice, tuple[Tensor, Tensor], tuple[slice, slice, slice]]]:
    """Parts of a tile: their rows and columns in it, their weights, and their part of the map."""
    for rows in _halves(len(weights_y)):
        first, last, inner_y = support(weights_y[rows])
        for columns in _halves(len(weights_x)):
            start, end, inner_x = support(weights_x[columns])
            cells = slice(None), slice(first, last), slice(start, end)
            yield rows, columns, (inner_y, inner_x), cells


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
