"""Classification anchor learning: where in a region to look for its class (DeOP, Sec. 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.model.attention import Attention, merge_heads, split_heads
from ovseg_cli.model.config import HeatmapConfig
from ovseg_cli.model.positions import check_channels, sine_positions
from ovseg_cli.model.transformer import DecoderLayer


class HeatmapLayer(nn.Module):
    """The output layer: one heatmap for each query and head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        # The value third is part of the authors' checkpoints; nothing reads it.
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, target: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """Attention (B, heads, N, L) of targets (B, N, C) to keys (B, L, C); rows sum to 1."""
        placed = target + queries
        target = self.norm1(target + self.self_attn(placed, placed, target))
        (W_q, W_k, _), (b_q, b_k, _) = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q = split_heads(F.linear(target + queries, W_q, b_q), self.heads)
        k = split_heads(F.linear(keys, W_k, b_k), self.heads)
        return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)


class HeatmapDecoder(nn.Module):
    """Patch features and masks -> one feature per mask, in the space of the patch features."""

    def __init__(self, config: HeatmapConfig, width: int, queries: int) -> None:
        super().__init__()
        check_channels(width)
        self.query_embedding = nn.Embedding(queries, width)
        self.layers = nn.ModuleList(
            DecoderLayer(width, config.heads, config.feedforward) for _ in range(config.layers)
        )
        self.out_layer = HeatmapLayer(width, config.heads)

    def forward(self, memory: Tensor, masks: Tensor) -> Tensor:
        """Mask features (B, N, C), float32, of unit length; zero for a mask that is zero.

        memory: (B, C, h, w) patch features of unit length; masks: (B, N, h, w) in [0, 1].
        """
        heatmaps = self.heatmaps(memory, masks).flatten(3)  # (B, heads, N, h·w)
        # No value and no output projection: head i pools the i-th slice of the features
        # themselves, so that the result stays in CLIP's space.
        with torch.autocast(memory.device.type, enabled=False):
            tokens = memory.float().flatten(2).transpose(1, 2)
            pooled = merge_heads(heatmaps @ split_heads(tokens, heatmaps.shape[1]))
            norm = pooled.norm(dim=-1, keepdim=True)
            return pooled / norm.masked_fill(norm == 0, 1.0)

    def heatmaps(self, memory: Tensor, masks: Tensor) -> Tensor:
        """Heatmaps (B, heads, N, h, w) in [0, 1], float32; arguments as of `forward`.

        The masks are multiplied in after the softmax, without dividing by the new sum.
        """
        B, C, h, w = memory.shape
        # Patch by patch weights are small numbers and their sums long: float32 throughout.
        with torch.autocast(memory.device.type, enabled=False):
            tokens = memory.float().flatten(2).transpose(1, 2)  # (B, h·w, C)
            keys = tokens + sine_positions(h, w, C, memory.device).flatten(1).T
            queries = self.query_embedding.weight
            target = torch.zeros_like(queries).expand(B, -1, -1)
            for layer in self.layers:
                target = layer(target, queries, keys, tokens)
            attention = self.out_layer(target, queries, keys).unflatten(-1, (h, w))
            return attention * masks.float().unsqueeze(1)
