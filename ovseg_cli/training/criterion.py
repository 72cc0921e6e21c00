"""The losses of DeOP's stages 2 and 3, and of SAN (arXiv 2304.01198 and 2302.12242)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg_cli.data.bounds import SOME_WEIGHT, WEIGHT, require
from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.training.matcher import (
    ALPHA,
    GAMMA,
    PixelTerms,
    Target,
    cross_entropy_terms,
    focal_terms,
    match,
)
from ovseg_cli.training.points import all_pixels, doubtful_points

CLAMP = 1e-4  # keeps the logarithm of a probability finite


TERMS: dict[str, PixelTerms] = {"focal": focal_terms, "cross_entropy": cross_entropy_terms}


@dataclass(frozen=True)
class SetWeights:
    """What counts how much in set prediction; the defaults are DeOP's published ones."""

    classes: float = 1.0
    mask: float = 20.0
    dice: float = 1.0
    non_object: float = 0.1  # of non-object in the cross-entropy of the classes
    mask_loss: str = "focal"  # or "cross_entropy", the binary one
    match_names: bool = False  # a query's class has a say in which mask it answers for
    points: int = 0  # a mask's loss is taken at so many points; 0 = at all pixels

    def __post_init__(self) -> None:
        if self.mask_loss not in TERMS:
            raise ValueError(f"mask_loss is {self.mask_loss!r}, not one of {', '.join(TERMS)}")
        require(self, **dict.fromkeys(("classes", "mask", "dice", "points"), WEIGHT))
        # A photo of background alone has no other weight to take the mean by.
        require(self, non_object=SOME_WEIGHT)


