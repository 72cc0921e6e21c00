"""A small visual encoder that shares the proposal network's backbone.

At a few million parameters a plain ViT learns little from a few thousand photos; convolutions
learn more. So the small models take their patch features from the backbone they have anyway: its
coarsest level attends to the whole photo, an FPN brings that back to stride 4, and the last layers
are severed as in DeOP: nothing mixes between patches any more (a patch is 4×4 pixels here).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.model.clip import ResidualBlock, token_masks
from ovseg_cli.model.config import PyramidVisualConfig
from ovseg_cli.model.pixel_decoder import PixelDecoder
from ovseg_cli.model.positions import sine_positions

PATCHES = 1024  # at a time on a CPU: what lies between two layers stays in its cache


class PyramidVisual(nn.Module):
    """Backbone features -> one feature per patch of 4×4 pixels."""

    def __init__(
        self, config: PyramidVisualConfig, in_channels: Sequence[int], joint_width: int
    ) -> None:
        super().__init__()
        width = config.context_width
        self.context_in = nn.Conv2d(in_channels[-1], width, 1)
        last = config.context_layers - 1
        self.context = nn.ModuleList(
            ResidualBlock(
                width,
                config.context_heads,
                4 * width,
                config.severance if layer == last else None,
                config.reduced,
            )
            for layer in range(config.context_layers)
        )
        self.pixel_decoder = PixelDecoder(
            [*in_channels[:-1], width], config.channels, config.channels, config.norm_groups
        )
        self.severed = nn.ModuleList(
            SeveredLayer(config.channels) for _ in range(config.severed_layers)
        )
        self.norm = nn.LayerNorm(config.channels)
        self.projection = nn.Linear(config.channels, joint_width)

    def forward(self, features: Sequence[Tensor], mask_logits: Tensor | None = None) -> Tensor:
        """Patch features (B, H/4, W/4, C), not normalised, from features of strides 4, 8, 16, 32.

        features: the backbone's levels, finest first; mask_logits: (B, N, ., .) of the same
        picture at any scale, for a severance in MASKED.
        """
        return self.projection(self._severed(self._finest(features, mask_logits)))

    def cosines(self, features: Sequence[Tensor], directions: Tensor) -> Tensor:
        """Directions (n, C) times the unit features of all patches: (B, H/4, W/4, n) float32.

        The same as with `forward`'s features, but without those C numbers of each patch.
        """
        patches = self._finest(features)
        cosines = _Cosines(self.projection, directions)
        together = PATCHES if patches.device.type == "cpu" else patches[..., 0].numel()
        parts = patches.flatten(0, 2).split(together)
        found = torch.cat([cosines(self._severed(part)) for part in parts])
        return found.unflatten(0, patches.shape[:3])

    def image_features(self, features: Sequence[Tensor]) -> Tensor:
        """One feature (B, C) of each whole image: what the coarsest level alone says, averaged."""
        coarse = self.pixel_decoder.coarsest(self._in_context(features[-1]))
        return self.projection(self._severed(coarse.permute(0, 2, 3, 1))).mean((1, 2))

    def _in_context(self, coarsest: Tensor, mask_logits: Tensor | None = None) -> Tensor:
        """The coarsest level (B, ., h, w), each place having looked at all: (B, width, h, w)."""
        coarse = self.context_in(coarsest)
        B, D, h, w = coarse.shape
        tokens = coarse + sine_positions(h, w, D, coarse.device).to(coarse)
        tokens = tokens.flatten(2).transpose(1, 2)  # (B, h·w, D)
        masks = None if mask_logits is None else token_masks(mask_logits, (h, w), others=0)
        for block in self.context:
            tokens = block(tokens, masks, grid_hw=(h, w))
        return tokens.transpose(1, 2).reshape(B, D, h, w)

    def _finest(self, features: Sequence[Tensor], mask_logits: Tensor | None = None) -> Tensor:
        """The FPN's level of stride 4, (B, H/4, W/4, channels)."""
        fine, _ = self.pixel_decoder([*features[:-1], self._in_context(features[-1], mask_logits)])
        return fine.permute(0, 2, 3, 1)

    def _severed(self, patches: Tensor) -> Tensor:
        """What becomes of each patch, (..., channels) -> (..., channels), before its projection."""
        for layer in self.severed:
            patches = layer(patches)
        return self.norm(patches)


class _Cosines:
    """(W·x + b)·t / |W·x + b| of projected patches and directions t, without projecting them.

    x has fewer numbers: the product is x·(Wᵀ·t) + b·t, the squared length x·(WᵀW·x + 2·Wᵀb) + b·b.
    """

    def __init__(self, projection: nn.Linear, directions: Tensor) -> None:
        weight, bias = projection.weight, projection.bias
        with torch.autocast(weight.device.type, enabled=False):
            self.products = directions @ weight, directions @ bias
            self.squares = weight.T @ weight, 2 * (bias @ weight)
            self.least = bias @ bias

    def __call__(self, patches: Tensor) -> Tensor:
        """(n, channels) -> (n, directions) float32."""
        with torch.autocast(patches.device.type, enabled=False):
            patches = patches.float()
            squares = (F.linear(patches, *self.squares) * patches).sum(-1, keepdim=True)
            length = (squares + self.least).clamp(min=1e-24).sqrt()
            return F.linear(patches, *self.products) / length


class SeveredLayer(nn.Module):
    """The part of a transformer layer that is left once patches stop mixing: its MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)

    def forward(self, patches: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return patches + self.contract(F.gelu(self.expand(self.norm(patches))))
