"""Frames of a source that does not wait."""

import threading

import numpy as np
import pytest

from ovseg_cli.clips.live import Newest
from ovseg_cli.frame import Frame

PIXELS = np.zeros((2, 2, 3), np.uint8)


def test_frames_for_which_there_was_no_time_are_dropped():
    taken = threading.Event()

    def camera():
        yield Frame(PIXELS, 0)
        taken.wait(10)
        for index in range(1, 6):
            yield Frame(PIXELS, index)
        ended.set()

    ended = threading.Event()
    newest = Newest(camera())
    frames = iter(newest)
    assert next(frames).index == 0
    taken.set()
    assert ended.wait(10)
    assert [frame.index for frame in frames] == [5]
    assert newest.dropped == 4


def test_an_error_of_the_source_comes_through_after_the_last_frame():
    def camera():
        yield Frame(PIXELS, 0)
        raise OSError("unplugged")

    frames = iter(Newest(camera()))
    assert next(frames).index == 0
    with pytest.raises(OSError, match="unplugged"):
        next(frames)


def test_close_ends_a_source_without_end():
    def camera():
        index = 0
        while True:
            yield Frame(PIXELS, index)
            index += 1

    newest = Newest(camera())
    frames = iter(newest)
    next(frames)
    newest.close()
    assert threading.active_count() == 1 or not newest._thread.is_alive()


def test_close_before_anything_was_asked_for():
    Newest(iter(())).close()
