"""Photos made up for a benchmark: the same ones everywhere, with large and small structure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

BAND = 512  # rows that get their grain at a time


def made_up(size_hw: tuple[int, int], number: int = 0) -> np.ndarray:
    """Pixels (H, W, 3) uint8 whose JPEG is about as large as a photo's."""
    height, width = size_hw
    draw = np.random.default_rng(number)
    coarse = draw.integers(0, 256, (6, 8, 3), np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.array(smooth)
    for top in range(0, height, BAND):
        band = pixels[top : top + BAND]
        grain = draw.integers(-12, 13, (len(band), width, 1), np.int16)
        band[:] = (band + grain).clip(0, 255)
    return pixels


def write_photos(folder: Path, count: int, size_hw: tuple[int, int]) -> Path:
    """A folder with so many photos of a size."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(made_up(size_hw, number)).save(folder / f"{number:04}.jpg", quality=90)
    return folder
