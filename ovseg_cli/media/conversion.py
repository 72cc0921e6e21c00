"""Pictures of other kinds -> 8 bits a channel, a strip at a time, so that one copy is enough."""

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

_STRIP = 1 << 20  # pixels


def by_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """A picture converted without the copies of all of it that this would take at once."""
    converted = Image.new("RGB", image.size)
    for box in strips(image):
        converted.paste(convert(image.crop(box)), box[:2])
    return converted


def strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, right and bottom of each strip of a picture."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def over_white(image: Image.Image) -> Image.Image:
    """Transparent pixels laid over white."""
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)


def value_range(image: Image.Image) -> tuple[float, float]:
    """What becomes black, and how much more is white: 0 and the least of 1, 255 and 65535 that
    holds all values (1 for fractions only); where none does, the values are stretched."""
    low, high = np.inf, -np.inf
    for box in strips(image):
        part = _finite(image.crop(box))
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    for scale in (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0):
        if low >= 0 and high <= scale:
            return 0.0, scale
    return low, max(high - low, 1e-30)


def grey(image: Image.Image, low: float, span: float) -> np.ndarray:
    """Values from low to low + span scaled to 0..255."""
    values = (_finite(image) - np.float32(low)) * np.float32(255.0 / span)
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _finite(image: Image.Image) -> np.ndarray:
    values = np.asarray(image).astype(np.float32)
    return np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
