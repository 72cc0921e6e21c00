"""One pass over a set, counted in every way."""

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.errors import InputError
from ovseg_cli.evaluation import run
from ovseg_cli.evaluation.confusion import ConfusionMatrix
from ovseg_cli.evaluation.run import Evaluation, by_model, evaluate
from ovseg_cli.evaluation.threshold import ConfidenceCounts
from ovseg_cli.segmentation import UNLABELED, Segmentation
from ovseg_cli.vocabulary import Vocabulary

U = UNLABELED
# Against the fixture's truth, as positions: a 0 1 2 / 2 2 ignored, b/c 0 0 0 / 1 1 1.
LABELS = {"a": [[0, 1, 2], [2, 2, 0]], "b/c": [[0, 0, 1], [1, U, 2]]}


def predict(key, image):
    assert image.shape == (2, 3, 3)
    return np.array(LABELS[key], np.int32), np.full((2, 3), 0.25, np.float32)


def test_photos_and_sums(pets):
    evaluation = Evaluation(3, pets.ignore, keep_worst=1)
    assert list(evaluate(predict, pets, evaluation)) == ["a", "b/c"]
    assert evaluation.matrix.counts.tolist() == [[3, 1, 0, 0], [0, 2, 1, 1], [0, 0, 3, 0]]
    a, b = evaluation.photos
    assert (a.key, a.mean_iou, a.pixel_accuracy, a.mean_confidence) == ("a", 1, 1, 0.25)
    # cat 2 of 3, dog 1 of 4 and a bird that is none.
    assert b.mean_iou == pytest.approx((2 / 3 + 1 / 4 + 0) / 3)
    assert b.pixel_accuracy == 3 / 6
    ((worst, labels),) = evaluation.worst
    assert worst is b and labels.tolist() == LABELS["b/c"]
    assert evaluation.regions.pixels.sum() == 11
    scores = evaluation.scores()
    assert scores["pixel_accuracy"] == 8 / 11
    # In photos this small every pixel lies at a border.
    assert scores["boundary_mIoU"] == scores["mIoU"]


def test_ids_that_are_no_class_are_told_of_all_photos(pets):
    for key, strange in (("a", 9), ("b/c", 5)):
        file = pets.root / "labels" / f"{key}.png"
        ids = np.array(Image.open(file))
        ids[0, 0] = strange
        Image.fromarray(ids).save(file)
    evaluation = Evaluation(3, pets.ignore)
    list(evaluate(predict, pets, evaluation))
    assert evaluation.strangers == {5: 1, 9: 1}
    assert evaluation.matrix.counts.sum() == 9  # of 12: one is ignored, too


