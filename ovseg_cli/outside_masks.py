"""Regions that come from elsewhere, as a network takes them: a portion of many masks at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg_cli.errors import InputError
from ovseg_cli.frame import Frame
from ovseg_cli.prepared import Prepared, in_mirror

CERTAIN = 30.0  # the logit of a mask that is 0 or 1
# Masks from elsewhere are bytes; so many pixels of them are made float32 at a time (16 MB), and so
# many at once (1.2 GB) where patches look at all of them together.
PORTION, MOST_LOOKED_AT = 1 << 22, 300_000_000

# A photo, the unit features (h, w, C) of its patches and a size H×W -> masks (Q, H, W) bool.
MaskSource = Callable[[Frame, np.ndarray, tuple[int, int]], np.ndarray]


def _portions(found: Tensor, photo: Prepared, mirrored: bool) -> Iterator[tuple[slice, Tensor]]:
    """Masks (Q, ., .) bool at the size of a look's input, 0 in the padding: (1, n, H, W) float32,
    and which of the Q they are.

    n is as many as PORTION allows: all of them at once would be many gigabytes.
    """
    height, width = photo.pixels.shape[-2:]
    count = max(1, PORTION // (height * width))
    for first in range(0, len(found), count):
        place = slice(first, min(first + count, len(found)))
        covered = F.interpolate(found[place].float()[None], photo.valid_hw, mode="nearest-exact")
        covered = F.pad(covered, photo.padding)
        yield place, in_mirror(covered, photo.seen_hw[1]) if mirrored else covered


def pooled(found: Tensor, photo: Prepared, mirrored: bool, grid_hw: tuple[int, int]) -> Tensor:
    """The same as shares of patches, all at once (1, Q, h, w).

    Each mask is pooled for itself, so that portions of them change no bit.
    """
    # Made beforehand: results that lie between the portions keep their memory from being used again
    # (3.2 GB for 1.3, 4096 masks at 240 pixels).
    shares = torch.empty(1, len(found), *grid_hw, dtype=torch.float32, device=found.device)
    for place, part in _portions(found, photo, mirrored=False):
        seen = part[..., : photo.seen_hw[0], : photo.seen_hw[1]]
        share = F.interpolate(seen, grid_hw, mode="area")
        if seen.shape != part.shape:  # what no patch sees at all is what those beside it are
            outside = ~share.flatten(2).any(2)[..., None, None]
            share = torch.where(outside, F.interpolate(part, grid_hw, mode="area"), share)
        shares[:, place] = share
    return shares.flip(-1) if mirrored else shares


def certain_logits(found: Tensor, photo: Prepared, mirrored: bool, frame: Frame) -> Tensor:
    """The same as mask logits, all at once (1, Q, H, W). Raises InputError where they are many."""
    height, width = photo.pixels.shape[-2:]
    most = MOST_LOOKED_AT // (height * width)
    if len(found) > most:
        raise InputError(
            f"{frame.source}: {len(found)} masks are more than the {most} that patches of "
            f"{width}×{height} pixels can look at: a smaller --size allows more, as does another "
            "--attention than mask"
        )
    size = (1, len(found), height, width)
    logits = torch.empty(size, dtype=torch.float32, device=found.device)
    for place, part in _portions(found, photo, mirrored):
        logits[:, place] = CERTAIN * (2 * part - 1)
    return logits


def require_masks(masks: np.ndarray, size_hw: tuple[int, int]) -> None:
    """Raise ValueError where a source, which may be the user's own, breaks its contract."""
    height, width = size_hw
    wanted = f"masks are Q×{height}×{width} bool, at least one"
    if not isinstance(masks, np.ndarray):
        raise ValueError(f"{wanted}, not a {type(masks).__name__}")
    if masks.dtype != np.bool_ or masks.ndim != 3 or not len(masks) or masks.shape[1:] != size_hw:
        raise ValueError(f"{wanted}, not {masks.shape} {masks.dtype}")
