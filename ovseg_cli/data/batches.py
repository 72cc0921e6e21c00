"""What a step of training sees: views with a label per pixel, or mosaics of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class ViewStyle:
    """How views are made of a set's photos. Shares are those of all views."""

    size: int  # side of a view, pixels
    scales: tuple[float, float] = (0.5, 2.0)  # enlargement of a photo, smallest and largest
    focus_share: float = 0.0  # views that aim at a class drawn evenly
    # Views into which goes what another photo shows of one of the rarer classes: "simple
    # copy-paste", Ghiasi et al., CVPR 2021, arXiv 2012.07177.
    paste_share: float = 0.0
    mix_share: float = 0.0  # views that take a box with its labels from the view before: CutMix
    guests: bool = False  # each view has a thing pasted in that none of the set's names means


@dataclass(frozen=True)
class Guest:
    """A class of another set, things of which are in views of this one."""

    set_name: str
    label: int  # in that set


@dataclass(frozen=True, eq=False)
class PixelBatch:
    """Views of photos of one set with a label per pixel."""

    set_name: str
    images: np.ndarray  # (B, S, S, 3) uint8 RGB
    labels: np.ndarray  # (B, S, S) uint8: training id, K for none of the names, or IGNORE
    guests: Mapping[int, Guest] = field(default_factory=dict)  # what labels beyond the set's mean


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Mosaics of small pictures with one class each."""

    set_name: str
    images: np.ndarray  # (B, S, S, 3) uint8 RGB
    classes: np.ndarray  # (B, t, t) int64: mosaic b has t rows of t pictures
