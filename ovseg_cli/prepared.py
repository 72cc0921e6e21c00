"""Photos as a network sees them: resized, normalised, padded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ovseg_cli.errors import InputError
from ovseg_cli.frame import Frame

if TYPE_CHECKING:
    from ovseg_cli.model.config import InputConfig
    from ovseg_cli.model.network import Network


@dataclass(frozen=True, eq=False)
class Prepared:
    """A photo as a network sees it."""

    pixels: Tensor  # (1, 3, h, w) normalised and padded
    valid_hw: tuple[int, int]  # without the padding
    padding: tuple[int, int, int, int]  # left, right, top, bottom
    seen_hw: tuple[int, int]  # what of the padded photo patches cover

    @property
    def shown(self) -> Tensor:
        """The photo without the padding, (3, ., .)."""
        return self.pixels[0, :, : self.valid_hw[0], : self.valid_hw[1]]


def prepare(frame: Frame, network: Network, device: torch.device, scale: float = 1.0) -> Prepared:
    """Resize as the authors' code does (Pillow, bilinear), normalise, then pad with zeros.

    scale: of the model's usual size.
    """
    config = network.config.input
    valid_hw = resized(frame.size_hw, config, scale)
    pixels = frame.view
    if valid_hw != pixels.shape[:2]:
        photo = Image.fromarray(pixels)
        pixels = np.asarray(photo.resize(valid_hw[::-1], Image.Resampling.BILINEAR))
    image = torch.from_numpy(np.array(pixels)).to(device)[None].permute(0, 3, 1, 2)
    image = network.normalise(image.float())
    height, width = (padded(side, config) for side in valid_hw)
    padding = (0, width - valid_hw[1], 0, height - valid_hw[0])
    seen_hw = network.config.seen(height), network.config.seen(width)
    if 0 in seen_hw:
        raise InputError(
            f"{valid_hw[1]}x{valid_hw[0]} pixels of it reach the model, less than one of its "
            "patches: let it see the photo larger with --size"
        )
    return Prepared(F.pad(image, padding), valid_hw, padding, seen_hw)


def padded(side: int, config: InputConfig) -> int:
    """The next larger side that a network can take."""
    step = config.size_divisibility
    return math.ceil(side / step) * step


def resized(size_hw: tuple[int, int], config: InputConfig, scale: float = 1.0) -> tuple[int, int]:
    """A photo's size in the network's input: shorter side `min_size`, longer at most `max_size`.

    scale: by which the result is to be larger than that.
    """
    height, width = (float(side) for side in size_hw)
    if config.min_size is not None:
        # As detectron2 does: only the longer side is multiplied, so that halves round alike.
        shorter, usual = float(config.min_size), config.min_size / min(size_hw)
        if height < width:
            height, width = shorter, usual * width
        else:
            height, width = usual * height, shorter
        if max(height, width) > config.max_size:
            usual = config.max_size / max(height, width)
            height, width = height * usual, width * usual
    height, width = height * scale, width * scale
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))


def in_mirror(images: Tensor, seen: int) -> Tensor:
    """Images (..., W) whose first `seen` columns are mirrored.

    What patches leave over at the right stays there, so that they leave it over in the mirror, too.
    """
    if seen == images.shape[-1]:
        return images.flip(-1)
    return torch.cat([images[..., :seen].flip(-1), images[..., seen:]], -1)
