"""Multi-head attention as CLIP, DETR and DeOP share it: one packed input projection."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention with `torch.nn.MultiheadAttention`'s parameters, batch first.

    The rows of `in_proj_weight` are those of the queries, the keys and the values, in this order.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be split among {heads} heads")
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values of the same tokens, each (B, L, D) as `x`."""
        return F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> Tensor:
        """Queries (B, N, D) look at keys and values (B, L, D) -> (B, N, D).

        causal: query n sees the keys 0..n only.
        """
        if query is key is value:
            q, k, v = self.project(query)
        else:
            weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
            q, k, v = (
                F.linear(x, weight, bias)
                for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
            )
        q, k, v = (split_heads(x, self.heads) for x in (q, k, v))
        return self.out_proj(merge_heads(F.scaled_dot_product_attention(q, k, v, is_causal=causal)))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, L, D) -> (B, heads, L, D / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, heads, L, D / heads) -> (B, L, D)."""
    return x.transpose(1, 2).flatten(2)
