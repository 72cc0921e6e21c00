import threading
import time

from ovseg_cli.batch.budget import Budget


def taker(budget, pixels):
    """A thread that takes; the event is set once it has got its room."""
    got = threading.Event()

    def take():
        budget.take(pixels)
        got.set()

    threading.Thread(target=take, daemon=True).start()
    return got


def test_items_and_pixels_are_bounded():
    budget = Budget(max_items=2, max_pixels=10)
    budget.take(4)
    budget.take(4)
    third = taker(budget, 1)  # a third item
    assert not third.wait(0.05)
    budget.give(4)
    assert third.wait(5)
    budget.give(1)
    large = taker(budget, 7)  # 4 + 7 pixels
    assert not large.wait(0.05)
    budget.give(4)
    assert large.wait(5)


def test_an_item_larger_than_the_room_goes_alone():
    budget = Budget(max_items=5, max_pixels=10)
    budget.take(1)
    huge = taker(budget, 100)
    assert not huge.wait(0.05)
    budget.give(1)
    assert huge.wait(5)
    assert not taker(budget, 1).wait(0.05)


def test_many_threads_never_exceed_the_room():
    budget = Budget(max_items=3, max_pixels=100)
    lock, held, most = threading.Lock(), [], []

    def work(pixels):
        for _ in range(20):
            budget.take(pixels)
            with lock:
                held.append(pixels)
                most.append((len(held), sum(held)))
            time.sleep(0.0005)
            with lock:
                held.remove(pixels)
            budget.give(pixels)

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in (10, 30, 50, 60, 20, 90)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(count for count, _ in most) <= 3
    assert max(pixels for _, pixels in most) <= 100
