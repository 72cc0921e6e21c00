"""Which earlier frames the labels of the next ones depend on."""

import pytest

from ovseg_cli.clips.past import past_frames
from ovseg_cli.clips.records import FrameRecord


def written(count, every=1):
    return [
        FrameRecord(index, index / 10, 6, () if index % every == 0 else None)
        for index in range(count)
    ]


@pytest.mark.parametrize(
    ("strength", "count"), [(0.0, 1), (0.1, 4), (0.85, 34), (0.97, 175), (0.999, 301)]
)
def test_as_many_as_hold_all_but_half_a_percent_of_the_past(strength, count):
    assert list(past_frames(written(400), strength)) == list(range(400 - count, 400))
    assert count == 301 or strength**count < 0.005


def test_frames_that_held_the_labels_of_others_tell_nothing():
    assert list(past_frames(written(400, every=7), 0.1)) == [378, 385, 392, 399]


def test_of_a_short_clip_all():
    assert list(past_frames(written(5), 0.85)) == list(range(5))
    assert not past_frames([], 0.85)
