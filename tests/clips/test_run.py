"""One clip through a labeller: order, holding, bounds, and what goes wrong."""

import gc
import itertools
import threading
import time
import weakref

import numpy as np
import pytest

from ovseg_cli.clips import run as module
from ovseg_cli.clips.run import RunOptions, of_one_size, run
from ovseg_cli.errors import OutputError
from ovseg_cli.frame import Frame
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary

NAMES = Vocabulary([f"n{i}" for i in range(300)])


def frame(index, size_hw=(4, 6)):
    return Frame(np.full((*size_hw, 3), index % 256, np.uint8), index, index / 10)


def clip(count, every=1):
    return [(frame(index), index % every == 0) for index in range(count)]


class Fake:
    """Labels are the frame's index; notes what it was asked, and in which order."""

    def __init__(self, seconds=lambda index: 0.0, fails_at=None, most=99):
        self.seconds, self.fails_at, self.most = seconds, fails_at, most
        self.asked, self.labelled = [], []

    def look(self, frames, before):
        self.asked.append((before and before.index, [f.index for f in frames]))
        time.sleep(self.seconds(frames[0].index))
        if len(frames) > self.most:
            raise RuntimeError("CUDA out of memory")
        if self.fails_at in [f.index for f in frames]:
            raise ValueError("no labels today")
        return frames

    def label(self, seen):
        self.labelled += [f.index for f in seen]
        return [
            Segmentation(
                np.full(f.size_hw, f.index % 300, np.int32), np.ones(f.size_hw, np.float32), NAMES
            )
            for f in seen
        ]


class Log:
    """A writer that notes what it gets."""

    def __init__(self, fails_at=None, seconds=0.0):
        self.fails_at, self.seconds, self.written = fails_at, seconds, []

    def write(self, frame, segmentation, held):
        time.sleep(self.seconds)
        if frame.index == self.fails_at:
            raise OutputError("the disk is full")
        self.written.append((frame.index, int(segmentation.labels[0, 0]), held))


def indices(results):
    return [result.frame.index for result in results]


def test_frames_are_written_in_order_whichever_is_ready_first():
    labeller, log = Fake(lambda index: 0.02 * (index % 3 == 0)), Log()
    results = indices(run(clip(20), labeller, log, RunOptions(batch_size=2, streams=3)))
    assert results == list(range(20))
    assert log.written == [(index, index, False) for index in range(20)]
    assert labeller.labelled == list(range(20))
    assert sorted(labeller.asked, key=lambda a: a[1]) == [
        (None if first == 0 else first - 1, [first, first + 1]) for first in range(0, 20, 2)
    ]


