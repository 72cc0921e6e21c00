"""Random views of a photo and its labels. Every function draws from the generator it is given."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ovseg_cli.data.pixel_set import IGNORE

GREY = 124  # what a view shows outside its photo
JITTER = 0.4  # logarithm of the largest change of contrast, brightness and saturation
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def random_crop(
    image: np.ndarray,
    labels: np.ndarray,
    size: int,
    scales: tuple[float, float],
    draw: np.random.Generator,
    focus: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A size×size view at a random scale and aspect, flipped half of the time.

    image: (H, W, 3) uint8; labels: (H, W) uint8; scales: smallest and largest enlargement;
    focus: a label that the view should show (it is centred near one of its pixels).
    Outside the photo the view is grey and IGNORE.
    """
    height, width = labels.shape
    scale = np.exp(draw.uniform(np.log(scales[0]), np.log(scales[1])))
    aspect = np.exp(draw.uniform(-0.15, 0.15))
    box_h, box_w = size / scale * aspect, size / scale / aspect
    top = _offset(height, box_h, draw)
    left = _offset(width, box_w, draw)
    if focus is not None:
        rows, columns = np.nonzero(labels == focus)
        if len(rows):
            chosen = draw.integers(len(rows))
            top = _near(rows[chosen] - box_h * draw.uniform(0.2, 0.8), height, box_h)
            left = _near(columns[chosen] - box_w * draw.uniform(0.2, 0.8), width, box_w)
    box = (left, top, left + box_w, top + box_h)
    image = _cut(image, box, size, Image.Resampling.BILINEAR, GREY)
    labels = _cut(labels, box, size, Image.Resampling.NEAREST, IGNORE)
    if draw.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return image, labels


def masked_crop(
    image: np.ndarray, mask: np.ndarray, size: int, colour: tuple[float, float, float]
) -> np.ndarray:
    """The smallest square around a mask as (size, size, 3) uint8; outside the mask it is `colour`.

    image: (H, W, 3) uint8; mask: (H, W) bool, not empty; colour: RGB in 0..255.
    """
    fill = np.array(colour).round().astype(np.uint8)
    return _cut(
        np.where(mask[..., None], image, fill),
        _square(mask),
        size,
        Image.Resampling.BILINEAR,
        fill,
    )


def square_around(image: np.ndarray, mask: np.ndarray, size: int) -> np.ndarray:
    """The same with what is around the mask; what lies outside the photo is grey."""
    return _cut(image, _square(mask), size, Image.Resampling.BILINEAR, GREY)


def random_box(side: int, draw: np.random.Generator) -> tuple[slice, slice, float]:
    """A square within side×side pixels, of random place and of an area drawn evenly.

    Returns its rows, its columns and its share of the whole. For CutMix: Yun et al., ICCV 2019,
    arXiv 1905.04899.
    """
    edge = int(round(side * np.sqrt(draw.random())))
    y, x = draw.integers(0, side - edge + 1, 2)
    return slice(y, y + edge), slice(x, x + edge), (edge / side) ** 2


