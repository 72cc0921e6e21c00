"""The worst photos as pictures."""

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.evaluation.run import Evaluation, evaluate
from ovseg_cli.evaluation.worst_photos import GAP, side_by_side, write_worst
from ovseg_cli.frame import Frame
from ovseg_cli.render import palette
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary


def test_the_worst_are_written_by_rank(pets, tmp_path):
    def predict(key, image):
        return np.full((2, 3), {"a": 2, "b/c": -1}[key], np.int32), None

    evaluation = Evaluation(3, pets.ignore, keep_worst=2)
    list(evaluate(predict, pets, evaluation))
    files = write_worst(tmp_path / "worst", pets, pets.names, evaluation)
    assert [file.name for file in files] == ["01-b-c.jpg", "02-a.jpg"]
    assert sorted(tmp_path.glob("worst/*")) == files
    with Image.open(files[0]) as picture:
        assert picture.format == "JPEG" and picture.mode == "RGB"


def test_pictures_of_an_earlier_call_are_removed_and_no_others(pets, tmp_path):
    folder = tmp_path / "worst"
    folder.mkdir()
    others = {"01-holiday.jpg", "a.jpg", "1-a.jpg", "notes.txt", "02-a.png"}
    for name in ("02-a.jpg", "1000-b-c.jpg", *others):
        (folder / name).touch()
    evaluation = Evaluation(3, pets.ignore, keep_worst=1)
    wrong = np.full((2, 3), -1, np.int32)
    list(evaluate(lambda key, image: (wrong, None), pets, evaluation))
    write_worst(folder, pets, pets.names, evaluation)
    assert {file.name for file in folder.iterdir()} == {"01-a.jpg", *others}


def test_both_stand_side_by_side():
    words, size = Vocabulary(["cat", "dog"]), (300, 400)
    frame = Frame(np.full((*size, 3), 100, np.uint8))
    cat, dog = (
        Segmentation(np.full(size, k, np.int32), np.ones(size, np.float32), words) for k in (0, 1)
    )
    pixels = np.asarray(side_by_side(frame, ("prediction", cat), ("truth", dog)))
    assert pixels.shape[1] == 2 * 400 + GAP
    middle = pixels[150]
    expected = (palette(2).astype(float) + 100) / 2
    assert middle[200] == pytest.approx(expected[0], abs=2)
    assert middle[400 + GAP + 200] == pytest.approx(expected[1], abs=2)
    assert pixels[:22].min() < 100  # the titles


def test_what_the_truth_ignores_is_shown_as_the_photo_is(pets, tmp_path, monkeypatch):
    drawn = []

    def noted(frame, *titled):
        drawn.append({title.split(",")[0]: found.labels.tolist() for title, found in titled})
        return side_by_side(frame, *titled)

    monkeypatch.setattr("ovseg_cli.evaluation.worst_photos.side_by_side", noted)
    evaluation = Evaluation(3, pets.ignore, keep_worst=1)
    wrong = np.array([[1, 1, -1], [0, 0, 0]], np.int32)
    evaluation.add("a", pets.load("a")[1], wrong, None)
    write_worst(tmp_path, pets, pets.names, evaluation)
    assert drawn == [{"prediction": wrong.tolist(), "truth": [[0, 1, 2], [2, 2, -1]]}]
