"""Where a mask's loss is taken: all its pixels, or some of them, most where it is in doubt.

PointRend: Kirillov et al., CVPR 2020, arXiv 1912.08193, Sec. 3.3 and 4.1.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

OVERSAMPLED = 3  # points drawn for each that is kept
DOUBTFUL = 0.75  # share of the points that are the most doubtful of those drawn


def all_pixels(logits: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
    """Logits (M, h, w) at the size of the maps (M, H, W), and these: (M, H·W) each."""
    size = maps[0].shape[-2:]
    logits = F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)
    return logits.flatten(1), *(values.flatten(1) for values in maps)


def doubtful_points(
    count: int, draw: np.random.Generator, logits: Tensor, *maps: Tensor
) -> tuple[Tensor, ...]:
    """The same at `count` points a mask: (M, count) each."""
    drawn = _random_points(len(logits), OVERSAMPLED * count, draw).to(logits)
    doubtful = int(DOUBTFUL * count)
    with torch.no_grad():
        doubt = -_at(logits, drawn, "bilinear").abs()
        best = doubt.topk(doubtful, dim=1).indices[..., None].expand(-1, -1, 2)
    anywhere = _random_points(len(logits), count - doubtful, draw).to(logits)
    points = torch.cat([drawn.gather(1, best), anywhere], 1)
    return _at(logits, points, "bilinear"), *(_at(values, points, "nearest") for values in maps)


def _random_points(masks: int, count: int, draw: np.random.Generator) -> Tensor:
    """(masks, count, 2) in -1..1."""
    return torch.from_numpy(draw.uniform(-1, 1, (masks, count, 2)))


def _at(values: Tensor, points: Tensor, mode: str) -> Tensor:
    """Maps (M, H, W) at points (M, P, 2) in -1..1: (M, P)."""
    found = F.grid_sample(values[:, None], points[:, None], mode, "border", align_corners=False)
    return found[:, 0, 0]
