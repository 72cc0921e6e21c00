"""Names for photos, by the nouns that match most of them."""

import numpy as np

from ovseg_cli.errors import InputError
from ovseg_cli.frame import Frame
from ovseg_cli.names.naming import evenly, propose
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary

NOUNS = Vocabulary(["sky", "heaven", "dog", "grass", "speck"])
ALL = NOUNS.with_class("none of them")


def features(count=5, same=((0, 1),)):
    """Directions of their own; some pairs nearly the same."""
    rows = np.eye(count, 16) + 0.001
    for one, other in same:
        rows[other] = 0.9 * rows[one] + 0.3 * rows[other]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def photo(*rows, confidence=0.5):
    """A frame, and labels whose rows are these class ids."""
    labels = np.repeat(np.array(rows, np.int32)[:, None], 10, 1)
    frame = Frame(np.zeros((*labels.shape, 3), np.uint8))
    return frame, Segmentation(labels, np.full(labels.shape, confidence, np.float32), ALL)


def proposed(*photos, **how):
    answers = iter([segmentation for _, segmentation in photos])
    return propose(lambda frame: next(answers), [frame for frame, _ in photos], features(**how))


def test_the_most_frequent_come_first_and_what_fits_nothing_is_no_name():
    found = proposed(photo(0, 0, 0, 5, 5, 5, 5, 3), photo(3, 3, 3, 3, 0, 0, 5, 5))
    assert {p.name for p in found} == {"grass", "sky"}
    assert sum(p.share for p in found) == 1


def test_nouns_that_are_alike_become_the_most_frequent_of_them():
    found = proposed(photo(0, 0, 1, 1, 1, 3, 3, 3))
    assert [p.name for p in found] == ["heaven", "grass"]
    assert found[0].share == 5 / 8


def test_photos_count_alike_whatever_their_size():
    large = photo(*[2] * 100)
    small = photo(3, 3)
    assert {p.name: p.share for p in proposed(large, small)} == {"dog": 0.5, "grass": 0.5}


def test_sure_pixels_count_more():
    found = proposed(photo(2, 2, confidence=0.9), photo(3, 3, confidence=0.1))
    assert found[0].name == "dog" and found[0].share > 0.85


def test_what_hardly_occurs_is_left_out():
    assert [p.name for p in proposed(photo(*[3] * 150, 4))] == ["grass"]


def test_where_nothing_fits_nothing_is_proposed():
    assert proposed(photo(5, 5)) == []
    assert proposed() == []


def test_there_are_not_too_many():
    count = 40
    nouns = Vocabulary([f"n{i}" for i in range(count)]).with_class("none")
    labels = np.repeat(np.arange(count, dtype=np.int32)[:, None], 4, 1)
    found = Segmentation(labels, np.ones(labels.shape, np.float32), nouns)
    frame = Frame(np.zeros((count, 4, 3), np.uint8))
    rows = np.eye(count, 64)
    assert len(propose(lambda _: found, [frame], rows)) == 20


def test_some_of_many_evenly():
    assert evenly(range(5), 10) == [0, 1, 2, 3, 4]
    found = evenly(range(1000), 10)
    assert len(found) == 10 and found[0] == 0 and found[-1] == 999
    assert max(np.diff(found)) - min(np.diff(found)) <= 1
    assert evenly([], 10) == []


def test_a_photo_that_cannot_be_segmented_is_passed_over():
    """As where there are no masks of it: the others are still looked at."""
    frame, found = photo(0, 0, 2)
    answers = iter([InputError("no masks of one.jpg"), found])

    def segment(frame):
        answer = next(answers)
        if isinstance(answer, InputError):
            raise answer
        return answer

    unread = []
    proposals = propose(segment, [frame, frame], features(), unread)
    assert [proposal.name for proposal in proposals] == ["sky", "dog"]
    assert [str(error) for error in unread] == ["no masks of one.jpg"]
