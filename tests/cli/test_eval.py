"""`ovseg eval` on a labelled set that the stand-in's rule gets half right."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def labelled(tmp_path):
    """Two photos of 2×4 pixels; names 'background', 'cat' and 'dog' with ids 0, 1 and 2."""
    root = tmp_path / "pets"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    (root / "classes.json").write_text('{"0": "background", "1": "cat", "2": "dog"}')
    (root / "val.txt").write_text("a\nb\n")
    # The stand-in labels a pixel by its red value modulo 3: 0 cat, 1 dog, 2 background.
    red = {"a": [[0, 0, 1, 1], [2, 2, 2, 2]], "b": [[0, 0, 0, 0], [1, 1, 1, 1]]}
    ids = {"a": [[1, 1, 2, 2], [0, 0, 0, 0]], "b": [[1, 1, 0, 0], [2, 255, 1, 1]]}
    for key in ("a", "b"):
        pixels = np.zeros((2, 4, 3), np.uint8)
        pixels[..., 0] = red[key]
        Image.fromarray(pixels).save(root / "images" / f"{key}.png")
        Image.fromarray(np.array(ids[key], np.uint8)).save(root / "labels" / f"{key}.png")
    return root


def test_scores_are_those_counted_by_hand(program, labelled):
    ended = program("eval", "--data", labelled, "--json")
    assert ended.code == 0
    scores = json.loads(ended.out)
    # cat: 4 right, 2 taken from background, 2 lost to dog; dog: 3 right, 2 taken from cat;
    # background: 4 right, 2 lost to cat; one pixel is 255 and left out.
    expected = {"cat": 4 / 8, "dog": 3 / 5, "background": 4 / 6}
    assert scores["iou"] == pytest.approx(expected)
    assert scores["mIoU"] == pytest.approx(sum(expected.values()) / 3)
    assert scores["pixel_accuracy"] == pytest.approx(11 / 15)
    assert scores["mean_accuracy"] == pytest.approx((4 / 6 + 3 / 3 + 4 / 6) / 3)
    assert scores["fwIoU"] == pytest.approx((6 * 4 / 8 + 3 * 3 / 5 + 6 * 4 / 6) / 15)
    assert "hIoU" not in scores


def test_seen_and_unseen_names(program, labelled):
    scores = json.loads(program("eval", "--data", labelled, "--unseen", "dog", "--json").out)
    seen = (4 / 8 + 4 / 6) / 2
    assert scores["mIoU_unseen"] == pytest.approx(3 / 5)
    assert scores["mIoU_seen"] == pytest.approx(seen)
    assert scores["hIoU"] == pytest.approx(2 * seen * (3 / 5) / (seen + 3 / 5))


def test_an_unseen_name_that_the_set_does_not_have(program, labelled, fake):
    ended = program("eval", "--data", labelled, "--unseen", "dog, unicorn")
    assert ended.code == 2
    assert "'unicorn'" in ended.err and "cat, dog" in ended.err
    assert not fake.loaded


def test_some_of_the_names_alone(program, labelled):
    """The rule takes a pixel's red value modulo 2 then: 0 dog, 1 none of the names."""
    scores = json.loads(program("eval", "--data", labelled, "--only", "dog", "--json").out)
    # dog: its 3 pixels are red 1, so none is found; red 0 and 2 are 10 pixels of others.
    # Background: 12 pixels, of which 2 are red 1; with the 3 dogs 5 are called background.
    assert scores["iou"] == pytest.approx({"dog": 0 / 13, "background": 2 / 15})


def test_other_words_for_the_names(program, labelled, fake):
    ended = program("eval", "--data", labelled, "--rename", "cat=kitten, dog = my dog", "--json")
    assert ended.code == 0
    assert fake.made[0].vocabulary.names == ("kitten", "my dog", "background")
    assert json.loads(ended.out)["iou"].keys() == {"cat", "dog", "background"}
    for wrong in ("cat", "cat=", "unicorn=horse"):
        assert program("eval", "--data", labelled, "--rename", wrong).code == 2


def test_scores_as_lines(program, labelled):
    ended = program("eval", "--data", labelled)
    assert [line.split() for line in ended.out.splitlines()][:2] == [
        ["cat", "0.5000"],
        ["dog", "0.6000"],
    ]


def test_a_folder_that_is_no_data_set(program, tmp_path):
    ended = program("eval", "--data", tmp_path)
    assert ended.code == 2
    assert "classes.json" in ended.err


def test_a_benchmark_as_it_is_downloaded(program, tmp_path, fake):
    """The stand-in labels a pixel by its red value modulo 11."""
    (tmp_path / "CamVid/test").mkdir(parents=True)
    (tmp_path / "CamVid/testannot").mkdir()
    pixels = np.zeros((1, 4, 3), np.uint8)
    pixels[0, :, 0] = [0, 1, 1, 5]
    Image.fromarray(pixels).save(tmp_path / "CamVid/test/a.png")
    Image.fromarray(np.array([[0, 1, 0, 11]], np.uint8)).save(tmp_path / "CamVid/testannot/a.png")
    ended = program("eval", "--benchmark", "camvid11", "--data", tmp_path / "CamVid", "--json")
    assert ended.code == 0
    scores = json.loads(ended.out)
    assert (scores["data"], scores["split"]) == ("camvid11", "test")
    assert scores["iou"]["sky"] == scores["iou"]["building"] == 1 / 2
    assert scores["mIoU"] == 1 / 2
    assert len(fake.made[-1].vocabulary) == 11


def test_a_benchmark_that_is_not_there(program, tmp_path, fake):
    ended = program("eval", "--benchmark", "ade150", "--data", tmp_path)
    assert ended.code == 2
    assert "ADEChallengeData2016" in ended.err and "data.csail.mit.edu" in ended.err
    assert program("eval", "--benchmark", "nonsense", "--data", tmp_path).code == 2
    assert not fake.loaded
