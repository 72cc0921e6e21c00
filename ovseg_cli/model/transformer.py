"""DETR's transformer decoder, post-norm (arXiv 2005.12872, App. A.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.model.attention import Attention


class DecoderLayer(nn.Module):
    """Queries attend to each other and to the memory, then pass an MLP; a norm after each."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.multihead_attn = Attention(width, heads)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, target: Tensor, queries: Tensor, keys: Tensor, memory: Tensor) -> Tensor:
        """Targets (B, N, D) -> (B, N, D).

        queries: (N, D) learned query positions; memory: (B, L, D) values;
        keys: (B, L, D) memory and its positions.
        """
        placed = target + queries
        target = self.norm1(target + self.self_attn(placed, placed, target))
        target = self.norm2(target + self.multihead_attn(target + queries, keys, memory))
        return self.norm3(target + self.linear2(F.relu(self.linear1(target))))


class TransformerDecoder(nn.Module):
    """A stack of layers; targets start at zero; one norm reads every layer's output."""

    def __init__(self, width: int, heads: int, layers: int, feedforward: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, feedforward) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, queries: Tensor, memory: Tensor, positions: Tensor) -> list[Tensor]:
        """The normed output (B, N, D) of each layer, first to last.

        queries: (N, D); memory: (B, L, D); positions: (L, D).
        """
        keys = memory + positions
        target = torch.zeros_like(queries).expand(memory.shape[0], -1, -1)
        outputs = []
        for layer in self.layers:
            target = layer(target, queries, keys, memory)
            outputs.append(target)
        return [self.norm(output) for output in outputs]
