"""Mask proposals: MaskFormer without its classes (Cheng et al., 2021, arXiv 2107.06278)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.model.config import ProposalConfig
from ovseg_cli.model.pixel_decoder import PixelDecoder
from ovseg_cli.model.positions import check_channels, sine_positions
from ovseg_cli.model.transformer import TransformerDecoder


@dataclass(frozen=True, eq=False)
class Proposals:
    """What one decoder layer says of N queries."""

    mask_logits: Tensor  # (B, N, H/4, W/4)
    class_embeddings: Tensor | None = None  # (B, N, class_channels), for the training losses


class MLP(nn.Module):
    """Linear layers with ReLU between them; maps: on each place of a map, as 1×1 convolutions."""

    def __init__(self, *widths: int, maps: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 1) if maps else nn.Linear(a, b)
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., widths[0]) -> (..., widths[-1]); maps: (B, widths[0], h, w) -> (B, ., h, w)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


def class_head(config: ProposalConfig) -> MLP:
    """Maps a query into the text features' space; only the training losses look at it."""
    return MLP(config.hidden, config.class_hidden, config.class_channels)


class MaskProposals(nn.Module):
    """Backbone features -> N mask proposals."""

    def __init__(self, config: ProposalConfig, in_channels: Sequence[int]) -> None:
        super().__init__()
        hidden = config.hidden
        self.pixel_decoder = PixelDecoder(
            in_channels, config.pixel_channels, config.mask_channels, config.norm_groups
        )
        if not config.input_proj and in_channels[-1] != hidden:
            raise ValueError(f"{in_channels[-1]} channels of res5 need a projection to {hidden}")
        check_channels(hidden)
        self.input_proj = (
            nn.Conv2d(in_channels[-1], hidden, 1) if config.input_proj else nn.Identity()
        )
        self.query_embed = nn.Embedding(config.queries, hidden)
        self.transformer = TransformerDecoder(
            hidden, config.heads, config.layers, config.feedforward
        )
        self.mask_embed = MLP(hidden, hidden, hidden, config.mask_channels)
        self.class_embed = class_head(config)

    def forward(self, features: Sequence[Tensor]) -> Proposals:
        """The proposals of the last layer, without class embeddings.

        features: res2..res5 of the backbone, finest first.
        """
        mask_features, _ = self.pixel_decoder(features)
        return Proposals(self._masks(self._decode(features)[-1], mask_features))

    def each_layer(self, features: Sequence[Tensor]) -> list[Proposals]:
        """The proposals of every layer with class embeddings, the last layer last; for training."""
        mask_features, _ = self.pixel_decoder(features)
        return [
            Proposals(self._masks(queries, mask_features), self.class_embed(queries))
            for queries in self._decode(features)
        ]

    def _decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        memory = self.input_proj(features[-1])
        _, D, h, w = memory.shape
        positions = sine_positions(h, w, D, memory.device).flatten(1).T  # (h·w, D)
        memory = memory.flatten(2).transpose(1, 2)  # (B, h·w, D)
        return self.transformer(self.query_embed.weight, memory, positions.to(memory))

    def _masks(self, queries: Tensor, mask_features: Tensor) -> Tensor:
        return torch.einsum("bnc,bchw->bnhw", self.mask_embed(queries), mask_features)