def _square(mask: np.ndarray) -> tuple[float, float, float, float]:
    """The smallest square (left, top, right, bottom) around a mask, both with one centre."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = max(bottom - top, right - left)
    y, x = (top + bottom - side) / 2, (left + right - side) / 2
    return x, y, x + side, y + side


def _offset(length: int, box: float, draw: np.random.Generator) -> float:
    """Where a box starts: inside the photo, or around all of it where it is the larger."""
    low, high = sorted((0.0, length - box))
    return draw.uniform(low, high)


def _near(start: float, length: int, box: float) -> float:
    low, high = sorted((0.0, length - box))
    return min(max(start, low), high)


def _cut(
    pixels: np.ndarray,
    box: tuple[float, float, float, float],
    size: int,
    resample: Image.Resampling,
    fill: int | np.ndarray,
) -> np.ndarray:
    """The box of the picture as size×size pixels; what lies outside is `fill`."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = box
    inside = (max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
    unit_x, unit_y = size / (right - left), size / (bottom - top)
    x0, x1 = round((inside[0] - left) * unit_x), round((inside[2] - left) * unit_x)
    y0, y1 = round((inside[1] - top) * unit_y), round((inside[3] - top) * unit_y)
    part = Image.fromarray(pixels).resize((max(x1 - x0, 1), max(y1 - y0, 1)), resample, inside)
    view = np.full((size, size, *pixels.shape[2:]), fill, np.uint8)
    view[y0:y1, x0:x1] = np.asarray(part)[: y1 - y0, : x1 - x0]
    return view


def jitter_colour(images: Tensor, draw: np.random.Generator) -> Tensor:
    """Brightness, contrast, saturation, gamma and tint of each picture, changed at random.

    images: (B, 3, H, W) float in 0..255; the result lies there too.
    """
    count = len(images)

    def factor(spread: float) -> Tensor:
        values = np.exp(draw.uniform(-spread, spread, (count, 1, 1, 1)))
        return torch.from_numpy(values).to(images)

    luma = torch.tensor(LUMA).to(images).view(1, 3, 1, 1)
    grey = (images * luma).sum(1, keepdim=True)
    images = grey + (images - grey) * factor(JITTER)
    mean = grey.mean((2, 3), keepdim=True)
    images = (images - mean) * factor(JITTER) + mean * factor(JITTER)
    tint = torch.from_numpy(np.exp(draw.uniform(-0.1, 0.1, (count, 3, 1, 1)))).to(images)
    images = (images * tint).clamp(0, 255)
    return 255 * (images / 255) ** factor(JITTER * 0.5)


def lose_colour(images: Tensor, draw: np.random.Generator, share: float) -> Tensor:
    """Each picture with probability `share` as a black-and-white photo; nothing drawn for 0.

    images: (B, 3, H, W) float in 0..255; luma as in `LUMA`.
    """
    if not share:
        return images
    grey = torch.from_numpy(draw.random(len(images)) < share).to(images.device)
    luma = torch.tensor(LUMA).to(images).view(1, 3, 1, 1)
    return torch.where(grey.view(-1, 1, 1, 1), (images * luma).sum(1, keepdim=True), images)


def distort_colour(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation and hue of a picture (H, W, 3) uint8, changed at random.

    SSD's distortion (Liu et al., 2016, arXiv 1512.02325, Sec. 2.2): each with probability 1/2,
    the contrast before or after the two others.
    """
    if draw.random() < 0.5:
        image = _affine(image, 1.0, draw.uniform(-32, 32))
    contrast = draw.uniform(0.5, 1.5) if draw.random() < 0.5 else 1.0
    contrast_first = draw.random() < 0.5
    if contrast_first:
        image = _affine(image, contrast, 0.0)
    saturation = draw.uniform(0.5, 1.5) if draw.random() < 0.5 else 1.0
    turn = draw.uniform(-0.1, 0.1) if draw.random() < 0.5 else 0.0  # of the colour circle
    if saturation != 1 or turn != 0:
        pixels = np.asarray(Image.fromarray(image).convert("HSV")).astype(np.float32)
        hue = (pixels[..., 0] + 255 * turn) % 255
        channels = (hue, (pixels[..., 1] * saturation).clip(0, 255), pixels[..., 2])
        planes = [Image.fromarray(channel.astype(np.uint8)) for channel in channels]
        image = np.asarray(Image.merge("HSV", planes).convert("RGB"))
    return image if contrast_first else _affine(image, contrast, 0.0)


def _affine(image: np.ndarray, factor: float, shift: float) -> np.ndarray:
    changed = image * np.float32(factor) + np.float32(shift)
    return changed.round().clip(0, 255).astype(np.uint8)


def to_tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float in channels-last order, the faster one here."""
    return torch.from_numpy(images.copy()).to(device).permute(0, 3, 1, 2).float()


def resize_photo(
    image: np.ndarray, shorter: int, device: torch.device, longest: int | None = None
) -> Tensor:
    """A photo (H, W, 3) uint8 as (1, 3, h, w) float in 0..255, its shorter side about `shorter`.

    Less where its longer side would be more than `longest`. Both sides become multiples of 32, so
    that nothing needs padding.
    """
    scale = shorter / min(image.shape[:2])
    if longest is not None:
        scale = min(scale, longest / max(image.shape[:2]))
    size = [max(32, round(side * scale / 32) * 32) for side in image.shape[:2]]
    return F.interpolate(to_tensor(image[None], device), size, mode="bilinear", antialias=True)
