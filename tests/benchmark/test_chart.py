import numpy as np
import pytest

from ovseg_cli.benchmark.chart import PANEL_WH, _Axis, draw_chart
from ovseg_cli.benchmark.figure import Figure
from ovseg_cli.legend import PAPER

WIDTH, HEIGHT = PANEL_WH
LINE = [
    Figure(f"names.{count}.seconds", f"{count} names", 0.1 * count, "s", "lower", at=count)
    for count in (10, 100, 1000)
]
BARS = [Figure(f"models.{n}.seconds", f"model {n}", float(n), "s") for n in (1, 2, 4)]
BLUE = (31, 97, 160)


def places(picture, colour):
    return np.argwhere((np.asarray(picture) == colour).all(-1))  # (n, 2) rows and columns


def test_a_panel_for_each_section_and_unit():
    picture = draw_chart([*LINE, *BARS], "a machine")
    assert picture.size == (2 * WIDTH, HEIGHT + 26)
    pixels = np.asarray(picture)
    for panel in (pixels[:HEIGHT, :WIDTH], pixels[:HEIGHT, WIDTH:], pixels[HEIGHT:]):
        assert (panel != PAPER).any(-1).sum() > 300
    three = draw_chart([*LINE, *BARS, Figure("sizes.1.peak", "", 3.0, "MB", at=1)], "")
    assert three.size == (2 * WIDTH, 2 * HEIGHT + 26)


def test_equal_factors_are_equal_steps_upwards():
    rows, columns = places(draw_chart(LINE, ""), BLUE).T
    left, right = columns.min(), columns.max()
    assert rows[columns == left].mean() > rows[columns == right].mean() + 200
    middle = (left + right) // 2
    between = rows[abs(columns - middle) < 3].mean()
    halfway = (rows[columns < left + 5].mean() + rows[columns > right - 5].mean()) / 2
    assert between == pytest.approx(halfway, abs=3)


def test_bars_are_as_long_as_their_values():
    rows, columns = places(draw_chart(BARS, ""), BLUE).T
    groups = np.split(columns, np.flatnonzero(np.diff(rows) > 1) + 1)
    lengths = [np.ptp(group) for group in groups]
    assert lengths == pytest.approx([lengths[2] / 4, lengths[2] / 2, lengths[2]], abs=2)


def test_single_numbers_do_not_get_a_panel_beside_others():
    ratio = Figure("names.ratio.seconds", "1000 against 10", 1.2, "×")
    assert draw_chart([*LINE, ratio], "").size == draw_chart(LINE, "").size
    assert len(places(draw_chart([ratio], ""), BLUE)) > 100


def test_lines_of_several_series_have_colours_of_their_own():
    series = [
        Figure(f"batches.{s}.{n}", "", n * s, "1/s", "higher", at=n, series=f"size {s}")
        for s in (1, 2)
        for n in (1, 4)
    ]
    picture = draw_chart(series, "")
    assert len(places(picture, BLUE)) > 200 and len(places(picture, (200, 92, 20))) > 200


@pytest.mark.parametrize("values", [[], [0.0], [1.0], [-1.0, 2.0], [1e-9, 1e9]])
def test_odd_values(values):
    figures = [Figure(f"names.{i}.s", "x" * 300, v, "s", at=i + 1) for i, v in enumerate(values)]
    bars = [Figure(f"models.{i}.s", "天" * 80, v, "s") for i, v in enumerate(values)]
    picture = draw_chart([*figures, *bars], "y" * 1000)
    panels = min(1, len(values))  # bars, fewer than are worth one, are left out beside lines
    assert picture.size == (2 * WIDTH, panels * HEIGHT + 26)
    pixels = np.asarray(picture)
    for part in [pixels[-26:]] + [pixels[:HEIGHT, :WIDTH]] * panels:
        assert (part != PAPER).any(-1).sum() > 300


@pytest.mark.parametrize("values", [[0.13, 0.14], [10, 10_000], [880, 1900], [1, 1]])
def test_an_axis_has_some_round_numbers_or_none_at_all(values):
    ticks = _Axis(values, 0, 100).ticks()
    assert len(ticks) <= 8
    assert all(float(f"{tick:.1g}") == tick or "15" in f"{tick:g}" for tick in ticks)
