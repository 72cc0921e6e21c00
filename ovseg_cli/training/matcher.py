"""Which query answers for which true mask (MaskFormer, arXiv 2107.06278, Sec. 3.2).

DeOP matches by the masks alone: what a mask is called has no say in who proposes it. SAN lets the
names have a say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.errors import UsageError

ALPHA, GAMMA = 0.25, 2.0  # of the focal loss (Lin et al., 2017, arXiv 1708.02002)


@dataclass(frozen=True, eq=False)
class Target:
    """A photo's ground truth as a set: all pixels of one class are one mask."""

    masks: Tensor  # (T, H, W) bool
    classes: Tensor  # (T,) int64
    valid: Tensor  # (H, W) bool; elsewhere nothing is known


def set_target(labels: Tensor, classes: int) -> Target:
    """The set of a label map (H, W) int64: `classes` (none of the names) and IGNORE are no mask."""
    present = labels.unique()
    present = present[present < classes]
    return Target(labels == present[:, None, None], present, labels != IGNORE)


# The loss of each logit, were its pixel inside the mask and were it outside.
PixelTerms = Callable[[Tensor], tuple[Tensor, Tensor]]


def focal_terms(logits: Tensor) -> tuple[Tensor, Tensor]:
    """`PixelTerms` of the focal loss."""
    p = logits.sigmoid()
    inside = ALPHA * (1 - p) ** GAMMA * F.softplus(-logits)
    outside = (1 - ALPHA) * p**GAMMA * F.softplus(logits)
    return inside, outside


def cross_entropy_terms(logits: Tensor) -> tuple[Tensor, Tensor]:
    """`PixelTerms` of the binary cross-entropy."""
    return F.softplus(-logits), F.softplus(logits)


def match(
    mask_logits: Tensor,
    target: Target,
    mask_weight: float = 20.0,
    dice_weight: float = 1.0,
    *,
    terms: PixelTerms = focal_terms,
    name_costs: Tensor | float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The cheapest assignment: queries and the true masks that they answer for, (min(N, T),) each.

    mask_logits: (N, h, w) of a photo; the ground truth is compared at that size;
    terms: the mask loss; name_costs: (N, T) that are added.
    Raises UsageError where scipy is not installed.
    """
    size = mask_logits.shape[-2:]
    # In half precision the sums over all pixels would be too coarse.
    with torch.no_grad(), torch.autocast(mask_logits.device.type, enabled=False):
        known = torch.cat([target.masks, target.valid[None]]).float()
        known = F.interpolate(known[None], size, mode="nearest")[0].flatten(1)
        valid = known[-1] > 0
        logits, masks = mask_logits.float().flatten(1)[:, valid], known[:-1, valid]
        costs = mask_weight * mask_costs(logits, masks, terms)
        costs = costs + dice_weight * dice_costs(logits, masks) + name_costs
    queries, truths = _assign(costs)
    return queries.to(mask_logits.device), truths.to(mask_logits.device)


def mask_costs(logits: Tensor, masks: Tensor, terms: PixelTerms = focal_terms) -> Tensor:
    """Mean loss (N, T) of every prediction (N, P) against every mask (T, P) of 0 and 1."""
    inside, outside = terms(logits)
    return (inside @ masks.T + outside @ (1 - masks).T) / max(1, logits.shape[1])


def dice_costs(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - dice (N, T), smoothed by 1; arguments as of `mask_costs`."""
    p = logits.sigmoid()
    return 1 - (2 * p @ masks.T + 1) / (p.sum(1)[:, None] + masks.sum(1) + 1)


def _assign(costs: Tensor) -> tuple[Tensor, Tensor]:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise UsageError(
            "matching masks needs scipy, which is not installed: pip install 'ovseg-cli[train]'"
        ) from error
    # A diverged model has no best assignment; its loss tells of it.
    rows, columns = linear_sum_assignment(costs.nan_to_num().cpu().numpy())
    return torch.from_numpy(rows), torch.from_numpy(columns)
