"""Sine positions, shared by the two decoders, and the resizing of learned tables."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def check_channels(channels: int) -> None:
    """Raise ValueError for channels that make no sine and cosine pairs of two axes."""
    if channels % 4:
        raise ValueError(f"{channels} channels do not make sine and cosine pairs of two axes")


def sine_positions(
    height: int, width: int, channels: int, device: torch.device | None = None
) -> Tensor:
    """Positions of a grid (channels, height, width), float32 (DETR, arXiv 2005.12872, App. A.4).

    The first half of the channels tells the row, the second the column; each coordinate runs over
    (0, 2π]. Channels come in pairs of sine and cosine whose wavelength grows to 10 000 · 2π.
    """
    check_channels(channels)
    half = channels // 2
    pair = torch.arange(half, device=device) // 2
    wavelength = 10000 ** (2 * pair.float() / half)

    def axis(size: int) -> Tensor:
        steps = torch.arange(1, size + 1, device=device, dtype=torch.float32)
        angle = steps / (size + 1e-6) * (2 * math.pi) / wavelength[:, None]  # (half, size)
        even = torch.arange(half, device=device)[:, None] % 2 == 0
        return torch.where(even, angle.sin(), angle.cos())

    rows = axis(height)[:, :, None].expand(half, height, width)
    columns = axis(width)[:, None, :].expand(half, height, width)
    return torch.cat([rows, columns])


def resize_table(table: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Positions of a square grid (g·g, D) for a grid of h×w, bicubic: (h·w, D)."""
    grid = round(len(table) ** 0.5)
    square = table.T.reshape(1, -1, grid, grid)
    resized = F.interpolate(square, size_hw, mode="bicubic", align_corners=False)
    return resized.flatten(2)[0].T
