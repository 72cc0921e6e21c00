"""SAN's recognition head: CLIP's last layers look once for each mask, where its biases say.

Xu et al., CVPR 2023, arXiv 2302.12242, Sec. 3.4 and Fig. 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

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
    maps = biases.flatten(1, 2)
    # ONNX knows no such pooling, and that of Apple's GPUs takes other windows (pytorch#190064).
    if torch.jit.is_tracing() or maps.device.type == "mps":
        pooled = windows_maximum(maps, grid_hw)
    else:
        pooled = F.adaptive_max_pool2d(maps, grid_hw)
    return pooled.reshape(*biases.shape[:3], -1)


def windows_maximum(maps: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """`F.adaptive_max_pool2d` of maps (B, C, ., .) in operations whose sizes a graph may compute.

    Window i of n reaches from ⌊i·L/n⌋ to ⌈(i+1)·L/n⌉ of L numbers, as pooling has it. A graph has a
    fixed number of steps: enough for windows twice as long as those of the traced sizes.
    """
    for axis, count in zip((2, 3), grid_hw, strict=True):
        length = maps.shape[axis]
        place = torch.arange(count, device=maps.device)
        first = place * length // count
        last = ((place + 1) * length - 1) // count
        steps = 2 * -(-int(length) // int(count)) + 1
        windows = (torch.minimum(first + step, last) for step in range(steps))
        maps = reduce(torch.maximum, (maps.index_select(axis, window) for window in windows))
    return maps


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
    number = torch.arange(N, device=x.device)
    own = torch.zeros(N, N, device=x.device).masked_fill(number != number[:, None], -torch.inf)
    # Biases reach tens: in half precision they would be rounded to steps of up to a quarter.
    with torch.autocast(x.device.type, enabled=False):
        mask = torch.cat([own.expand(*biases.shape[:2], N, N), biases.float()], -1)
        keys, values = (torch.cat([y[:, :, :N], y[:, :, N + 1 :]], 2).float() for y in (k, v))
        looked = F.scaled_dot_product_attention(q[:, :, :N].float(), keys, values, attn_mask=mask)
    return attn.out_proj(merge_heads(torch.cat([looked.to(plain), plain], 2)))
