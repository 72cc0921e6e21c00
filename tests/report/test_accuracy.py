import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.data.pixel_set import read_pixel_set
from ovseg_cli.errors import UsageError
from ovseg_cli.evaluation.predictions import PredictionFiles
from ovseg_cli.evaluation.run import Evaluation, evaluate
from ovseg_cli.report import accuracy
from ovseg_cli.run_folder.finished_run import FinishedPhoto, read_run
from ovseg_cli.run_folder.journal_entry import Entry


@pytest.fixture
def photo(tmp_path):
    """Writes a photo of 4×2 pixels whose red value is given per pixel, and its true ids."""
    data = tmp_path / "truth"

    def write(key, red, ids):
        pixels = np.zeros((2, 4, 3), np.uint8)
        pixels[..., 0], pixels[..., 1] = red, 128
        (data / "images" / key).parent.mkdir(parents=True, exist_ok=True)
        (data / "labels" / key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(data / "images" / f"{key}.png")
        Image.fromarray(np.array(ids, np.uint8)).save(data / "labels" / f"{key}.png")
        with (data / "val.txt").open("a") as stream:
            stream.write(f"{key}\n")
        return data / "images" / f"{key}.png"

    data.mkdir()
    (data / "classes.json").write_text('{"0": "background", "3": "Road", "5": "automobile"}')
    return write


def measured(out, data):
    run, labelled = read_run(out), read_pixel_set(data, "val")
    found = accuracy.begin(run, labelled)
    assert len(list(accuracy.measure(run, found))) == len(labelled.keys)
    return found


def asked_for(out, other):
    """The run as if `other` had been given to --other."""
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(record | {"options": {"other": other}}))


def eval_only(out, data, names, positions):
    """What `ovseg eval --predictions --only NAMES` counts; positions: of the run's ids, there."""
    whole = read_pixel_set(data, "val")
    kept = whole.only(names)
    for file in (out / "labels").iterdir():
        ids = np.array(positions, np.uint8)[np.asarray(Image.open(file))]
        Image.fromarray(ids).save(data / file.name)
    told = Evaluation(len(names) + kept.has_other, kept.ignore)
    list(evaluate(PredictionFiles(data, kept, whole=whole), kept, told))
    assert not told.failures
    return told


def test_scores_are_those_counted_by_hand(photo, make_run, tmp_path):
    # The run: 0 rest (takes background), 1 road, 2 car|automobile.
    a = photo("a", [[1, 1, 2, 2], [0, 0, 0, 0]], [[3, 3, 3, 5], [0, 0, 0, 255]])
    b = photo("b", [[1, 1, 1, 1], [1, 1, 1, 1]], [[3, 3, 3, 3], [3, 3, 3, 3]])
    out = make_run([(a, "a"), (b, "b")], ["rest", "road", "car|automobile"])
    asked_for(out, "rest")
    found = measured(out, tmp_path / "truth")
    # a: road 2 of 3, car 1 of 2, background 3 of 3; b: road alone, all right.
    assert found.photos == pytest.approx({"a": (2 / 3 + 1 / 2 + 1) / 3, "b": 1.0})
    assert found.iou() == pytest.approx({0: 1.0, 1: 10 / 11, 2: 1 / 2})
    assert found.mean_iou() == pytest.approx((1 + 10 / 11 + 1 / 2) / 3)
    assert found.not_named == ()


def test_classes_that_the_run_has_no_name_for(photo, make_run, tmp_path):
    """Where nothing takes them they count against what they were called, and in no mean."""
    a = photo("a", [[0, 0, 0, 0], [1, 1, 1, 1]], [[3, 3, 5, 5], [3, 3, 3, 3]])
    (tmp_path / "truth/classes.json").write_text('{"3": "road", "5": "automobile"}')
    found = measured(make_run([(a, "a")], ["road", "lamp"]), tmp_path / "truth")
    assert found.photos == pytest.approx({"a": 2 / 8})
    assert found.not_named == ("automobile",)


@pytest.mark.parametrize(("first", "positions"), [("background", (2, 0)), ("sky", (0, 1))])
@pytest.mark.parametrize("wrong", [False, True])
def test_what_the_run_has_no_name_for_is_right_as_other(
    photo, make_run, tmp_path, first, positions, wrong
):
    data = tmp_path / "truth"
    a = photo("a", [[1, 1, 0, 0], [1, int(not wrong), 0, 0]], [[3, 3, 5, 0], [3, 3, 255, 5]])
    classes = {"0": first, "3": "road", "5": "automobile"}
    (data / "classes.json").write_text(json.dumps(classes))
    out = make_run([(a, "a")], ["rest", "road"])
    asked_for(out, "rest")
    found, told = measured(out, data), eval_only(out, data, ["road"], positions)
    assert found.not_named == tuple(name for name in (first, "automobile") if name != "background")
    # Road: 4 of 4 or 3 of 4; the three others: 3 of 3, or of 4 that are called so.
    assert found.mean_iou() == pytest.approx(0.75 if wrong else 1.0)
    assert found.mean_iou() == pytest.approx(told.matrix.mean_iou())
    assert found.photos == pytest.approx({"a": told.photos[0].mean_iou})


