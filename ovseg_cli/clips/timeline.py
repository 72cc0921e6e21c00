"""The share of each class over a clip's time, as a stacked area plot."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ovseg_cli.clips.records import Records
from ovseg_cli.legend import PAPER, draw_legend
from ovseg_cli.render import palette
from ovseg_cli.segmentation import ClassArea, class_name
from ovseg_cli.vocabulary import Vocabulary

PLOT_HW = (320, 900)  # pixels, without the axes
LEFT, TOP, BOTTOM, RIGHT = 56, 16, 36, 24  # margins, pixels
_INK, _UNLABELLED = (32, 32, 32), (255, 255, 255)
_FONT = 14  # pixels
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)  # seconds


def draw_timeline(records: Records, vocabulary: Vocabulary) -> np.ndarray:
    """Time to the right, shares of the picture upwards, classes by id from below, unlabelled white.

    records: gives the frames of the clip, each time anew. Frames that are held count for nothing.
    Returns (H, W, 3) uint8 RGB.
    """
    shares, begin, end = _shares(records, len(vocabulary))
    colors = np.concatenate([palette(len(vocabulary)), np.array([_UNLABELLED], np.uint8)])
    height, width = PLOT_HW
    canvas = np.full((TOP + height + BOTTOM, LEFT + width + RIGHT, 3), PAPER, np.uint8)
    if end is not None:
        tops = np.cumsum(shares, axis=1)  # (W, K+1), the last 1
        levels = (np.arange(height)[::-1] + 0.5) / height
        # The class of each place: the first one whose upper edge lies above it.
        rows = np.stack([np.searchsorted(column, levels) for column in tops], axis=1)
        canvas[TOP : TOP + height, LEFT : LEFT + width] = colors[rows.clip(max=len(colors) - 1)]
    image = Image.fromarray(canvas)
    _draw_axes(ImageDraw.Draw(image), begin, end)
    means = shares.mean(0)
    areas = [
        ClassArea(number, class_name(number, vocabulary.names), 0, float(means[number]), 0.0)
        for number in [*range(len(vocabulary)), -1]
        if means[number] > 0
    ]
    areas.sort(key=lambda area: -area.fraction)
    plot = np.asarray(image)
    if not areas:
        return plot
    legend = draw_legend(areas, palette(len(vocabulary)), (400, plot.shape[1]))
    return np.concatenate([plot, legend])


def _shares(records: Records, classes: int) -> tuple[np.ndarray, float, float | None]:
    """Mean share of each class, unlabelled last, in each column of the plot, (W, K+1); the times.

    The last frame lasts as long as the others do in the mean: no record tells when it ends. The end
    is None where there is no frame.
    """
    begin, end, frames = 0.0, None, 0
    for record in records():
        begin = record.seconds if end is None else begin
        end = record.seconds
        frames += 1
    if end is not None and frames > 1:
        end += (end - begin) / (frames - 1)
    width = PLOT_HW[1]
    sums, counts = np.zeros((width, classes + 1)), np.zeros(width)
    for record in records():
        if record.areas is not None and end is not None:
            column = int((record.seconds - begin) / max(end - begin, 1e-9) * width)
            counts[column] += 1
            for class_id, pixels, _ in record.areas:
                sums[column, class_id] += pixels / record.size
    # A column without a frame of its own shows the last one before it.
    filled = np.maximum.accumulate(np.where(counts > 0, np.arange(width), 0))
    return (sums / np.maximum(counts, 1)[:, None])[filled], begin, end


def _draw_axes(draw: ImageDraw.ImageDraw, begin: float, end: float | None) -> None:
    font = ImageFont.load_default(_FONT)
    height, width = PLOT_HW
    for percent in (0, 25, 50, 75, 100):
        y = TOP + round(height * (1 - percent / 100))
        draw.line((LEFT - 5, y, LEFT, y), _INK)
        draw.text((LEFT - 8, y), f"{percent} %", _INK, font, "rm")
    if end is not None:
        span = max(end - begin, 1e-9)
        step = next((step for step in _STEPS if span / step <= 8), span / 8)
        for number in range(int(begin // step), int(end // step) + 1):
            if number * step >= begin - 1e-6:
                x = LEFT + round((number * step - begin) / span * width)
                draw.line((x, TOP + height, x, TOP + height + 5), _INK)
                draw.text((x, TOP + height + 8), _clock(number * step, step), _INK, font, "mt")
    draw.rectangle((LEFT - 1, TOP - 1, LEFT + width, TOP + height), outline=_INK)


def _clock(seconds: float, step: float) -> str:
    """A time as the axis shows it: 3.5 s, 1:30 or 2:05:00."""
    if seconds < 60 and step < 60:
        return f"{seconds:g} s" if step >= 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
