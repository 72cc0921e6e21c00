"""One picture on its way through the house."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Frame:
    """A photo, or one picture of a video."""

    pixels: np.ndarray  # (H, W, 3) uint8, always RGB
    index: int = 0  # position in its video; 0 for a photo
    seconds: float = 0.0  # time stamp in its video
    source: str = ""  # where it came from, for messages

    def __post_init__(self) -> None:
        _require_picture(self.pixels)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def view(self) -> np.ndarray:
        """(h, w, 3) uint8, what a network is shown: the pixels, or all of it made smaller."""
        return self.pixels


class ReducedFrame(Frame):
    """A photo of which only a smaller copy is decoded, since a network needs no more.

    Its own pixels are decoded when they are first asked for, and kept.
    """

    def __init__(
        self,
        view: np.ndarray,
        size_hw: tuple[int, int],
        decode: Callable[[], np.ndarray],
        source: str = "",
    ) -> None:
        """view: (h, w, 3) uint8; size_hw: of the photo; decode: gives its pixels, (H, W, 3) uint8,
        and raises InputError where it cannot."""
        _require_picture(view)
        vars(self)["source"] = source  # a field of a frozen dataclass cannot be assigned to
        self._view = view
        self._size_hw = size_hw
        self._decode = decode

    @cached_property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8, RGB. Raises InputError."""
        pixels = self._decode()
        if pixels.shape != (*self.size_hw, 3):
            raise ValueError(f"a photo of {self.size_hw} pixels was decoded as {pixels.shape}")
        return pixels

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the photo in pixels."""
        return self._size_hw

    @property
    def view(self) -> np.ndarray:
        """See `Frame`."""
        return self._view


def _require_picture(pixels: np.ndarray) -> None:
    shape, dtype = pixels.shape, pixels.dtype
    if len(shape) != 3 or shape[2] != 3 or dtype != np.uint8:
        raise ValueError(f"a frame is H×W×3 uint8, not {shape} {dtype}")
    if shape[0] == 0 or shape[1] == 0:
        raise ValueError(f"a frame needs at least one pixel, not {shape}")
