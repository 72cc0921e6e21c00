"""SAN's recognition head: CLIP's last layers look once for each mask, where its biases say.

Xu et al., CVPR 2023, arXiv 2302.12242, Sec. 3.4 and Fig. 4.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.model.attention import Attention, merge_heads, split_heads
from ovseg_cli.model.clip import ResidualBlock


def recognise(
    blocks: Iterable[nn.Module], tokens: Tensor, biases: Tensor, grid_hw: tuple[int, int]
) -> Tensor:
    """One token (B, N, D) for each mask, a copy of the class token sent through CLIP's blocks.

    blocks: those that follow the tokens (B, 1 + h·w, D), the class token first; biases:
    (B, heads, N, ., .) of a grid at least as fine as CLIP's grid_hw.
    """
    N = biases.shape[2]
    pooled = pool_biases(biases, grid_hw)
    x = torch.cat([tokens[:, :1].expand(-1, N, -1), tokens], 1)
    for block in blocks:
        assert isinstance(block, ResidualBlock)
        x = recognition_block(block, x, pooled)
    return x[:, :N]


def pool_biases(biases: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Attention biases (B, heads, N, ., .) -> (B, heads, N, h·w), the largest in each patch."""
    pooled = F.adaptive_max_pool2d(biases.flatten(1, 2), grid_hw)
    return pooled.flatten(2).unflatten(1, biases.shape[1:3])


def recognition_block(block: ResidualBlock, x: Tensor, biases: Tensor) -> Tensor:
    """A block of CLIP on the masks' tokens and its own (B, N + 1 + L, D) -> the same.

    biases: (B, heads, N, L).
    """
    x = x + biased_attention(block.attn, block.ln_1(x), biases)
    return x + block.mlp(block.ln_2(x))


def biased_attention(attn: Attention, x: Tensor, biases: Tensor) -> Tensor:
    """Self-attention of N masks' tokens, the class token and L patches, in this order.

    A mask's token sees itself and the patches, with its biases (B, heads, N, L) added to the
    logits; class token and patches see each other alone, so they are what they are in CLIP.
    """
    N = biases.shape[2]
    q, k, v = (split_heads(part, attn.heads) for part in attn.project(x))
    plain = F.scaled_dot_product_attention(q[:, :, N:], k[:, :, N:], v[:, :, N:])
    own = torch.full((N, N), -torch.inf, device=x.device).fill_diagonal_(0)
    # Biases reach tens: in half precision they would be rounded to steps of up to a quarter.
    with torch.autocast(x.device.type, enabled=False):
        mask = torch.cat([own.expand(*biases.shape[:2], N, N), biases.float()], -1)
        keys, values = (torch.cat([y[:, :, :N], y[:, :, N + 1 :]], 2).float() for y in (k, v))
        looked = F.scaled_dot_product_attention(q[:, :, :N].float(), keys, values, attn_mask=mask)
    return attn.out_proj(merge_heads(torch.cat([looked.to(plain), plain], 2)))