def test_background_is_what_other_takes_and_what_is_called_so(photo, make_run, tmp_path):
    a = photo("a", [[0, 0, 1, 1], [2, 2, 2, 2]], [[0, 0, 0, 3], [3, 3, 3, 0]])
    out = make_run([(a, "a")], ["background", "rest", "road"])
    asked_for(out, "rest")
    # Background: 3 of 4 pixels and 4 that are called so; road: 3 of 4 and 4.
    assert measured(out, tmp_path / "truth").mean_iou() == pytest.approx(3 / 5)


def test_ids_of_no_class_are_counted(photo, make_run, tmp_path):
    a = photo("a", [[0] * 4] * 2, [[3, 3, 3, 3], [7, 7, 99, 255]])
    found = measured(make_run([(a, "a")], ["road"]), tmp_path / "truth")
    assert found.strangers == {7: 2, 99: 1}
    assert found.photos == {"a": 1.0}


def test_unlabelled_pixels_are_wrong(photo, make_run, tmp_path):
    a = photo("a", [[0, 0, 0, 0], [0, 0, 0, 0]], [[3, 3, 3, 3], [3, 3, 3, 3]])
    out = make_run([(a, "a")], ["road"])
    labels = np.asarray(Image.open(out / "labels/a.png")).copy()
    labels[0] = 255
    Image.fromarray(labels).save(out / "labels/a.png")
    assert measured(out, tmp_path / "truth").photos == {"a": 0.25}  # background's IoU is 0
    (tmp_path / "truth/classes.json").write_text('{"3": "road"}')
    assert measured(out, tmp_path / "truth").photos == {"a": 0.5}


def test_without_other_the_mean_is_that_of_eval(photo, make_run, tmp_path):
    a = photo("a", [[0, 0, 1, 1], [1, 1, 0, 0]], [[3, 3, 5, 0], [5, 5, 0, 3]])
    out = make_run([(a, "a")], ["road", "automobile"])
    data = read_pixel_set(tmp_path / "truth", "val")
    for unlabelled in (False, True):
        if unlabelled:
            labels = np.asarray(Image.open(out / "labels/a.png")).copy()
            labels[:, 3] = 255
            Image.fromarray(labels).save(out / "labels/a.png")
        told = Evaluation(3, data.ignore)
        list(evaluate(PredictionFiles(out / "labels", data), data, told))
        found = measured(out, tmp_path / "truth")
        assert found.mean_iou() == pytest.approx(told.matrix.mean_iou())
        assert found.photos == pytest.approx({"a": told.photos[0].mean_iou})


@pytest.mark.parametrize("names", [["rest", "road"], ["rest", "road", *map(str, range(300))]])
def test_unlabelled_pixels_are_background_where_the_set_has_that(photo, make_run, tmp_path, names):
    """As `ovseg eval --predictions` has it: all four are right."""
    a = photo("a", [[0, 0, 1, 1], [1, 1, 1, 1]], [[0, 0, 0, 0], [3, 3, 3, 0]])
    out = make_run([(a, "a")], names)
    asked_for(out, "rest")
    labels = np.asarray(Image.open(out / "labels/a.png")).copy()
    labels[0, 2:] = np.iinfo(np.uint8 if len(names) < 256 else np.uint16).max
    Image.fromarray(labels).save(out / "labels/a.png")
    assert measured(out, tmp_path / "truth").photos == pytest.approx({"a": (4 / 5 + 3 / 4) / 2})


def test_labels_of_another_size_are_left_out(photo, make_run, tmp_path):
    a = photo("a", [[0] * 4] * 2, [[3] * 4] * 2)
    out = make_run([(a, "a")], ["road"])
    Image.new("L", (2, 2)).save(out / "labels/a.png")
    found = measured(out, tmp_path / "truth")
    assert found.photos == {} and found.other_size == ["a"]
    assert np.isnan(found.mean_iou())