class SetCriterion:
    """MaskFormer's losses, after every decoder layer (arXiv 2107.06278, Sec. 3.2)."""

    def __init__(self, weights: SetWeights) -> None:
        self.weights = weights
        self.terms = TERMS[weights.mask_loss]

    def __call__(
        self,
        layers: Sequence[tuple[Tensor, Tensor]],
        targets: Sequence[Target],
        draw: np.random.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Weighted losses "class", "mask" and "dice", each summed over the layers.

        layers: mask logits (B, N, h, w) and class logits (B, N, K+1) of each decoder layer;
        targets: B photos of one size; draw: for the points, where there are any.
        """
        totals: dict[str, Tensor] = {}
        with torch.autocast(layers[0][0].device.type, enabled=False):
            for mask_logits, class_logits in layers:
                for name, loss in self._layer(mask_logits, class_logits, targets, draw).items():
                    totals[name] = totals.get(name, 0.0) + loss
        return totals

    def _layer(
        self,
        mask_logits: Tensor,
        class_logits: Tensor,
        targets: Sequence[Target],
        draw: np.random.Generator | None,
    ) -> dict[str, Tensor]:
        weights = self.weights
        pairs = [
            match(
                logits,
                target,
                weights.mask,
                weights.dice,
                terms=self.terms,
                name_costs=self._name_costs(names, target),
            )
            for logits, names, target in zip(mask_logits, class_logits, targets, strict=True)
        ]
        chosen = torch.cat(
            [logits[queries] for logits, (queries, _) in zip(mask_logits, pairs, strict=True)]
        )  # (M, h, w), the queries that answer for a mask
        matched = list(zip(targets, pairs, strict=True))
        masks = torch.cat([target.masks[truths] for target, (_, truths) in matched])
        valid = torch.cat([t.valid.expand(len(truths), -1, -1) for t, (_, truths) in matched])
        count = max(1, sum(len(target.classes) for target in targets))
        maps = (chosen.float(), masks.float(), valid.float())
        if weights.points:
            assert draw is not None
            pixels = doubtful_points(weights.points, draw, *maps)
        else:
            pixels = all_pixels(*maps)
        per_pixel, dice = _mask_losses(self.terms, *pixels)
        return {
            "class": weights.classes * self._class_loss(class_logits, targets, pairs),
            "mask": weights.mask * per_pixel.sum() / count,
            "dice": weights.dice * dice.sum() / count,
        }

    def _name_costs(self, class_logits: Tensor, target: Target) -> Tensor | float:
        """Of each query with each true mask, (N, T): -weight · p(the mask's class).

        class_logits: (N, K+1); 0 where names have no say in the matching.
        """
        if not self.weights.match_names:
            return 0.0
        probabilities = class_logits.detach().float().softmax(-1)
        return -self.weights.classes * probabilities[:, target.classes]

    def _class_loss(
        self,
        class_logits: Tensor,
        targets: Sequence[Target],
        pairs: Sequence[tuple[Tensor, Tensor]],
    ) -> Tensor:
        last = class_logits.shape[-1] - 1  # non-object
        wanted = class_logits.new_full(class_logits.shape[:2], last, dtype=torch.long)
        for row, target, (queries, truths) in zip(wanted, targets, pairs, strict=True):
            row[queries] = target.classes[truths]
        weight = torch.ones(last + 1, device=class_logits.device)
        weight[last] = self.weights.non_object
        return F.cross_entropy(class_logits.float().flatten(0, 1), wanted.flatten(), weight)


def _mask_losses(
    terms: PixelTerms, logits: Tensor, masks: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean loss of the pixels and 1 - dice, (M,) each, of mask logits (M, P) at P pixels.

    masks, valid: (M, P) of 0 and 1; what is not valid does not count.
    """
    p = logits.sigmoid()
    inside, outside = terms(logits)
    counted = torch.where(masks > 0, inside, outside) * valid
    dice = 1 - (2 * (p * masks).sum(1) + 1) / ((p * valid).sum(1) + masks.sum(1) + 1)
    return counted.sum(1) / valid.sum(1).clamp(min=1), dice


def score_losses(scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Focal loss and 1 - dice of class scores S, for DeOP's stage 3.

    scores: (B, K+1, H, W), the last channel non-object; labels: (B, H, W) int64 in 0..K.
    With P = sigmoid(3·S − 3): the focal binary cross-entropy is the mean over all K+1 channels,
    its logarithms' arguments clamped to [1e-4, 1 − 1e-4]; the dice of a photo runs over its pixels
    and the first K channels together.
    """
    P = (3 * scores.float() - 3).sigmoid()
    truth = torch.zeros_like(P).scatter_(1, labels[:, None], 1.0)
    clamped = P.clamp(CLAMP, 1 - CLAMP)
    inside = -ALPHA * (1 - P) ** GAMMA * clamped.log()
    outside = -(1 - ALPHA) * P**GAMMA * (1 - clamped).log()
    focal = torch.where(truth > 0, inside, outside).mean()
    P, truth = P[:, :-1].flatten(1), truth[:, :-1].flatten(1)
    dice = (2 * (P * truth).sum(1) + 1) / (P.sum(1) + truth.sum(1) + 1)
    return {"focal": focal, "dice": (1 - dice).mean()}


def soft_jaccard_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """One minus the intersection over union, of probabilities, averaged over the classes shown.

    logits: (B, K, H, W); labels: (B, H, W), IGNORE where a pixel does not count. The result is in
    0..1. Rahman and Wang, "Optimizing intersection-over-union in deep neural networks for image
    segmentation", ISVC 2016: cross-entropy alone gives up what is small or thin.
    """
    counted = labels != IGNORE
    shown = labels[counted].unique()
    if len(shown) == 0:
        return logits.sum() * 0
    probabilities = logits.softmax(1)[:, shown] * counted.unsqueeze(1)
    truth = (labels.unsqueeze(1) == shown.view(1, -1, 1, 1)).to(probabilities)
    both = (probabilities * truth).sum((0, 2, 3))
    either = (probabilities + truth).sum((0, 2, 3)) - both
    return 1 - (both / either).mean()
