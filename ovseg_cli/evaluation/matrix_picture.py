"""The confusion matrix as a picture: who is taken for whom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ovseg_cli.legend import PAPER, drawable, shortened

MOST = 40  # classes that are shown; of more, those with the most true pixels
OTHERS, UNLABELLED = "other classes", "unlabelled"
_CELL, _LETTERS, _DIGITS = 30, 15, 12  # pixels
_MOST_NAME = 190  # pixels; longer names end in an ellipsis
_MARGIN = 14
_INK, _FAINT, _DARK = (32, 32, 32), (140, 140, 140), (8, 48, 107)


def draw_confusion(counts: np.ndarray, names: Sequence[str]) -> Image.Image:
    """Rows are true classes, columns predicted ones; a cell is the share of its row.

    counts: (K, K + 1) as in `ConfusionMatrix`, what is unlabelled last. Shares are written in
    percent and shown from white (none) to dark blue (all). With more than MOST classes those with
    the most true pixels are shown, most frequent first, and one column for all others. A row
    without true pixels stays empty.
    """
    shares, rows, columns = _shares(counts, names)
    title, small = drawable("rows: truth, columns: prediction, %", _DIGITS)
    strip = _name_strip(columns)
    left = max(strip.width, round(small.getlength(title))) + 2 * _MARGIN
    top = strip.width + 2 * _MARGIN
    size = (left + _CELL * len(columns) + _MARGIN, top + _CELL * len(rows) + _MARGIN)
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _MARGIN), title, _FAINT, small)
    # Turned to the left, the strip's first line comes to stand leftmost.
    picture.paste(strip.transpose(Image.Transpose.ROTATE_90), (left, _MARGIN))
    for index, name in enumerate(rows):
        text, font = drawable(name, _LETTERS)
        middle = top + index * _CELL + _CELL // 2
        draw.text((left - 8, middle), shortened(text, font, _MOST_NAME), _INK, font, "rm")
    for row, line in enumerate(shares):
        for column, share in enumerate(line):
            _draw_cell(draw, float(share), left + column * _CELL, top + row * _CELL)
    return picture


def _shares(
    counts: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, Sequence[str], Sequence[str]]:
    """Shares of each row (R, C), NaN in rows without pixels; the names of rows and columns."""
    true = counts.sum(1)
    shown = np.arange(len(names))
    if len(names) > MOST:
        shown = np.argsort(-true, kind="stable")[:MOST]
    rows = [names[index] for index in shown.tolist()]
    parts, columns = [counts[shown][:, shown]], list(rows)
    if len(shown) < len(names):
        rest = np.setdiff1d(np.arange(len(names)), shown)
        parts.append(counts[shown][:, rest].sum(1, keepdims=True))
        columns.append(OTHERS)
    if counts[shown, -1].any():
        parts.append(counts[shown, -1:])
        columns.append(UNLABELLED)
    with np.errstate(invalid="ignore"):
        return np.hstack(parts) / true[shown, None], rows, columns


def _name_strip(names: Sequence[str]) -> Image.Image:
    """The names below each other, a line as high as a cell, as wide as the longest."""
    lines = [
        (shortened(text, font, _MOST_NAME), font)
        for text, font in (drawable(name, _LETTERS) for name in names)
    ]
    width = max(round(font.getlength(text)) for text, font in lines) + 8
    strip = Image.new("RGB", (width, _CELL * len(lines)), PAPER)
    draw = ImageDraw.Draw(strip)
    for index, (text, font) in enumerate(lines):
        draw.text((0, index * _CELL + _CELL // 2), text, _INK, font, "lm")
    return strip


def _draw_cell(draw: ImageDraw.ImageDraw, share: float, left: int, top: int) -> None:
    box = (left, top, left + _CELL - 2, top + _CELL - 2)
    if share != share:
        draw.rectangle(box, PAPER, (225, 225, 225))
        return
    # Small shares would be as good as white on a linear scale.
    red, green, blue = (round(255 + share**0.7 * (dark - 255)) for dark in _DARK)
    draw.rectangle(box, (red, green, blue))
    if share >= 0.005:
        text, font = drawable(f"{100 * share:.0f}", _DIGITS)
        ink = (255, 255, 255) if share > 0.4 else _INK
        draw.text((left + _CELL // 2 - 1, top + _CELL // 2 - 1), text, ink, font, "mm")
