"""CLIP's two towers; in the image tower, patch severance and learned positions (DeOP, Sec. 3.2).

Han et al., ICCV 2023, arXiv 2304.01198; CLIP: Radford et al., 2021, arXiv 2103.00020.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.model.attention import Attention, merge_heads, split_heads
from ovseg_cli.model.config import LOCAL, SEVERANCES, ClipVisualConfig, TextConfig
from ovseg_cli.model.positions import resize_table

NEIGHBOURHOOD = 5.0  # σ of NACLIP's Gaussian, patches


class QuickGELU(nn.Module):
    """CLIP's approximation of the GELU: z · sigmoid(1.702 z)."""

    def forward(self, z: Tensor) -> Tensor:
        """Elementwise."""
        return z * torch.sigmoid(1.702 * z)


class MLP(nn.Module):
    """The feed-forward part of a CLIP block."""

    def __init__(self, width: int, hidden: int, gelu: str = "quick") -> None:
        super().__init__()
        if gelu not in ("quick", "exact"):
            raise ValueError(f"gelu is quick or exact, not {gelu}")
        self.c_fc = nn.Linear(width, hidden)
        self.gelu = QuickGELU() if gelu == "quick" else nn.GELU()
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return self.c_proj(self.gelu(self.c_fc(x)))


class ResidualBlock(nn.Module):
    """A pre-norm transformer layer; `severance` replaces its self-attention.

    severance: one of SEVERANCES or LOCAL; reduced: a severed layer gives the attention's output
    alone, without residual and MLP.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        severance: str | None = None,
        reduced: bool = False,
        gelu: str = "quick",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.severance = severance
        self.reduced = reduced
        self.ln_1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps)
        self.mlp = MLP(width, mlp_width, gelu)

    def forward(
        self,
        x: Tensor,
        masks: Tensor | None = None,
        causal: bool = False,
        severed: bool = True,
        grid_hw: tuple[int, int] | None = None,
    ) -> Tensor:
        """Tokens (B, L, width) -> (B, L, width).

        masks: (B, N, L) in [0, 1], for the severances in MASKED, which are "gps" without them;
        causal: a token sees itself and those before it;
        severed: False = the layer as CLIP has it, whatever its severance;
        grid_hw: of the patches, the last tokens; for the severance "neighbour".
        """
        y = self.ln_1(x)
        if self.severance is None or not severed:
            x = x + self.attn(y, y, y, causal)
        else:
            if self.severance in LOCAL:
                severed_part = local_attention(self.attn, y, self.severance, grid_hw)
            else:
                severed_part = severed_attention(self.attn, y, masks, self.severance)
            if self.reduced:
                return severed_part
            x = x + severed_part
        return x + self.mlp(self.ln_2(x))


def severed_attention(attn: Attention, x: Tensor, masks: Tensor | None, severance: str) -> Tensor:
    """What is left of self-attention once patches stop mixing (DeOP, Sec. 3.2).

    x: (B, L, D); masks: (B, N, L) in [0, 1]. Token l gets the output projection of
    "gps": its own value; "gps_mask": its own value times Σ_n m[n, l], which equals the attention
    of the N masks summed, without a tensor of N × L values; "mps": the values of all tokens,
    weighted with softmax over l' of Σ_n m[n, l] m[n, l'], the same for every head. Without masks
    all three are "gps".
    """
    D = x.shape[-1]
    value = F.linear(x, attn.in_proj_weight[2 * D :], attn.in_proj_bias[2 * D :])
    if severance == "gps" or masks is None:
        return attn.out_proj(value)
    if severance == "gps_mask":
        return attn.out_proj(value * masks.sum(1).unsqueeze(-1).to(value))
    # The scores reach N: in half precision their softmax would be far off.
    with torch.autocast(x.device.type, enabled=False):
        tokens = masks.float().transpose(1, 2)  # (B, L, N): queries and keys at once
        mixed = F.scaled_dot_product_attention(tokens, tokens, value.float(), scale=1.0)
    return attn.out_proj(mixed.to(value))


def local_attention(
    attn: Attention, x: Tensor, kind: str, grid_hw: tuple[int, int] | None = None
) -> Tensor:
    """Attention of training-free works, in which a patch looks at those that are like it.

    x: (B, L, D), patches last, and before them the class token where there is one. The values v
    are weighted with, in each head,
    "csa": softmax(q qᵀ/√d) + softmax(k kᵀ/√d) (SCLIP, arXiv 2312.01597);
    "self": softmax(q qᵀ/√d) (ClearCLIP, arXiv 2407.12442);
    "neighbour": softmax(k kᵀ/√d + ω), ω = exp(−|p_i − p_j|² / 2σ²) for patches at grid positions p
    and 0 for the class token (NACLIP, arXiv 2404.08181).
    """
    q, k, v = (split_heads(part, attn.heads) for part in attn.project(x))
    look = F.scaled_dot_product_attention
    if kind == "neighbour":
        assert grid_hw is not None, "the severance neighbour needs the patches' grid"
        near = F.pad(neighbourhood(grid_hw, x.device), 2 * (x.shape[1] - math.prod(grid_hw), 0))
        mixed = look(k, k, v, attn_mask=near.to(q.dtype))
    else:
        mixed = look(q, q, v)
        if kind == "csa":
            mixed = mixed + look(k, k, v)
    return attn.out_proj(merge_heads(mixed))


def neighbourhood(grid_hw: tuple[int, int], device: torch.device) -> Tensor:
    """NACLIP's ω (h·w, h·w) between patches; see `local_attention`."""
    rows, columns = (
        torch.exp(
            -((torch.arange(n, device=device)[:, None] - torch.arange(n, device=device)) ** 2)
            / (2 * NEIGHBOURHOOD**2)
        )
        for n in grid_hw
    )
    both = rows[:, None, :, None] * columns[:, None, :]  # Kronecker's product, but ONNX knows this
    return both.flatten(2).flatten(0, 1)


