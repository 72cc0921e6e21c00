"""A SAN's class token learns to name a part of a view: where the part is, it is told.

In a published SAN that is left to a CLIP that saw hundreds of millions of pictures. A small one
learns it from true masks, before the side adapter learns to point at them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.model.network import Network, TextFeatures
from ovseg_cli.model.san import SAN
from ovseg_cli.training.matcher import set_target

LEAST = 1e-4  # share of a patch that a mask is taken to cover at least; its logarithm is the bias


@dataclass(frozen=True, eq=False)
class Encoded:
    """What an image encoder makes of views."""

    patches: Tensor  # (B, h, w, C), of any length
    tokens: Tensor | None = None  # of a SAN's shallow layers, (B, 1 + h·w, D)

    def chunk(self, count: int) -> list[Encoded]:
        """The same in `count` equal parts."""
        parts = self.patches.chunk(count)
        if self.tokens is None:
            return [Encoded(part) for part in parts]
        return [Encoded(*pair) for pair in zip(parts, self.tokens.chunk(count), strict=True)]


def look(model: Network, images: Tensor, tokens: bool) -> Encoded:
    """Patches of normalised images (B, 3, H, W); with the tokens that `mask_loss` asks for."""
    if not tokens:
        return Encoded(model.patch_features(images))
    assert isinstance(model, SAN)
    streams, grid_hw = model.shallow(model.clip_images(images))
    return Encoded(model.read_patches(streams[-1], grid_hw), streams[-1])


def mask_loss(
    model: SAN, encoded: Encoded, labels: Tensor, text: TextFeatures, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of every true mask's class, the mean over the masks.

    labels: (B, H, W) int64 in 0..K or IGNORE, the last class non-object; weights: (K+1,).
    """
    assert encoded.tokens is not None
    grid_hw = (encoded.patches.shape[1], encoded.patches.shape[2])
    targets = [set_target(view, text.classes + 1) for view in labels]
    truth = pad_sequence(
        [target.classes for target in targets], batch_first=True, padding_value=IGNORE
    )  # (B, N)
    if not truth.numel():
        return encoded.patches.sum() * 0
    shares = truth.new_zeros((*truth.shape, *grid_hw), dtype=torch.float32)
    for row, target in zip(shares, targets, strict=True):
        if len(target.classes):
            masks = target.masks[None].float()
            row[: len(target.classes)] = F.interpolate(masks, grid_hw, mode="area")[0]
    biases = (
        shares.clamp(min=LEAST).log()[:, None].expand(-1, model.config.visual.heads, -1, -1, -1)
    )
    logits = model.name(encoded.tokens, biases, grid_hw, text).flatten(0, 1)
    losses = F.cross_entropy(
        logits, truth.flatten(), weights, ignore_index=IGNORE, reduction="none"
    )
    return losses.sum() / (truth != IGNORE).sum()
