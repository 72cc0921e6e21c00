"""MaskFormer's pixel decoder: a feature pyramid (arXiv 2107.06278, Sec. 3.1; FPN: 1612.03144)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.model.convolution import NormedConv2d


class PixelDecoder(nn.Module):
    """Features of four strides -> mask features of the finest one."""

    def __init__(
        self, in_channels: Sequence[int], channels: int, mask_channels: int, norm_groups: int
    ) -> None:
        super().__init__()

        def conv(inputs: int, kernel: int, relu: bool) -> NormedConv2d:
            norm = nn.GroupNorm(norm_groups, channels)
            return NormedConv2d(inputs, channels, kernel, norm, relu=relu)

        *finer, coarsest = in_channels
        # Both lists are in the order of the features, finest first.
        self.adapters = nn.ModuleList(conv(inputs, 1, relu=False) for inputs in finer)
        self.layers = nn.ModuleList(conv(channels, 3, relu=True) for _ in finer)
        self.layers.append(conv(coarsest, 3, relu=True))
        self.mask_features = nn.Conv2d(channels, mask_channels, 3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Mask features (B, mask_channels, H/4, W/4), and the levels (B, channels, ., .).

        features: finest first, as the backbone gives them; levels: coarsest first.
        """
        levels = [self.layers[-1](features[-1])]
        for feature, adapter, layer in reversed(
            list(zip(features[:-1], self.adapters, self.layers[:-1], strict=True))
        ):
            lateral = adapter(feature)
            coarser = F.interpolate(levels[-1], lateral.shape[-2:], mode="nearest")
            levels.append(layer(lateral + coarser))
        return self.mask_features(levels[-1]), levels

    def coarsest(self, feature: Tensor) -> Tensor:
        """Mask features (B, mask_channels, h, w) of the last of the features alone."""
        return self.mask_features(self.layers[-1](feature))
