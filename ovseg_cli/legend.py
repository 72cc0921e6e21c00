"""The strip below an overlay that says which colour is which class."""

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ovseg_cli.printable import printable
from ovseg_cli.segmentation import UNLABELED, ClassArea, percentage

MAX_CLASSES = 40  # the rest are counted in one line
MIN_WIDTH = 240  # pixels, for photos narrower than a line of text
PAPER = (250, 250, 250)
_INK = (32, 32, 32)
_FAINT = (110, 110, 110)

# Tried in this order for names that Pillow's own font, which has ASCII only, cannot draw; Pillow
# looks for them in the system's font folders.
_FALLBACK_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "Arial Unicode.ttf",
    "segoeui.ttf",
    "msyh.ttc",
)

_Color = tuple[int, int, int]


@dataclass(frozen=True)
class _Entry:
    text: str
    percent: str
    fill: _Color | None  # of the swatch
    outline: _Color | None
    font: ImageFont.FreeTypeFont
    width: int  # pixels, the gap to the next column included


def draw_legend(
    areas: Sequence[ClassArea], colors: np.ndarray, size_hw: tuple[int, int], shares: bool = True
) -> np.ndarray:
    """Swatch, name and (shares) share of each class, in the order given, wrapped into columns.

    colors is (K, 3) uint8 by class id. Returns (h, w, 3) uint8 RGB with w the photo's width or
    MIN_WIDTH. Names too long for the strip end in an ellipsis.
    """
    size = int(np.clip(round(0.036 * min(size_hw)), 12, 80))  # of the letters, pixels
    width = max(size_hw[1], MIN_WIDTH)
    margin = size // 2
    columns = _columns(_entries(areas, colors, size, shares), width - 2 * margin)
    line = round(1.5 * size)
    height = max(map(len, columns)) * line + 2 * margin
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    left = margin
    for column in columns:
        right = min(left + max(entry.width for entry in column), width - margin)
        for row, entry in enumerate(column):
            top = margin + row * line
            swatch = (left, top + size // 4, left + size, top + size // 4 + size)
            if entry.outline is not None:  # with neither colour Pillow draws in white
                draw.rectangle(swatch, entry.fill, entry.outline)
            # Nearer to its own name than to the next swatch, else it is read with that one's name.
            end = right - round(1.7 * size)
            _write_entry(image, entry, left, end, top + round(1.05 * size), size)
        left = right
    return np.asarray(image)


def _entries(
    areas: Sequence[ClassArea], colors: np.ndarray, size: int, shares: bool
) -> list[_Entry]:
    entries = []
    for area in areas[:MAX_CLASSES]:
        if area.class_id == UNLABELED:
            fill, outline = None, _FAINT
        else:
            red, green, blue = colors[area.class_id].tolist()
            fill = outline = (red, green, blue)
        share = percentage(area.fraction) if shares else ""
        entries.append(_entry(area.name, share, fill, outline, size))
    rest = areas[MAX_CLASSES:]
    if rest:
        share = percentage(sum(area.fraction for area in rest)) if shares else ""
        entries.append(_entry(f"+ {len(rest)} more", share, None, None, size))
    return entries


def _entry(
    name: str, percent: str, fill: _Color | None, outline: _Color | None, size: int
) -> _Entry:
    text, font = drawable(name, size)
    length = _length(text, font) + _length(percent, _font(None, size))
    return _Entry(text, percent, fill, outline, font, round(length + 4.2 * size))


def _columns(entries: list[_Entry], width: int) -> list[list[_Entry]]:
    """As few rows as fit into the width, like ls: filled column by column."""
    for rows in range(1, len(entries)):
        columns = [entries[start : start + rows] for start in range(0, len(entries), rows)]
        if sum(max(entry.width for entry in column) for column in columns) <= width:
            return columns
    return [entries]


def _write_entry(
    image: Image.Image, entry: _Entry, left: int, right: int, baseline: int, size: int
) -> None:
    percent_font = _font(None, size)
    percent_left = right - _length(entry.percent, percent_font)
    _write(image, percent_left, baseline, entry.percent, percent_font, _FAINT)
    text_left = left + round(1.5 * size)
    text = shortened(entry.text, entry.font, percent_left - text_left - 0.5 * size)
    _write(image, text_left, baseline, text, entry.font, _INK)


def _write(
    image: Image.Image,
    left: float,
    baseline: int,
    text: str,
    font: ImageFont.FreeTypeFont,
    ink: _Color,
) -> None:
    start = int(left)
    mask, right, down = _letters(text, font, left - start)
    image.paste(ink, (start + right, baseline + down), mask)


@functools.lru_cache(maxsize=512)  # photos of one run have the same names, and shares often
def _letters(text: str, font: ImageFont.FreeTypeFont, start: float) -> tuple[Image.Image, int, int]:
    """The mask of a text that begins at a fraction of a pixel, and where its top left corner lies
    from there, on the baseline."""
    left, top, right, bottom = (round(side) for side in font.getbbox(text, anchor="ls"))
    left, top = left - 1, top - 1
    mask = Image.new("L", (right + 2 - left, bottom + 1 - top))
    ImageDraw.Draw(mask).text((start - left, -top), text, 255, font, "ls")
    return mask, left, top


@functools.lru_cache(maxsize=4096)
def _length(text: str, font: ImageFont.FreeTypeFont) -> float:
    return font.getlength(text)


def shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, or as much of it as fits into so many pixels with an ellipsis."""
    if _length(text, font) <= width:
        return text
    low, high = 0, len(text)
    while low < high:  # the most letters that fit with the ellipsis
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle] + "...") <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "..."


def drawable(name: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The name as it can be drawn here, and the font for it."""
    text = unicodedata.normalize("NFC", printable(name)[:500])
    for file in (None, *_FALLBACK_FONTS):
        if _exists(file) and all(_has_glyph(file, character) for character in set(text)):
            return text, _font(file, size)
    return "".join(map(_latin, text)), _font(None, size)


def _latin(character: str) -> str:
    """For the font of last resort, which has ASCII only: é as e, 天 as \\u5929."""
    if _has_glyph(None, character):
        return character
    base = "".join(c for c in unicodedata.normalize("NFKD", character) if c.isascii())
    return base or character.encode("unicode_escape").decode()


@functools.lru_cache(maxsize=64)
def _font(file: str | None, size: int) -> ImageFont.FreeTypeFont:
    """A font by file name; None = the one that comes with Pillow."""
    font = ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # what load_default gives for a size
    return font


@functools.cache
def _exists(file: str | None) -> bool:
    try:
        _font(file, 16)
    except OSError:
        return False
    return True


@functools.lru_cache(maxsize=1 << 16)
def _has_glyph(file: str | None, character: str) -> bool:
    """Whether the font draws anything else than its sign for what it lacks."""
    if character.isspace():
        return True
    font = _font(file, 16)
    drawn, missing = font.getmask(character), font.getmask("\U0010ffff")
    return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))