def test_photos_that_fail_are_left_out(pets):
    """One cannot be read, or nothing can be predicted of it."""

    def unlucky(key, image):
        if key == "a":
            raise InputError("a.png is odd")
        return predict(key, image)

    evaluation = Evaluation(3, pets.ignore)
    assert list(evaluate(unlucky, pets, evaluation)) == ["a", "b/c"]
    assert evaluation.failures == {"a": "a.png is odd"}
    assert [photo.key for photo in evaluation.photos] == ["b/c"]
    (pets.root / "labels/b/c.png").write_bytes(b"no picture")
    evaluation = Evaluation(3, pets.ignore)
    assert list(evaluate(predict, pets, evaluation)) == ["a", "b/c"]
    assert [photo.key for photo in evaluation.photos] == ["a"]
    assert "c.png cannot be read" in evaluation.failures["b/c"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried 9 GiB")])
def test_a_photo_for_which_memory_does_not_suffice_is_left_out(pets, error):
    def greedy(key, image):
        if key == "a":
            raise error
        return predict(key, image)

    evaluation = Evaluation(3, pets.ignore)
    assert list(evaluate(greedy, pets, evaluation)) == ["a", "b/c"]
    assert evaluation.failures["a"].startswith("pets: a: not enough memory for this photo")
    assert [photo.key for photo in evaluation.photos] == ["b/c"]


@pytest.mark.parametrize("counts", ["BoundaryCounts", "RegionCounts", "ConfidenceCounts"])
def test_a_photo_is_counted_in_every_way_or_in_none(pets, monkeypatch, counts):
    """Where memory suffices for some of them, too."""
    totals = []
    for keys in (("b/c",), pets.keys):
        evaluation = Evaluation(3, pets.ignore, confidences=ConfidenceCounts(3))
        list(evaluate(predict, replace(pets, keys=keys), evaluation))
        assert [photo.key for photo in evaluation.photos] == ["b/c"]
        totals.append((evaluation.scores(), evaluation.confidences.best()))
        totals[-1] += (evaluation.regions.pixels.tolist(), evaluation.strangers)
        counter = getattr(run, counts)
        monkeypatch.setattr(counter, "add", failing_once(counter.add))
    assert totals[0] == totals[1]


def failing_once(add):
    """The same, but memory does not suffice for the first."""
    calls = []

    def greedy(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise MemoryError
        add(*arguments)

    return greedy


def test_other_errors_end_the_evaluation(pets):
    def wrong(key, image):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(evaluate(wrong, pets, Evaluation(3, pets.ignore)))


def test_seen_and_unseen(pets):
    evaluation = Evaluation(3, pets.ignore)
    list(evaluate(predict, pets, evaluation))
    scores = evaluation.unseen_scores([1])
    assert scores["mIoU_unseen"] == 2 / 5
    assert scores["mIoU_seen"] == pytest.approx((3 / 4 + 3 / 4) / 2)
    assert scores["hIoU"] == pytest.approx(2 / (5 / 2 + 4 / 3))


def test_what_is_unlabelled_is_background_where_the_set_has_it(pets_outside):
    """Truth as positions: a 2 0 1 / 1 1 ignored, b/c 2 2 2 / 0 0 0."""
    confidences = ConfidenceCounts(3, background=2)
    evaluation = Evaluation(3, pets_outside.ignore, confidences=confidences)
    nothing = np.full((2, 3), U, np.int32)
    certain = np.ones((2, 3), np.float32)
    list(evaluate(lambda key, image: (nothing, certain), pets_outside, evaluation))
    assert evaluation.matrix.counts.tolist() == [[0, 0, 4, 0], [0, 0, 3, 0], [0, 0, 4, 0]]
    assert confidences.best()[1] == evaluation.matrix.mean_iou()


def test_a_photo_that_is_ignored_altogether_comes_last():
    evaluation = Evaluation(2, IGNORE, keep_worst=5)
    nothing, something = np.full((2, 2), IGNORE), np.zeros((2, 2), int)
    for key, truth in (("x", nothing), ("good", something), ("also", something)):
        evaluation.add(key, truth, np.zeros((2, 2), np.int32), None)
    assert [score.key for score, _ in evaluation.worst] == ["also", "good", "x"]
    assert math.isnan(evaluation.photos[0].mean_iou)
    assert evaluation.photos[0].mean_confidence is None


def test_a_segmenter_predicts():
    words = Vocabulary(["cat", "dog"])
    labels, confidence = np.array([[1, 0]], np.int32), np.array([[0.5, 1]], np.float32)

    def segment(frame):
        assert frame.source == "k.jpg"
        return Segmentation(labels, confidence, words)

    found = by_model(segment)("k", np.zeros((1, 2, 3), np.uint8))
    assert found[0] is labels and found[1] is confidence


def test_the_whole_is_one_matrix_not_a_mean_of_photos():
    draw = np.random.default_rng(0)
    whole, evaluation = ConfusionMatrix(3), Evaluation(3, IGNORE)
    for number in range(4):
        truth, labels = draw.integers(0, 3, (2, 5, 6))
        whole.add(truth, labels)
        evaluation.add(str(number), truth, labels, None)
    assert (evaluation.matrix.counts == whole.counts).all()
    assert evaluation.scores()["mIoU"] == whole.mean_iou()
