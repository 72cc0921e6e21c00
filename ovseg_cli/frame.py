"""One picture on its way through the house."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Frame:
    """A photo, or one picture of a video."""

    pixels: np.ndarray  # (H, W, 3) uint8, always RGB
    index: int = 0  # position in its video; 0 for a photo
    seconds: float = 0.0  # time stamp in its video
    source: str = ""  # where it came from, for messages

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or shape[2] != 3 or dtype != np.uint8:
            raise ValueError(f"a frame is H×W×3 uint8, not {shape} {dtype}")
        if shape[0] == 0 or shape[1] == 0:
            raise ValueError(f"a frame needs at least one pixel, not {shape}")

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]