class VisualTower(nn.Module):
    """CLIP's image tower (ViT): an image and its mask logits -> patch features."""

    def __init__(self, config: ClipVisualConfig, joint_width: int) -> None:
        super().__init__()
        known = (*SEVERANCES, *LOCAL)
        if config.severance not in known:
            raise ValueError(f"severance is one of {', '.join(known)}, not {config.severance}")
        layers = range(config.layers)
        for name in ("severed_layers", "position_layers"):
            if not set(getattr(config, name)) <= set(layers):
                raise ValueError(f"{name} {getattr(config, name)} of a tower of {config.layers}")
        width = config.width
        self.config = config
        self.conv1 = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = _position_table(config.grid, width)
        self.learned_position: Tensor | None = None
        self.layer_positions = nn.ParameterDict()  # layer -> table added at its entry
        if config.run_grid is not None:
            self.learned_position = _position_table(config.run_grid, width)
            for layer in config.position_layers:
                self.layer_positions[str(layer)] = _position_table(config.run_grid, width)
        self.ln_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            ResidualBlock(
                width,
                config.heads,
                config.mlp_width,
                config.severance if layer in config.severed_layers else None,
                config.reduced,
                config.gelu,
            )
            for layer in layers
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, joint_width) * width**-0.5)

    def forward(self, images: Tensor, mask_logits: Tensor | None = None) -> Tensor:
        """Patch features (B, h, w, C), not normalised to unit length.

        images: (B, 3, H, W), normalised; h, w = H // patch size, W // patch size;
        mask_logits: (B, N, ., .) of the same picture at any scale; for a severance in MASKED.
        """
        x, (h, w) = self.embed(images)
        masks = None if mask_logits is None else token_masks(mask_logits, (h, w))
        if self.learned_position is not None:
            x = x + resize_positions(self.learned_position, (h, w))
        x = self.ln_pre(x)
        for layer, block in enumerate(self.blocks):
            if str(layer) in self.layer_positions:
                x = x + resize_positions(self.layer_positions[str(layer)], (h, w))
            x = block(x, masks, grid_hw=(h, w))
        x = self.ln_post(x[:, 1:]) @ self.proj
        # By the images: tracing takes the batch of a reduced layer for a number (`onnx_export`).
        return x.reshape(images.shape[0], h, w, -1)

    def image_features(self, images: Tensor) -> Tensor:
        """CLIP's own feature of each whole image (B, C), not normalised to unit length.

        images: as of `forward`. No layer is severed and no learned position added.
        """
        x = self.ln_pre(self.embed(images)[0])
        for block in self.blocks:
            x = block(x, severed=False)
        return self.ln_post(x[:, 0]) @ self.proj

    def learned_positions(self) -> list[nn.Parameter]:
        """The position tables that DeOP adds to CLIP's own."""
        tables = [] if self.learned_position is None else [self.learned_position]
        return [*tables, *self.layer_positions.values()]

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Class token and patches with CLIP's positions (B, 1 + h·w, width), and h, w.

        What the tower does first; `ln_pre` and the blocks follow.
        """
        x = self.conv1(images)  # (B, width, h, w)
        B, _, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.to(x).expand(B, 1, -1), x], dim=1)
        return x + resize_positions(self.positional_embedding, (h, w)), (h, w)


def _position_table(grid: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(1 + grid * grid, width) * width**-0.5)


def token_masks(mask_logits: Tensor, size_hw: tuple[int, int], others: int = 1) -> Tensor:
    """Mask logits (B, N, ., .) -> masks of the tokens (B, N, others + h·w) in [0, 1].

    The logits are resized and the sigmoid comes after; the other tokens, such as the class token,
    lie in every mask.
    """
    logits = F.interpolate(mask_logits, size_hw, mode="bilinear", align_corners=False)
    return F.pad(logits.sigmoid().flatten(2), (others, 0), value=1.0)


def resize_positions(table: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """A position table (1 + g·g, D), class row first, for a grid of h×w patches: (1 + h·w, D).

    The authors' code compares numbers of rows only, so that 16×36 patches take the table of 24×24
    unresized, its rows broken in the wrong places. Here the grid itself decides.
    """
    grid = round((len(table) - 1) ** 0.5)
    if size_hw == (grid, grid):
        return table
    return torch.cat([table[:1], resize_table(table[1:], size_hw)])


class TextTower(nn.Module):
    """CLIP's text tower: a causal transformer read at each text's end token."""

    def __init__(self, config: TextConfig, joint_width: int) -> None:
        super().__init__()
        width = config.width
        self.token_embedding = nn.Embedding(config.tokens, width)
        self.positional_embedding = nn.Parameter(torch.randn(config.context, width) * 0.01)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, config.heads, 4 * width, gelu=config.gelu)
            for _ in range(config.layers)
        )
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, joint_width) * width**-0.5)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, tokens: Tensor, ends: Tensor | None = None) -> Tensor:
        """Features (n, C) of n texts, not normalised to unit length.

        tokens: (n, L) integer ids, or (n, L, width) embeddings that replace them; L <= context;
        ends: (n,) position of each end token; may be left out for ids, whose end is the largest.
        """
        x = tokens if tokens.is_floating_point() else self.token_embedding(tokens)
        if ends is None:
            assert not tokens.is_floating_point(), "embeddings do not tell where they end"
            ends = tokens.argmax(-1)
        # No token sees those after it, so what follows the last end token cannot matter.
        length = int(ends.max()) + 1
        x = x[:, :length] + self.positional_embedding[:length]
        for block in self.blocks:
            x = block(x, causal=True)
        x = x[torch.arange(len(x), device=x.device), ends]
        return self.ln_final(x) @ self.text_projection
