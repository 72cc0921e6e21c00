import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ovseg_cli.batch.read_ahead import ReadAhead


class Reader:
    """Records what is read, and how much was held at most."""

    def __init__(self, sizes, seconds=0.0):
        self.sizes = sizes
        self.seconds = seconds
        self.lock = threading.Lock()
        self.begun = []
        self.reading = 0
        self.most_reading = 0

    def __call__(self, item):
        with self.lock:
            self.begun.append(item)
            self.reading += 1
            self.most_reading = max(self.most_reading, self.reading)
        time.sleep(self.seconds)
        with self.lock:
            self.reading -= 1
        return f"value {item}", self.sizes[item]


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def ahead_of(reader, pool, **bounds):
    bounds = {"workers": 4, "max_items": 6, "max_pixels": 100, **bounds}
    return ReadAhead(range(len(reader.sizes)), reader, pool, **bounds)


def test_values_come_in_order(pool):
    reader = Reader([1] * 50, seconds=0.001)
    assert list(ahead_of(reader, pool)) == [f"value {i}" for i in range(50)]


def test_reads_ahead_while_the_consumer_is_busy(pool):
    reader = Reader([1] * 50)
    values = iter(ahead_of(reader, pool))
    next(values)
    time.sleep(0.1)
    assert len(reader.begun) == 1 + 6


def test_large_values_do_not_pile_up(pool):
    reader = Reader([40] * 20)
    values = iter(ahead_of(reader, pool))
    next(values)
    time.sleep(0.1)
    assert len(reader.begun) == 1 + 2  # 2 x 40 pixels fit, 3 x 40 do not


def test_the_first_is_read_alone(pool):
    reader = Reader([40] * 20, seconds=0.05)
    values = iter(ahead_of(reader, pool))
    next(values)
    assert reader.most_reading == 1


def test_values_larger_than_the_bound_come_one_at_a_time(pool):
    reader = Reader([1000] * 5, seconds=0.01)
    assert len(list(ahead_of(reader, pool))) == 5
    assert reader.most_reading == 1


def test_one_large_value_does_not_slow_down_the_rest(pool):
    reader = Reader([1] * 5 + [1000] + [1] * 60, seconds=0.002)
    values = iter(ahead_of(reader, pool))
    for _ in range(40):
        next(values)
    time.sleep(0.1)
    assert len(reader.begun) == 40 + 6


def test_an_error_reaches_the_consumer(pool):
    def read(item):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(ReadAhead([1], read, pool, workers=1, max_items=1, max_pixels=1))


def test_nothing_is_begun_after_close(pool):
    reader = Reader([1] * 50)
    ahead = ahead_of(reader, pool)
    next(iter(ahead))
    ahead.close()
    time.sleep(0.05)
    begun = len(reader.begun)
    time.sleep(0.05)
    assert len(reader.begun) == begun <= 7


def test_no_items(pool):
    assert list(ahead_of(Reader([]), pool)) == []
