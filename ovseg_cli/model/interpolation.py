"""Bilinear resizing along one axis as a matrix of weights, so that any part of it can be had alone.

Numbers lie at the half-pixel centres of their cells, and those at the border are repeated, as
torch's `interpolate` has it with align_corners=False and without antialiasing.
"""

from __future__ import annotations

import torch
from torch import Tensor


def interpolation(length: int, source: int, span: float) -> Tensor:
    """Weights (length, source) that stretch the first `span` of `source` numbers over pixels."""
    return linear(centres(0, length, span / length), source)


def centres(first: int, last: int, scale: float) -> Tensor:
    """Where the centres of pixels [first, last) lie among numbers, `scale` a pixel: float64."""
    return (torch.arange(first, last, dtype=torch.float64) + 0.5) * scale - 0.5


def linear(place: Tensor, source: int) -> Tensor:
    """Weights (n, source) by which `source` numbers are read at places (n,) between them."""
    place = place.clamp(0, source - 1)
    lower = place.floor().long()
    upper = (lower + 1).clamp(max=source - 1)
    weight = (place - lower).float()
    weights = torch.zeros(len(place), source, dtype=torch.float32)
    rows = torch.arange(len(place))
    weights[rows, lower] += 1 - weight
    weights[rows, upper] += weight
    return weights


def support(weights: Tensor) -> tuple[int, int, Tensor]:
    """The part [first, last) of the numbers that some rows of weights look at, and its weights."""
    used = weights.any(0).nonzero()
    first, last = int(used[0]), int(used[-1]) + 1
    return first, last, weights[:, first:last]
