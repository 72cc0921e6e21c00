"""PAMR, pixel-adaptive mask refinement: scores that follow the edges of the photo.

Araslanov and Roth, CVPR 2020, arXiv 2005.08104, Sec. 3.3. NACLIP (arXiv 2404.08181) takes 10 steps
with dilations 8 and 16; on the bundled model's small inputs that blurs, and what stands here was
best on the val splits of three sets (weights/EXPERIMENTS.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg_cli.model.label_map import label_map
from ovseg_cli.model.score_map import ScoreMap, class_maps

STEPS = 5
DILATIONS = (1, 2, 4)
_OFFSETS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


@dataclass(frozen=True, eq=False)
class RefinedScores:
    """Scores at the size of the network's input, refined.

    Only classes that were the best one somewhere are held, with R; all others share what is left.
    """

    channels: int
    held: Tensor  # (n,) int64: classes, the last one R
    maps: Tensor  # (n, h, w)
    rest: Tensor  # (h, w): of each class that is not held

    @property
    def size_hw(self) -> tuple[int, int]:
        """Of the map."""
        return self.maps.shape[1], self.maps.shape[2]

    @property
    def span_hw(self) -> tuple[float, float]:
        """The photo covers it all."""
        return self.size_hw

    def rows(self, first: int, last: int) -> Tensor:
        """See `ScoreMap`."""
        band = self.rest[first:last].expand(self.channels, -1, -1).clone()
        band[self.held] = self.maps[:, first:last]
        return band


def refined(scores: ScoreMap, image: Tensor) -> RefinedScores:
    """Scores of a photo that follow its edges; image: the network's input (3, h, w), no padding."""
    size_hw = (image.shape[1], image.shape[2])
    # Without R, which may win everywhere: the names below it must be refined, too.
    winners = label_map(scores, size_hw)[0].unique().long()
    held = torch.cat([winners[winners >= 0], winners.new_tensor([scores.channels - 1])])
    maps, total = class_maps(scores, held, size_hw)
    rest = (total - maps.sum(0)).clamp(min=0) / max(1, scores.channels - len(held))
    # What is shared is smoothed, too, or it would beat classes that a thin mask has lost a part of.
    # What no region covers stays so, though its neighbours' scores reach it.
    both = refine(torch.cat([maps, rest[None]]), image) * (total > 0)
    return RefinedScores(scores.channels, held, both[:-1], both[-1])


def refine(
    scores: Tensor, image: Tensor, steps: int = STEPS, dilations: Sequence[int] = DILATIONS
) -> Tensor:
    """Scores (K, h, w) smoothed along the image (3, h, w), any linear scale; a new tensor.

    Each step replaces a pixel's scores by the weighted mean of those of its eight neighbours at
    every dilation, itself not among them; what a photo's edge cuts off is repeated. The weights
    are `affinity`, so scores that add up to one still do.
    """
    weights = affinity(image, dilations).to(scores)
    for _ in range(steps):
        smoothed = torch.zeros_like(scores)
        for weight, neighbour in zip(weights, _neighbours(scores, dilations), strict=True):
            smoothed.addcmul_(neighbour, weight)
        scores = smoothed
    return scores


def affinity(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Weights (8 · dilations, h, w) of a pixel's neighbours, which add up to one.

    The softmax, over all neighbours, of the colour channels' mean of −|I_i − I_j| / (0.1 s_i): s_i
    is the channel's standard deviation over i and its neighbours at all dilations.
    """
    image = image.float()
    count = 8 * len(dilations) + len(dilations)  # a 3×3 window at each dilation, i in each of them
    total = image * len(dilations)
    squares = image.square() * len(dilations)
    for neighbour in _neighbours(image, dilations):
        total = total + neighbour
        squares = squares + neighbour.square()
    variance = (squares - total.square() / count).clamp(min=0) / (count - 1)
    width = 0.1 * variance.sqrt() + 1e-8
    distances = [
        ((image - neighbour).abs() / width).mean(0) for neighbour in _neighbours(image, dilations)
    ]
    return torch.stack(distances).neg_().softmax(0)


def _neighbours(maps: Tensor, dilations: Sequence[int]) -> list[Tensor]:
    """The map (C, h, w) shifted to each neighbour of each pixel, edges repeated."""
    height, width = maps.shape[1:]
    margin = max(dilations)
    padded = F.pad(maps[None], (margin,) * 4, mode="replicate")[0]
    return [
        padded[:, margin + y * d : margin + y * d + height, margin + x * d : margin + x * d + width]
        for d in dilations
        for y, x in _OFFSETS
    ]
