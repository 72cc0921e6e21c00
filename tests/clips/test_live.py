"""Frames of a source that does not wait."""

import threading

import numpy as np
import pytest

from ovseg_cli.clips import live
from ovseg_cli.clips.live import Live
from ovseg_cli.frame import Frame

PIXELS = np.zeros((2, 2, 3), np.uint8)


def newest(frames):
    return Live(frames, lambda: False, drop=True)


def test_frames_for_which_there_was_no_time_are_dropped():
    taken = threading.Event()

    def camera():
        yield Frame(PIXELS, 0)
        taken.wait(10)
        for index in range(1, 6):
            yield Frame(PIXELS, index)
        ended.set()

    ended = threading.Event()
    source = newest(camera())
    frames = iter(source)
    assert next(frames).index == 0
    taken.set()
    assert ended.wait(10)
    assert [frame.index for frame in frames] == [5]
    assert source.dropped == 4


def test_none_is_dropped_where_all_are_wanted():
    source = Live((Frame(PIXELS, index) for index in range(50)), lambda: False, drop=False)
    assert [frame.index for frame in source] == list(range(50))
    assert source.dropped == 0


@pytest.mark.parametrize("drop", [True, False])
def test_a_source_that_stalls_is_over_where_that_is_wanted(monkeypatch, drop):
    monkeypatch.setattr(live, "PATIENCE", 0.1)
    stop, release = threading.Event(), threading.Event()

    def camera():
        yield Frame(PIXELS, 0)
        release.wait(20)

    source = Live(camera(), stop.is_set, drop=drop)
    frames = iter(source)
    assert next(frames).index == 0
    threading.Timer(0.2, stop.set).start()
    assert list(frames) == []
    source.close()
    assert source._thread.is_alive()  # what this is about
    release.set()


def test_an_error_of_the_source_comes_through_after_the_last_frame():
    def camera():
        yield Frame(PIXELS, 0)
        raise OSError("unplugged")

    frames = iter(newest(camera()))
    assert next(frames).index == 0
    with pytest.raises(OSError, match="unplugged"):
        next(frames)


def test_close_ends_a_source_without_end():
    def camera():
        index = 0
        while True:
            yield Frame(PIXELS, index)
            index += 1

    source = newest(camera())
    frames = iter(source)
    next(frames)
    source.close()
    assert not source._thread.is_alive()


def test_close_before_anything_was_asked_for():
    before = threading.active_count()
    source = newest(iter(()))
    source.close()
    assert not source._thread.is_alive()
    assert threading.active_count() == before
