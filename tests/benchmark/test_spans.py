import pytest

from ovseg_cli.benchmark import spans as module
from ovseg_cli.benchmark.spans import Tracer


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when it is told to."""

    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module.time, "perf_counter", clock.perf_counter)
    return clock


class Worker:
    def __init__(self, clock):
        self.clock = clock

    def outer(self):
        self.clock.now += 1
        self.inner(3)
        self.clock.now += 2
        self.inner(4)
        return "done"

    def inner(self, seconds):
        self.clock.now += seconds


def test_time_belongs_to_the_innermost_span(clock):
    worker = Worker(clock)
    with Tracer() as tracer:
        tracer.watch(worker, "outer", "outer")
        tracer.watch(worker, "inner", "inner")
        assert worker.outer() == "done"
    found = [(span.label, span.begin, span.end, span.own) for span in tracer.spans]
    assert found == [
        ("inner", 101.0, 104.0, 3.0),
        ("inner", 106.0, 110.0, 4.0),
        ("outer", 100.0, 110.0, 3.0),
    ]


def test_nothing_stays_watched(clock):
    worker, own = Worker(clock), Worker.inner
    with Tracer() as tracer:
        tracer.watch(worker, "outer", "outer")
        tracer.watch(Worker, "inner", "inner")
        tracer.watch(worker, "missing", "missing")
        assert "outer" in vars(worker) and Worker.inner is not own
    assert vars(worker) == {"clock": clock} and Worker.inner is own
    worker.outer()
    assert tracer.spans == []


def test_a_span_ends_where_the_work_fails(clock):
    def fail():
        clock.now += 5
        raise ValueError

    worker = Worker(clock)
    worker.fail = fail
    with Tracer() as tracer, pytest.raises(ValueError):
        tracer.watch(worker, "fail", "fail")
        with tracer.span("outer"):
            worker.fail()
    assert [(span.label, span.own) for span in tracer.spans] == [("fail", 5.0), ("outer", 0.0)]
    assert worker.fail is fail


def test_a_device_is_waited_for_at_each_border(clock):
    waits = []
    with Tracer(lambda: waits.append(clock.now)) as tracer, tracer.span("a"):
        clock.now += 1
        with tracer.span("b"):
            clock.now += 1
    assert waits == [100.0, 101.0, 102.0, 102.0]
