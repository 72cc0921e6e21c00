"""SAN's side adapter: a small ViT beside CLIP that proposes masks and says where to look for each.

Xu et al., CVPR 2023, arXiv 2302.12242, Sec. 3.2 and 3.3.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.model.clip import ResidualBlock
from ovseg_cli.model.mask_former import MLP
from ovseg_cli.model.positions import resize_table

EPS = 1e-6  # of all its layer norms


@dataclass(frozen=True)
class SideAdapterConfig:
    """The sizes of a side adapter; the defaults are those of both published models."""

    width: int = 240
    layers: int = 8
    heads: int = 6
    mlp_width: int = 960
    patch_size: int = 16
    grid: int = 40  # side of the patches' position table
    queries: int = 100
    fused_layers: tuple[int, ...] = (0, 3, 6, 9)  # CLIP blocks passed before each fusion
    decoder_width: int = 256  # of the mask decoder's hidden layers
    mask_channels: int = 256  # of mask embeddings and of each head's


class Fusion(nn.Module):
    """CLIP's patch tokens, made to fit the side adapter's."""

    def __init__(self, clip_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(clip_width, EPS)
        self.proj = nn.Conv2d(clip_width, width, 1)

    def forward(self, patches: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Patches (B, clip_width, ., .) -> tokens (B, h·w, width) of a grid of h×w."""
        x = self.norm(patches.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        # The projection comes first: it leaves fewer channels to be resized.
        x = F.interpolate(self.proj(x), size_hw, mode="bilinear", align_corners=False)
        return x.flatten(2).transpose(1, 2)


class MaskDecoder(nn.Module):
    """Queries and patches -> mask logits and attention biases (Sec. 3.2, "mask prediction")."""

    def __init__(self, config: SideAdapterConfig, clip_heads: int) -> None:
        super().__init__()
        width, hidden, out = config.width, config.decoder_width, config.mask_channels
        self.clip_heads = clip_heads
        self.query_mlp = MLP(width, hidden, hidden, out)
        self.pix_mlp = MLP(width, hidden, hidden, out, maps=True)
        self.attn_mlp = MLP(width, hidden, hidden, out * clip_heads, maps=True)
        self.bias_scaling = nn.Linear(1, 1)

    def forward(self, queries: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, N, width), patches (B, width, h, w) -> (B, N, h, w), (B, heads, N, h, w)."""
        embeddings = self.query_mlp(queries)
        mask_logits = torch.einsum("bnc,bcyx->bnyx", embeddings, self.pix_mlp(patches))
        each_head = self.attn_mlp(patches).unflatten(1, (self.clip_heads, -1))
        similarity = torch.einsum("bnc,bhcyx->bhnyx", embeddings, each_head)
        return mask_logits, similarity * self.bias_scaling.weight[0, 0] + self.bias_scaling.bias


class SideAdapter(nn.Module):
    """An image and some of CLIP's shallow features -> mask logits and attention biases."""

    def __init__(self, config: SideAdapterConfig, clip_width: int, clip_heads: int) -> None:
        super().__init__()
        width = config.width
        self.query = nn.Parameter(torch.randn(1, config.queries, width) * 0.02)
        self.query_position = nn.Parameter(torch.randn(1, config.queries, width) * 0.02)
        self.patch_position = nn.Parameter(torch.randn(1, config.grid**2, width) * 0.02)
        self.patch_embed = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, config.heads, config.mlp_width, gelu="exact", eps=EPS)
            for _ in range(config.layers)
        )
        self.fusions = nn.ModuleList(Fusion(clip_width, width) for _ in config.fused_layers)
        self.decoder = MaskDecoder(config, clip_heads)

    def forward(self, images: Tensor, clip_patches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Mask logits (B, N, h, w) and attention biases (B, heads, N, h, w) at the patches' stride.

        images: (B, 3, H, W) normalised and padded, whole patches; clip_patches: for each fusion,
        CLIP's patch tokens (B, clip_width, ., .).
        """
        return self.each_block(images, clip_patches, 1)[-1]

    def each_block(
        self, images: Tensor, clip_patches: Sequence[Tensor], count: int
    ) -> list[tuple[Tensor, Tensor]]:
        """What `forward` gives, after each of the last `count` blocks: one decoder reads all."""
        N, grid = self.query.shape[1], self._grid(images)
        return [
            self.decoder(x[:, :N], x[:, N:].transpose(1, 2).unflatten(2, grid))
            for x in deque(self.streams(images, clip_patches), count)
        ]

    def streams(self, images: Tensor, clip_patches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Queries and patches (B, N + h·w, width) before the first block and after each one.

        Arguments as of `forward`. Positions are added at the input and again before each block but
        the first; CLIP's features to the patches alone, after the tokens that a fusion belongs to.
        """
        size_hw = self._grid(images)
        N = self.query.shape[1]
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        positions = torch.cat([self.query_position, self._patch_positions(size_hw)], 1)
        x = torch.cat([self.query.expand(images.shape[0], -1, -1), patches], 1) + positions
        for depth in range(len(self.blocks) + 1):
            if depth > 0:
                x = self.blocks[depth - 1](x if depth == 1 else x + positions)
            if depth < len(self.fusions):
                fused = self.fusions[depth](clip_patches[depth], size_hw)
                x = torch.cat([x[:, :N], x[:, N:] + fused], 1)
            yield x

    def _grid(self, images: Tensor) -> tuple[int, int]:
        rows, columns = self.patch_embed.stride
        return images.shape[2] // rows, images.shape[3] // columns

    def _patch_positions(self, size_hw: tuple[int, int]) -> Tensor:
        """The patches' table (1, h·w, width); only another number of patches changes it."""
        # As the authors have it: a grid of as many patches takes the table whatever its shape.
        table, count = self.patch_position[0], math.prod(size_hw)
        if torch.jit.is_tracing():  # the graph decides when it runs
            rows = torch.arange(count, device=table.device).clamp(max=table.shape[0] - 1)
            same = torch.as_tensor(count == table.shape[0])
            return torch.where(same, table[rows], resize_table(table, size_hw))[None]
        return self.patch_position if count == len(table) else resize_table(table, size_hw)[None]