def test_labels_that_cannot_be_read_cost_their_photo_alone(photo, make_run, tmp_path):
    photos = [(photo(key, [[0] * 4] * 2, [[3] * 4] * 2), key) for key in "abcd"]
    out = make_run(photos, ["road"])
    (tmp_path / "truth/labels/a.png").write_bytes(b"no picture")
    (tmp_path / "truth/labels/b.png").unlink()
    (out / "labels/c.png").write_bytes(b"no picture")
    found = measured(out, tmp_path / "truth")
    assert found.photos == {"d": 1.0} and found.labelled == 4
    assert "truth/labels/a.png cannot be read" in found.unread["a"]
    assert set(found.unread) == {"a", "b", "c"} == set(found.undefined())


def test_the_photos_of_the_labels_need_not_be_there(photo, make_run, tmp_path):
    a = photo("a", [[0] * 4] * 2, [[3] * 4] * 2)
    out = make_run([(a, "a")], ["road"])
    a.unlink()
    assert measured(out, tmp_path / "truth").photos == {"a": 1.0}


def finished(rel, name):
    return FinishedPhoto(name, Entry(rel, "", 1, 1, "r", 1, 1), None, None)


def test_photos_are_matched_by_rel_and_else_by_a_stem_that_is_unique():
    photos = [
        *(finished("a", "a.jpg"), finished("x/b", "x/b.jpg"), finished("y/b", "y/b.jpg")),
        *(finished("x/c", "x/c.jpg"), finished("d.png", "d.png"), finished("x/a", "x/a.jpg")),
    ]
    matched = accuracy.match(photos, ["a", "b", "c", "d", "y/b", "none"])
    assert {key: photo.entry.rel for key, photo in matched.items()} == {
        **{"a": "a", "c": "x/c", "d": "d.png", "y/b": "y/b"}
    }


def test_a_photo_is_matched_once():
    """One of berlin, segmented from within it, is not held against the labels of hamburg."""
    photos = [finished("1", "1.jpg"), finished("2", "2.jpg"), finished("x/3", "x/3.jpg")]
    matched = accuracy.match(photos, ["berlin/1", "hamburg/1", "z/2", "2", "x/3", "3"])
    assert {key: photo.entry.rel for key, photo in matched.items()} == {"2": "2", "x/3": "x/3"}


def test_no_class_in_common(photo, make_run, tmp_path):
    a = photo("a", [[0] * 4] * 2, [[3] * 4] * 2)
    with pytest.raises(
        UsageError, match="no class of the run is one of truth: it has sky; the set has Road, auto"
    ):
        measured(make_run([(a, "a")], ["sky"]), tmp_path / "truth")


def test_a_run_without_label_maps(photo, make_run, tmp_path):
    a = photo("a", [[0] * 4] * 2, [[3] * 4] * 2)
    with pytest.raises(UsageError, match="no label maps .* labels among --save"):
        measured(make_run([(a, "a")], ["road"], save=["overlay"]), tmp_path / "truth")


def test_no_torch_is_needed():
    code = (
        "import sys, ovseg_cli.report.accuracy, ovseg_cli.report.page, ovseg_cli.cli.report\n"
        "assert not {'torch', 'cv2', 'open_clip'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("names", "other", "takes_background"),
    [
        (["rest", "road"], "rest", ["rest"]),
        (["background", "road"], None, ["background"]),
        (["background", "rest", "road"], "rest", ["background", "rest"]),  # as in `ovseg eval`
        (["automobile", "road"], "road", []),  # it is a class of the set by its name
        (["Background", "ROAD"], None, ["Background"]),
        (["Rest", "road"], " Rest | none", ["Rest"]),
        (["sky", "road"], None, []),
    ],
)
def test_which_class_takes_the_background(
    photo, make_run, tmp_path, names, other, takes_background
):
    a = photo("a", [[0] * 4] * 2, [[3] * 4] * 2)
    out = make_run([(a, "a")], names)
    asked_for(out, other)
    classes = measured(out, tmp_path / "truth").classes
    background = [names[mine] for mine, theirs in classes.items() if theirs == 2]
    assert background == takes_background
    assert classes[[name.lower() for name in names].index("road")] == 0


def test_names_are_the_same_however_their_accents_are_written(photo, make_run, tmp_path):
    a = photo("a", [[0] * 4] * 2, [[3] * 4] * 2)
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    classes = json.dumps({"0": "background", "3": composed})
    (tmp_path / "truth/classes.json").write_text(classes)
    out = make_run([(a, "a")], [decomposed])
    assert measured(out, tmp_path / "truth").photos == {"a": 1.0}


def test_in_a_run_of_many_classes_255_is_one_of_them(photo, make_run, tmp_path):
    a = photo("a", [[255, 255, 1, 1], [255] * 4], [[3] * 4] * 2)
    names = [f"class {number}" for number in range(300)]
    names[255] = "road"
    found = measured(make_run([(a, "a")], names), tmp_path / "truth")
    assert found.photos == pytest.approx({"a": 6 / 8})