def test_frames_between_take_the_last_labels():
    log = Log()
    list(run(clip(8, every=3), Fake(), log, RunOptions(batch_size=2, streams=1)))
    assert log.written == [(i, 3 * (i // 3), i % 3 != 0) for i in range(8)]


def test_a_batch_that_needs_too_much_memory_is_done_by_ones():
    labeller, log = Fake(most=1), Log()
    list(run(clip(6), labeller, log, RunOptions(batch_size=3)))
    assert [index for index, _, _ in log.written] == list(range(6))
    assert (2, [3]) in labeller.asked


def test_frames_of_another_size_are_fitted_to_the_first():
    frames = [(frame(0), True), (frame(1, (8, 12)), True)]
    results = list(run(of_one_size(frames), Fake(), Log(), RunOptions()))
    assert [result.frame.size_hw for result in results] == [(4, 6), (4, 6)]


def test_what_was_computed_before_a_stop_is_written():
    log, stop = Log(), threading.Event()
    results = run(clip(100), Fake(), log, RunOptions(streams=2), stop.is_set)
    assert next(results).frame.index == 0
    stop.set()
    rest = indices(results)
    assert rest == list(range(1, len(rest) + 1))
    assert 0 < len(rest) < 20
    assert [index for index, _, _ in log.written] == list(range(len(rest) + 1))


def test_an_error_of_the_reader_comes_after_all_frames_before_it():
    def reading():
        yield from clip(7)
        raise ValueError("the tape is torn")

    log = Log()
    results = run(reading(), Fake(), log, RunOptions(batch_size=2, streams=2))
    seen = []
    with pytest.raises(ValueError, match="the tape is torn"):
        for result in results:
            seen.append(result.frame.index)
    assert seen == list(range(7))


def test_an_error_of_the_labeller_does_not_hang_the_reader():
    endless = ((frame(index), True) for index in itertools.count())
    seen = []
    with pytest.raises(ValueError, match="no labels today"):
        for result in run(endless, Fake(fails_at=9), Log(), RunOptions(streams=2)):
            seen.append(result.frame.index)
    assert seen == list(range(9))
    assert not [t for t in threading.enumerate() if t.name.startswith("ovseg-")]


def test_nothing_is_written_after_a_frame_that_could_not_be():
    log = Log(fails_at=5)
    seen = []
    with pytest.raises(OutputError, match="the disk is full"):
        for result in run(clip(1000), Fake(), log, RunOptions(streams=2)):
            seen.append(result.frame.index)
    assert seen == list(range(5))
    assert [index for index, _, _ in log.written] == list(range(5))


def test_whoever_stops_listening_ends_the_run():
    results = run(clip(1000), Fake(), Log(), RunOptions())
    next(results)
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("ovseg-")]


def test_a_slow_writer_holds_the_reader_back():
    read = []

    def reading():
        for chosen in clip(200):
            read.append(chosen[0].index)
            yield chosen

    results = run(reading(), Fake(), Log(seconds=0.002), RunOptions(streams=2))
    for written, _ in enumerate(results):
        assert len(read) - written < 30


def test_pictures_do_not_pile_up(monkeypatch):
    """Few frames are alive at any time, however long the clip is."""
    monkeypatch.setattr(module, "PIXELS_AT_A_STAGE", 4 * 6 * 3)
    made = ((frame(index), True) for index in range(500))
    most = 0
    for result in run(made, Fake(), Log(), RunOptions(streams=2)):
        if result.frame.index % 100 == 99:
            gc.collect()
            most = max(most, sum(type(o) is Frame for o in gc.get_objects()))
    assert most < 40


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_still_scene_does_not_pile_up(monkeypatch, batch_size):
    """Frames that take the labels of another are not kept until the next one is segmented."""
    monkeypatch.setattr(module, "PIXELS_AT_A_STAGE", 4 * 6 * 10)
    read, alive, log = [], [], Log()

    def still():
        for index in range(598):
            made = frame(index)
            read.append(weakref.ref(made))
            alive.append(sum(known() is not None for known in read))
            yield made, index % 299 == 0

    labeller = Fake(lambda index: 0.05)
    for _ in run(still(), labeller, log, RunOptions(batch_size=batch_size, streams=2)):
        pass
    assert log.written == [(i, 299 * (i // 299), i % 299 != 0) for i in range(598)]
    assert max(alive) < 60
    asked = sorted(labeller.asked, key=lambda asked: asked[1])
    assert asked == [(None, [0]), (0, [299])]


@pytest.mark.parametrize("every", [1, 1000])
def test_a_live_source_has_its_labels_before_the_next_frame(every):
    """Whether all are segmented or nothing changes after the first."""
    seen, late = [], []

    def live():
        for chosen in clip(40, every):
            end = time.monotonic() + 2
            while len(seen) < chosen[0].index and not late:
                time.sleep(0.001)
                if time.monotonic() > end:
                    late.append(chosen[0].index)
            yield chosen

    for result in run(live(), Fake(), Log(), RunOptions(streams=2)):
        seen.append(result.frame.index)
    assert seen == list(range(40))
    assert not late


def test_an_empty_clip():
    assert list(run([], Fake(), Log(), RunOptions())) == []
