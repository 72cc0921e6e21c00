"""How the picture moved since the one before: dense optical flow, and where it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ovseg_cli.frame import Frame
from ovseg_cli.media.opencv import load_opencv

SIDE = 160  # shorter side of the pictures that are compared, pixels
SMALLEST = 32  # a side, pixels: below it OpenCV's flow reads beyond a long picture, and crashes
TOLERANCE = 30.0  # difference of a colour channel, 0..255, at which agreement has fallen to 1/e
STILL = 0.1  # pixels; smaller motion is taken for none
CUT = 0.35  # mean agreement below which the two pictures show different scenes


@dataclass(frozen=True, eq=False)
class Motion:
    """Where what a picture shows was in the picture before."""

    flow: np.ndarray  # (h, w, 2) float32: x and y to the place in the picture before, pixels
    agreement: np.ndarray  # (h, w) float32 in [0, 1]: whether that place looks the same


def thumbnail(frame: Frame) -> np.ndarray:
    """The picture at the size at which motion is sought, (h, w, 3) uint8."""
    scale = min(1.0, SIDE / min(frame.size_hw))
    height, width = (max(SMALLEST, round(side * scale)) for side in frame.size_hw)
    cv2 = load_opencv()
    return np.asarray(cv2.resize(frame.pixels, (width, height), interpolation=cv2.INTER_AREA))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two thumbnails' colour channels, 0..255; of other sizes: 255."""
    if one.shape != other.shape:
        return 255.0
    return float(np.abs(one.astype(np.int16) - other).mean())


def motion(before: np.ndarray, now: np.ndarray) -> Motion | None:
    """Dense inverse search flow from `now` to `before`, two thumbnails of one size.

    None where the two show different scenes. Kroeger et al., "Fast Optical Flow using Dense Inverse
    Search", ECCV 2016, arXiv 1603.03590, as OpenCV has it.
    """
    cv2 = load_opencv()
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    grey_now, grey_before = (cv2.cvtColor(part, cv2.COLOR_RGB2GRAY) for part in (now, before))
    flow = search.calc(grey_now, grey_before, None)
    flow[np.abs(flow).max(-1) < STILL] = 0  # else what stands still is resampled, and blurs
    height, width = now.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x + flow[..., 0], y + flow[..., 1]
    fetched = cv2.remap(before, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # Blurred: the noise of a single pixel says nothing.
    difference = cv2.blur(cv2.absdiff(fetched, now), (3, 3)).max(-1) / np.float32(TOLERANCE)
    agreement = np.exp(-difference * difference)
    agreement[(x < 0) | (y < 0) | (x > width - 1) | (y > height - 1)] = 0  # came into the picture
    return Motion(flow, agreement) if agreement.mean() >= CUT else None
