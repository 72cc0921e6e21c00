"""Make results visible: class colours and the tinted photo. Touches no files."""

import functools
from collections.abc import Iterator

import numpy as np
from PIL import Image

from ovseg_cli.frame import Frame
from ovseg_cli.legend import PAPER, draw_legend
from ovseg_cli.segmentation import UNLABELED, Segmentation

ALPHA = 0.5  # share of the class colour; the rest is the photo's
_BAND = 1 << 16  # pixels tinted at a time: the temporaries stay in the processor's cache


@functools.lru_cache(maxsize=8)
def palette(count: int) -> np.ndarray:
    """Class colours, (count, 3) uint8 RGB, all different; a class keeps its colour as more follow.

    Each colour is the one of a grid that lies farthest, in CIELAB, from all before it. Very dark,
    very light and greyish colours, which would vanish in a photo, come only after some 2500 others.
    """
    steps = np.arange(0, 256, 15)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _cielab(grid)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    keep = (lab[:, 0] >= 42) & (lab[:, 0] <= 84) & (chroma >= 28) & (chroma <= 85)
    grid = grid[keep]
    # Integers, so that rounding cannot make another choice on another machine.
    points = np.rint(lab[keep] * (130, 100, 100)).astype(np.int64)  # lightness counts a bit more
    chosen = [int(np.abs(grid - (70, 130, 200)).sum(axis=1).argmin())]
    distance = np.full(len(grid), np.iinfo(np.int64).max)
    while len(chosen) < min(count, len(grid)):
        squares = ((points - points[chosen[-1]]) ** 2).sum(axis=1)
        distance = np.minimum(distance, squares)
        chosen.append(int(distance.argmax()))
    colors = _with_codes(grid[chosen], count)
    colors.flags.writeable = False  # shared by all callers
    return colors


def overlay(frame: Frame, segmentation: Segmentation) -> Image.Image:
    """The photo tinted by class, and below it a legend of the classes present.

    Unlabelled pixels keep their colour. Returns an RGB picture with the photo at the top left; it
    is wider than the photo only for narrow photos.
    """
    height, width = frame.size_hw
    areas = sorted(segmentation.areas(), key=lambda area: -area.pixels)
    legend = draw_legend(areas, palette(len(segmentation.vocabulary)), frame.size_hw)
    picture = Image.new("RGB", (legend.shape[1], height + legend.shape[0]), PAPER)
    for top, band in _tinted_bands(frame, segmentation):
        picture.paste(band, (0, top))
    picture.paste(Image.fromarray(legend), (0, height))
    return picture


def tinted(frame: Frame, segmentation: Segmentation, *, out: np.ndarray) -> None:
    """Write the photo tinted by class into `out`, (H, W, 3) uint8: `overlay` without the legend."""
    for top, band in _tinted_bands(frame, segmentation):
        out[top : top + band.height] = np.asarray(band)


def _tinted_bands(frame: Frame, segmentation: Segmentation) -> Iterator[tuple[int, Image.Image]]:
    """The tinted photo from the top, some rows at a time: the first's number, and the rows.

    Each class's border has its plain colour. Pillow's blending takes a third of NumPy's time.
    """
    pixels, labels = frame.pixels, segmentation.labels
    if labels.shape != frame.size_hw:
        raise ValueError(f"labels {labels.shape} do not fit the photo {frame.size_hw}")
    colors = palette(len(segmentation.vocabulary))
    height, width = labels.shape
    padded = np.zeros((len(colors) + 1, 4), np.uint8)  # the last row is for UNLABELED = -1
    padded[:-1, :3] = colors
    packed = padded.view(np.uint32)[:, 0]  # a colour is one number: taken at once
    thickness = max(1, round(min(height, width) / 500))
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        ids = labels[top : top + rows]
        photo = Image.fromarray(pixels[top : top + rows])
        taken = packed.take(ids, mode="wrap")
        tint = Image.frombytes("RGB", photo.size, taken.data, "raw", "RGBX")
        band = Image.blend(photo, tint, ALPHA)
        unlabelled = ids == UNLABELED
        if unlabelled.any():
            band.paste(photo, mask=Image.fromarray(unlabelled))
        border = _borders(labels[top : top + rows + thickness], thickness)[:rows]
        border &= ~unlabelled
        band.paste(tint, mask=Image.fromarray(border))
        yield top, band


def _borders(labels: np.ndarray, thickness: int) -> np.ndarray:
    """Where another class begins within so many pixels to the right or below."""
    border = np.zeros(labels.shape, bool)
    for step in {1, thickness}:
        border[:, :-step] |= labels[:, step:] != labels[:, :-step]
        border[:-step] |= labels[step:] != labels[:-step]
    return border


def _cielab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of (n, 3) sRGB values 0..255; distances in it are about how we see them."""
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
         [0.0193339, 0.1191920, 0.9503041]]
    )  # fmt: skip
    xyz = linear @ to_xyz.T / (0.95047, 1.0, 1.08883)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def _with_codes(colors: np.ndarray, count: int) -> np.ndarray:
    """The colours, and then as many others as are needed for the count."""
    if count <= len(colors):
        return colors[:count].astype(np.uint8)
    order = np.arange(1, count + 1) * 0x9E3779B1 % (1 << 24)  # odd factor: no code comes twice
    others = np.stack([order >> 16, order >> 8 & 255, order & 255], axis=1)
    known = colors @ (1 << 16, 1 << 8, 1)
    others = others[~np.isin(order, known)]
    return np.concatenate([colors, others])[:count].astype(np.uint8)
