"""Figures as a picture: costs against numbers as lines, the others as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ovseg_cli.benchmark.figure import Figure
from ovseg_cli.legend import PAPER, drawable, shortened

PANEL_WH = (560, 360)  # pixels
COLUMNS = 2
MOST_BARS = 20  # in a panel
FEW_BARS = 3  # fewer are left out where there is anything else
_LEFT, _TOP, _RIGHT, _BOTTOM = 74, 44, 24, 52  # around a plot
_NAMES = 310  # of the bars
_INK, _FAINT, _GRID = (32, 32, 32), (120, 120, 120), (222, 222, 222)
_COLOURS = ((31, 97, 160), (200, 92, 20), (40, 130, 70), (140, 70, 150), (110, 110, 110))
_TITLE, _LETTERS = 16, 13
_AXES = {
    "names": "names",
    "masks": "masks",
    "sizes": "megapixels of the photo",
    "batches": "photos in a batch",
}
_QUANTITIES = {
    "s": "seconds",
    "MB": "peak memory, MB",
    "1/s": "photos a second",
    "ms": "milliseconds",
    "×": "ratio",
    "": "share",
}


@dataclass(frozen=True)
class _Panel:
    """What shares its axes."""

    section: str
    unit: str
    figures: Sequence[Figure]

    @property
    def title(self) -> str:
        return f"{self.section}: {_QUANTITIES.get(self.unit, self.unit)}"


def draw_chart(figures: Sequence[Figure], footer: str) -> Image.Image:
    """A panel for each section and unit, COLUMNS beside each other, and a line below.

    Lines have logarithmic axes: equal steps are equal factors.
    """
    panels = _panels(figures)
    width, height = PANEL_WH
    rows = math.ceil(len(panels) / COLUMNS)
    picture = Image.new("RGB", (width * COLUMNS, height * rows + 2 * _LETTERS), PAPER)
    for number, panel in enumerate(panels):
        image = Image.new("RGB", PANEL_WH, PAPER)
        draw = ImageDraw.Draw(image)
        _write(draw, (16, 12), panel.title, _TITLE, _INK, "la")
        (_draw_lines if panel.figures[0].at is not None else _draw_bars)(draw, panel)
        picture.paste(image, (number % COLUMNS * width, number // COLUMNS * height))
    draw = ImageDraw.Draw(picture)
    _write(draw, (16, height * rows), footer, _LETTERS, _FAINT, "la", width * COLUMNS - 32)
    return picture


def _panels(figures: Sequence[Figure]) -> list[_Panel]:
    groups: dict[tuple[str, str, bool], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.section, figure.unit, figure.at is not None), []).append(figure)
    panels = [_Panel(section, unit, found) for (section, unit, _), found in groups.items()]
    telling = [
        panel
        for panel in panels
        if panel.figures[0].at is not None or len(panel.figures) >= FEW_BARS
    ]
    return telling or panels


def _draw_lines(draw: ImageDraw.ImageDraw, panel: _Panel) -> None:
    points = [(figure.at or 0.0, figure.value, figure.series) for figure in panel.figures]
    series = list(dict.fromkeys(name for _, _, name in points))
    top = max(_TOP, 18 + 16 * len(series))  # their names stand above the plot
    across = _Axis([x for x, _, _ in points], _LEFT, PANEL_WH[0] - _RIGHT)
    up = _Axis([y for _, y, _ in points], PANEL_WH[1] - _BOTTOM, top)
    for x in sorted({x for x, _, _ in points}):
        draw.line((across.at(x), up.begin, across.at(x), up.end), _GRID)
        _write(draw, (across.at(x), up.begin + 6), f"{x:g}", _LETTERS, _FAINT, "ma")
    for y in up.ticks():
        draw.line((across.begin, up.at(y), across.end, up.at(y)), _GRID)
        _write(draw, (across.begin - 6, up.at(y)), f"{y:g}", _LETTERS, _FAINT, "rm")
    middle = (across.begin + across.end) // 2
    axis = _AXES.get(panel.section, "")
    _write(draw, (middle, PANEL_WH[1] - 10), axis, _LETTERS, _FAINT, "ms")
    for number, name in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        line = sorted((across.at(x), up.at(y)) for x, y, own in points if own == name)
        draw.line(line, colour, 3, "curve")
        for x, y in line:
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
        place = (PANEL_WH[0] - 16, 10 + 16 * number)
        _write(draw, place, name, _LETTERS, colour, "ra", PANEL_WH[0] // 2)


def _draw_bars(draw: ImageDraw.ImageDraw, panel: _Panel) -> None:
    shown = panel.figures[:MOST_BARS]
    most = max((figure.value for figure in shown), default=0.0)
    step = (PANEL_WH[1] - _TOP - 10) / max(len(shown), 8)
    room = PANEL_WH[0] - _NAMES - 90
    for row, (figure, name) in enumerate(zip(shown, _without_ending(shown), strict=True)):
        middle = round(_TOP + (row + 0.5) * step)
        indent = 16 * (1 + figure.name.startswith(" "))  # of a part of what stands above
        _write(draw, (indent, middle), name, _LETTERS, _INK, "lm", _NAMES - 8 - indent)
        long = round(room * max(figure.value, 0) / most) if most > 0 else 0
        half = max(2, round(0.32 * step))
        box = (_NAMES, middle - half, _NAMES + max(long, 1), middle + half)
        draw.rectangle(box, _COLOURS[0])
        value = f"{figure.value:.3g}" if figure.value < 1000 else f"{figure.value:.0f}"
        _write(draw, (_NAMES + long + 8, middle), value, _LETTERS, _FAINT, "lm")


def _without_ending(figures: Sequence[Figure]) -> list[str]:
    """Their names without an ending that all have, such as ", peak memory": the title says it."""
    parts = [figure.name.rpartition(", ") for figure in figures]
    if len(parts) > 1 and len({ending for _, _, ending in parts}) == 1:
        return [begin for begin, _, _ in parts]
    return [figure.name for figure in figures]


class _Axis:
    """Numbers to pixels, logarithmically."""

    def __init__(self, values: Sequence[float], begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        positive = [value for value in values if value > 0] or [1.0]
        self.low, self.high = min(positive) / 1.15, max(positive) * 1.15

    def at(self, value: float) -> int:
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return round(self.begin + share * (self.end - self.begin))

    def ticks(self) -> list[float]:
        """Round numbers on the axis, not more than some eight."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1,)):
            values = [float(f"{digit}e{power}") for power in powers for digit in digits]
            inside = [value for value in values if self.low <= value <= self.high]
            if len(inside) <= 8:
                break
        return inside


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    colour: tuple[int, int, int],
    anchor: str,
    width: int | None = None,
) -> None:
    line, font = drawable(text.strip(), size)
    line = line if width is None else shortened(line, font, width)
    draw.text(place, line, colour, font, anchor)
