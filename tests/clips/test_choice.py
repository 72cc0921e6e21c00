"""Which frames of a clip are segmented."""

import numpy as np
import pytest

from ovseg_cli.clips.choice import Choice
from ovseg_cli.errors import UsageError
from ovseg_cli.frame import Frame


def frames(times):
    pixels = np.zeros((2, 2, 3), np.uint8)
    return [Frame(pixels, index, seconds) for index, seconds in enumerate(times)]


def picked(choice, times):
    """(index, segmented) of what comes out."""
    return [(frame.index, due) for frame, due in choice.of(frames(times))]


TENTHS = [i / 10 for i in range(10)]


def test_all_frames_unless_something_else_is_asked_for():
    assert picked(Choice(), TENTHS) == [(index, True) for index in range(10)]


def test_every_third_frame_and_those_between():
    held = picked(Choice(every=3), TENTHS)
    assert [index for index, _ in held] == list(range(10))
    assert [index for index, due in held if due] == [0, 3, 6, 9]
    assert picked(Choice(every=3, hold=False), TENTHS) == [(i, True) for i in (0, 3, 6, 9)]


def test_a_rate_takes_the_first_frame_of_each_span_of_time():
    uneven = [0.0, 0.1, 0.45, 0.5, 0.55, 1.9, 1.95, 2.0]
    assert picked(Choice(rate=2, hold=False), uneven) == [(i, True) for i in (0, 3, 5, 7)]
    assert picked(Choice(rate=100, hold=False), TENTHS) == [(i, True) for i in range(10)]


def test_a_rate_counts_from_the_start():
    later = frames(TENTHS)[3:]
    chosen = Choice(start=0.3, rate=2, hold=False).of(later)
    assert [frame.index for frame, _ in chosen] == [3, 8]


def test_rounded_time_stamps_do_not_shift_a_rate():
    times = [round(i / 30, 3) for i in range(90)]
    indices = [index for index, _ in picked(Choice(rate=10, hold=False), times)]
    assert len(indices) == 30
    assert max(np.diff(indices)) <= 4


@pytest.mark.parametrize("rate", [24, 25, 30, 30000 / 1001, 60])
def test_a_clips_own_rate_takes_every_frame_of_it(rate):
    """Whose time stamps Matroska has in whole milliseconds."""
    times = [round(i / rate, 3) for i in range(200)]
    assert len(picked(Choice(rate=round(rate, 3), hold=False), times)) == 200
    halves = [index for index, _ in picked(Choice(rate=rate / 2, hold=False), times)]
    assert halves == list(range(0, 200, 2))


def test_the_end_is_not_part_of_it():
    assert [i for i, _ in picked(Choice(end=0.5), TENTHS)] == [0, 1, 2, 3, 4]


def test_a_limit_counts_what_is_segmented():
    assert picked(Choice(every=2, most=2), TENTHS) == [(0, True), (1, False), (2, True), (3, False)]
    assert len(picked(Choice(most=1000), TENTHS)) == 10


def test_frames_that_hardly_differ_from_the_last_one_segmented():
    levels = [0, 1, 2, 3, 4, 4, 9, 0]
    given = [
        Frame(np.full((32, 40, 3), level, np.uint8), index) for index, level in enumerate(levels)
    ]
    due = [due for _, due in Choice(still=3.0).of(given)]
    # 3 differs by 3 from 0, which was segmented; 4 by 1 from that; 9 by 6; 0 by 9.
    assert due == [True, False, False, True, False, False, True, True]
    assert sum(due for _, due in Choice(still=3.0, most=2).of(given)) == 2


@pytest.mark.parametrize(
    "wrong", [{"start": 2.0, "end": 2.0}, {"every": 2, "rate": 5.0}, {"still": 1.0, "hold": False}]
)
def test_what_excludes_each_other(wrong):
    with pytest.raises(UsageError):
        Choice(**wrong)
