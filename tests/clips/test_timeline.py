"""The stacked area plot of a clip."""

import numpy as np
import pytest

from ovseg_cli.clips.records import FrameRecord
from ovseg_cli.clips.timeline import LEFT, PLOT_HW, RIGHT, TOP, _clock, draw_timeline
from ovseg_cli.render import palette
from ovseg_cli.vocabulary import Vocabulary

NAMES = Vocabulary(["sky", "road", "car"])
HEIGHT, WIDTH = PLOT_HW


def plot(records):
    picture = draw_timeline(lambda: iter(records), NAMES)
    return picture[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH], picture


def record(index, seconds, areas, held=False):
    sized = tuple((number, pixels, 0.5) for number, pixels in areas)
    return FrameRecord(index, seconds, 100, None if held else sized)


def shares(column):
    """Of a column of the plot: share of the height of each class, and of white."""
    colors = [*palette(3).tolist(), [255, 255, 255]]
    inner = column[3:-3]
    return [float((inner == color).all(-1).mean()) for color in colors]


def test_the_height_of_a_colour_is_the_share_of_its_class():
    records = [
        record(0, 0.0, [(0, 50), (1, 50)]),
        record(1, 1.0, [(1, 25), (2, 25), (-1, 50)]),
    ]
    area, _ = plot(records)
    assert shares(area[:, 100]) == pytest.approx([0.5, 0.5, 0, 0], abs=0.02)
    before, after = area[:, WIDTH // 2 - 3], area[:, WIDTH // 2 + 3]
    assert shares(before) == pytest.approx([0.5, 0.5, 0, 0], abs=0.02)  # until the next one
    for column in (after, area[:, -3]):
        assert shares(column) == pytest.approx([0, 0.25, 0.25, 0.5], abs=0.02)
    assert area[HEIGHT - 10, 100].tolist() == palette(3)[0].tolist()  # from below, by id
    assert area[10, 100].tolist() == palette(3)[1].tolist()


def test_the_legend_counts_every_frame_alike(monkeypatch):
    told = []
    monkeypatch.setattr(
        "ovseg_cli.clips.timeline.draw_legend",
        lambda areas, *_: told.extend(areas) or np.zeros((1, LEFT + WIDTH + RIGHT, 3), np.uint8),
    )
    plot([record(0, 5.0, [(0, 100)]), record(1, 6.0, [(0, 100)]), record(2, 7.0, [(1, 100)])])
    assert {area.name: area.fraction for area in told} == pytest.approx(
        {"sky": 2 / 3, "road": 1 / 3}
    )


def test_long_clips_are_averaged():
    records = [record(i, i / 25, [(i % 2, 100)]) for i in range(9000)]
    area, _ = plot(records)
    for x in (0, 450, 890):
        assert shares(area[:, x]) == pytest.approx([0.5, 0.5, 0, 0], abs=0.06)


def test_held_frames_do_not_count():
    records = [
        record(0, 0.0, [(0, 100)]),
        record(1, 0.5, [], held=True),
        record(2, 1.0, [(0, 100)]),
    ]
    area, _ = plot(records)
    assert shares(area[:, 450])[0] > 0.97


def test_a_clip_of_one_frame_and_of_none():
    area, whole = plot([record(0, 3.0, [(2, 100)])])
    assert shares(area[:, 450])[2] > 0.97
    assert whole.dtype == np.uint8
    assert plot([])[1].shape[0] >= HEIGHT


@pytest.mark.parametrize(
    ("seconds", "step", "text"),
    [(0.5, 0.5, "0.5 s"), (3, 1, "3 s"), (90, 30, "1:30"), (7265, 600, "2:01:05"), (0, 60, "0:00")],
)
def test_times_of_the_axis(seconds, step, text):
    assert _clock(seconds, step) == text
