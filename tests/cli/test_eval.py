"""`ovseg eval` on a labelled set that the stand-in's rule gets half right."""

import csv
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.errors import UsageError


@pytest.fixture
def fake(fake):
    """The stand-in, on a machine without a GPU."""

    def choose_device(name):
        if name == "cuda":
            raise UsageError("no cuda device here")

    fake.choose_device = choose_device
    return fake


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


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--only", "", "--only: no class names given"),
        ("--only", " ", "--only: no class names given"),
        ("--unseen", "", "--unseen: no class names given"),
        ("--rename", "", "--rename names no class: NAME=WORD"),
        ("--rename", " , ", "--rename names no class: NAME=WORD"),
        ("--rename", "cat=kitten, cat=puss", "--rename has cat twice: .* cat=kitten|puss"),
        ("--only", "cat|kitten, dog", '--only cat|kitten: .* --rename "cat=cat|kitten"'),
        ("--unseen", "cat|kitten", "--unseen cat|kitten: "),
    ],
)
def test_names_that_would_be_left_out_in_silence(program, labelled, fake, option, text, message):
    ended = program("eval", "--data", labelled, option, text)
    assert ended.code == 2
    assert re.search(message.replace("|", r"\|"), ended.err)
    assert not fake.loaded


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


def test_without_a_folder_it_is_said_where_a_benchmark_is_to_be_had(program, fake):
    ended = program("eval", "--benchmark", "ade150")
    assert ended.code == 2
    assert "--benchmark ade150 without --data DIR" in ended.err
    for told in ("ADEChallengeData2016 with images", "data.csail.mit.edu", "BSD-3"):
        assert told in ended.err
    ended = program("eval", "--benchmark", "nonsense")
    assert ended.code == 2 and "no benchmark 'nonsense'" in ended.err
    ended = program("eval")
    assert ended.code == 2 and "Missing option '--data'" in ended.err
    assert not fake.loaded


def predictions(folder, maps):
    """Label maps of another program, by key."""
    folder.mkdir()
    for key, ids in maps.items():
        Image.fromarray(np.array(ids, np.uint8)).save(folder / f"{key}.png")
    return folder


# The same that the stand-in gives: 0 cat, 1 dog, 2 background, once as 255.
MAPS = {"a": [[0, 0, 1, 1], [2, 2, 255, 2]], "b": [[0, 0, 0, 0], [1, 1, 1, 1]]}


def test_label_maps_of_another_program(program, labelled, tmp_path, fake):
    folder = predictions(tmp_path / "maps", MAPS)
    ended = program("eval", "--data", labelled, "--predictions", folder, "--json")
    assert ended.code == 0
    assert not fake.loaded
    ours = program("eval", "--data", labelled, "--json")
    assert json.loads(ended.out) == json.loads(ours.out)


def test_label_maps_with_the_set_s_own_ids(program, labelled, tmp_path):
    folder = predictions(tmp_path / "maps", {"a": [[1, 1, 2, 2], [0] * 4], "b": [[1] * 4] * 2})
    arguments = ("--predictions", folder, "--prediction-ids", "file", "--json")
    scores = json.loads(program("eval", "--data", labelled, *arguments).out)
    assert scores["iou"] == pytest.approx({"cat": 6 / 9, "dog": 2 / 3, "background": 4 / 6})


def test_label_maps_that_look_as_if_they_had_the_set_s_own_ids(program, labelled, tmp_path):
    """Of 15 pixels one is right by position; as ids 6 cats and 4 of background are, and 2 dogs,
    whose value 2 is background by position and therefore not looked at.
    """
    maps = {"a": [[1, 1, 2, 2], [0] * 4], "b": [[1] * 4] * 2}
    folder = predictions(tmp_path / "maps", maps)
    ended = program("eval", "--data", labelled, "--predictions", folder)
    assert ended.code == 0
    told = "6.7% of the pixels are right where the values are positions among the names; as the ids"
    assert told in ended.err
    assert "own files 66.7% or more would be" in ended.err and "--prediction-ids file" in ended.err
    for ids in ("position", "file"):  # who says so has thought of it
        arguments = ("--predictions", folder, "--prediction-ids", ids)
        assert "--prediction-ids file" not in program("eval", "--data", labelled, *arguments).err
    predictions(tmp_path / "right", MAPS)
    ended = program("eval", "--data", labelled, "--predictions", tmp_path / "right")
    assert "--prediction-ids" not in ended.err


def test_label_maps_of_which_some_names_alone_are_scored(program, labelled, tmp_path):
    """Their positions are those among all names; cat counts as background then."""
    folder = predictions(tmp_path / "maps", MAPS)
    arguments = ("--predictions", folder, "--only", "dog", "--json")
    scores = json.loads(program("eval", "--data", labelled, *arguments).out)
    # dog as with all names; background: 15 pixels but the 3 true dogs and 2 cats called dog.
    assert scores["iou"] == pytest.approx({"dog": 3 / 5, "background": 10 / 12})


def test_label_maps_that_are_missing_or_do_not_fit(program, labelled, tmp_path, fake):
    folder = predictions(tmp_path / "maps", {"a": MAPS["a"]})
    ended = program("eval", "--data", labelled, "--predictions", folder)
    assert ended.code == 2
    assert "lacks 1 of 2 label maps: b.png" in ended.err
    predictions(tmp_path / "wrong", {"a": MAPS["a"], "b": [[0, 1]]})
    ended = program("eval", "--data", labelled, "--predictions", tmp_path / "wrong", "--json")
    assert ended.code == 1  # it costs its own photo alone
    assert "b.png is 2×1 pixels, its photo 4×2" in ended.err
    assert json.loads(ended.out)["mIoU"] == 1
    assert not fake.loaded


def test_label_maps_as_segment_writes_them_lie_on_photos_that_a_camera_turned(
    program, labelled, tmp_path
):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(labelled / "images" / "a.png") as picture:
        picture.transpose(Image.Transpose.ROTATE_90).save(labelled / "images" / "a.png", exif=exif)
    wrote = program("segment", labelled / "images", "--classes", "cat,dog,background", "-o", "out")
    assert wrote.code == 0
    arguments = ("--predictions", tmp_path / "out" / "labels", "--json")
    ended = program("eval", "--data", labelled, *arguments)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == json.loads(program("eval", "--data", labelled, "--json").out)
    assert json.loads(ended.out)["pixel_accuracy"] == pytest.approx(11 / 15)


def test_label_maps_of_segment_are_read_by_the_names_in_them(program, labelled, tmp_path):
    """The stand-in's rule goes by positions: with dog first, red 0 is dog and 1 cat."""
    names = ("--classes", "dog,cat", "--other", "rest")
    wrote = program("segment", labelled / "images", *names, "-o", "out")
    assert wrote.code == 0
    arguments = ("--predictions", tmp_path / "out" / "labels", "--json")
    scores = json.loads(program("eval", "--data", labelled, *arguments).out)
    # Red 0 six times: 4 cats, 2 background. Red 1 five times (one more is ignored): 3 dogs, 2 cats.
    assert scores["iou"] == pytest.approx({"cat": 2 / 9, "dog": 0, "background": 4 / 6})
    wrote = program("segment", labelled / "images", "--classes", "cat,cow,rest", "-o", "other")
    ended = program("eval", "--data", labelled, "--predictions", "other/labels")
    assert ended.code == 2
    assert 'they lack "dog" and have "cow", "rest"' in ended.err


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_a_photo_that_is_damaged_costs_only_itself(program, labelled, folder):
    damaged = labelled / folder / "b.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    ended = program("eval", "--data", labelled, "--json", "--photos", "photos.csv")
    assert ended.code == 1
    scores = json.loads(ended.out)
    assert scores["mIoU"] == 1 and list(scores["failures"]) == ["b"]
    assert "b.png" in ended.err and "1 of 2 photos could not be scored" in ended.err
    with open("photos.csv", newline="") as stream:
        assert [row["photo"] for row in csv.DictReader(stream)] == ["a"]
    (labelled / "val.txt").write_text("b\n")
    ended = program("eval", "--data", labelled)
    assert ended.code == 1
    assert "none of its 1 photos could be scored" in ended.err


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_a_photo_that_is_missing_is_named_before_anything_is_counted(
    program, labelled, fake, folder
):
    (labelled / folder / "b.png").unlink()
    ended = program("eval", "--data", labelled)
    assert ended.code == 2
    kind, file = {"images": ("photo", "b.jpg"), "labels": ("label map", "b.png")}[folder]
    assert f"lacks the {kind} of 1 of 2 that are listed: {folder}/{file}" in ended.err
    assert not fake.loaded


@pytest.mark.parametrize("option", ["--csv", "--photos", "--confusion", "--worst-dir"])
def test_places_that_cannot_be_written_are_told_before_anything_is_counted(
    program, labelled, fake, tmp_path, option
):
    (tmp_path / "file").touch()
    ended = program("eval", "--data", labelled, option, tmp_path / "file" / "below" / "x.png")
    assert ended.code == 2
    assert "cannot write to" in ended.err and "file is not a folder" in ended.err
    assert not fake.loaded


def test_the_same_file_twice(program, labelled, fake):
    ended = program("eval", "--data", labelled, "--csv", "x/../y.csv", "--photos", "y.csv")
    assert ended.code == 2
    assert "--csv and --photos both name y.csv" in ended.err
    assert not fake.loaded


def test_a_file_that_cannot_be_written_in_the_end_costs_neither_scores_nor_other_files(
    program, labelled, monkeypatch
):
    from ovseg_cli.errors import OutputError
    from ovseg_cli.evaluation import tables

    def full(*_):
        raise OutputError("cannot write c.csv: No space left on device")

    monkeypatch.setattr(tables, "write_classes", full)
    ended = program("eval", "--data", labelled, "--csv", "c.csv", "--photos", "p.csv", "--json")
    assert ended.code == 1
    assert "c.csv: No space left" in ended.err
    assert json.loads(ended.out)["pixel_accuracy"] == pytest.approx(11 / 15)
    assert os.path.exists("p.csv")


def test_a_reader_of_the_scores_that_goes_away_does_not_cost_the_files(
    program, labelled, monkeypatch
):
    from ovseg_cli.cli import console

    def gone(*_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(console, "data", gone)
    assert program("eval", "--data", labelled, "--csv", "c.csv").code != 0
    assert os.path.exists("c.csv")


def test_boundaries_and_sizes(program, labelled):
    """In photos of two rows every pixel lies at a border, and every region is large."""
    scores = json.loads(program("eval", "--data", labelled, "--json").out)
    assert scores["boundary_iou"] == scores["iou"]
    assert scores["boundary_mIoU"] == pytest.approx(scores["mIoU"])
    assert scores["regions"] == {"small": 0, "medium": 0, "large": 7}
    assert (scores["accuracy_small"], scores["accuracy_large"]) == (None, pytest.approx(11 / 15))


def test_files_are_written(program, labelled, tmp_path):
    ended = program(
        *("eval", "--data", labelled, "--csv", "out/classes.csv", "--photos", "out/photos.csv"),
        *("--confusion", "out/confusion.png", "--worst-dir", "out/worst", "--worst", "1"),
    )
    assert ended.code == 0
    with (tmp_path / "out/classes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["class"] for row in rows] == ["cat", "dog", "background"]
    assert rows[0] == {
        **{"class": "cat", "iou": "0.500000", "boundary_iou": "0.500000"},
        **{"accuracy": "0.666667", "true_pixels": "6", "predicted_pixels": "6"},
    }
    with (tmp_path / "out/photos.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["photo"] for row in rows] == ["b", "a"]
    assert rows[1]["mIoU"] == "1.000000"
    assert [path.name for path in (tmp_path / "out/worst").iterdir()] == ["01-b.jpg"]
    with Image.open(tmp_path / "out/confusion.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 100


def test_a_table_on_a_terminal(program, labelled, monkeypatch):
    from ovseg_cli.cli import console

    monkeypatch.setattr(console, "is_terminal", lambda: True)
    ended = program("eval", "--data", labelled)
    assert "pets, val: 2 photos" in ended.err and "boundary IoU" in ended.err
    cells = [line.split("│")[1:-1] for line in ended.err.splitlines() if "cat" in line]
    assert [cell.strip() for cell in cells[0]] == [
        *("cat", "0.500", "0.500", "0.667", "40.0%", "40.0%")
    ]
    assert "cat                      0.5000" in ended.out  # data is what it was


@pytest.fixture
def unsure(labelled):
    """The same photos; the stand-in is sure (green 255) but where it is wrong (51, that is 0.2)."""
    for key, wrong in (("a", []), ("b", [(0, 2), (0, 3), (1, 2), (1, 3)])):
        with Image.open(labelled / "images" / f"{key}.png") as picture:
            pixels = np.array(picture)
        pixels[..., 1] = 255
        for place in wrong:
            pixels[(*place, 1)] = 51
        Image.fromarray(pixels).save(labelled / "images" / f"{key}.png")
    return labelled


def test_the_best_threshold(program, unsure):
    """Above 0.2 the four wrong ones become background, which is right for two of them."""
    scores = json.loads(program("eval", "--data", unsure, "--tune", "--json").out)
    assert scores["best_threshold"] == pytest.approx(0.205)
    assert scores["mIoU_at_best_threshold"] == pytest.approx((4 / 6 + 1 + 6 / 8) / 3)
    assert scores["mIoU"] == pytest.approx((4 / 8 + 3 / 5 + 4 / 6) / 3)
    for threshold, mean in ((0.205, (4 / 6 + 1 + 6 / 8) / 3), (0.2, scores["mIoU"])):
        arguments = ("--threshold", threshold, "--json")
        found = json.loads(program("eval", "--data", unsure, *arguments).out)
        assert found["mIoU"] == pytest.approx(mean)


def test_several_ways_in_one_table(program, unsure, fake):
    arguments = ("--compare", "size=320,480", "--compare", "templates=single,vild", "--tune")
    ended = program("eval", "--data", unsure, *arguments)
    assert ended.code == 0
    header, *rows = [line.split("\t") for line in ended.out.splitlines()]
    assert header[:3] == ["size", "templates", "mIoU"] and "best_threshold" in header
    ways = [["320", "single"], ["320", "vild"], ["480", "single"], ["480", "vild"]]
    assert [row[:2] for row in rows] == ways
    assert {row[2] for row in rows} == {f"{(4 / 8 + 3 / 5 + 4 / 6) / 3:.4f}"}
    assert [asked[3]["size"] for asked in fake.loaded] == [320, 320, 480, 480]
    assert [len(made.vocabulary.templates) for made in fake.made] == [1, 14, 1, 14]
    for tiles in (("--tile", "64"), ("--compare", "tile=64,128")):
        ended = program("eval", "--data", unsure, "--compare", "overlap=0.1,0.4", *tiles)
        assert ended.code == 0
    ended = program("eval", "--data", unsure, "--compare", "model=mini", "--json")
    record = json.loads(ended.out)
    assert [entry["model"] for entry in record["compare"]] == ["mini"]
    assert (record["data"], record["split"]) == ("pets", "val")


@pytest.mark.parametrize("error", [UsageError("there is no such layer"), KeyboardInterrupt()])
def test_ways_that_are_finished_are_shown_when_the_next_one_fails(
    program, labelled, fake, monkeypatch, error
):
    load = fake.load_model

    def break_down(*names, size, **adapted):
        if size == 480:
            raise error
        return load(*names, size=size, **adapted)

    monkeypatch.setattr(fake, "load_model", break_down)
    ended = program("eval", "--data", labelled, "--compare", "size=320,480,640")
    assert ended.code == (2 if isinstance(error, UsageError) else 130)
    rows = [line.split("\t")[:2] for line in ended.out.splitlines()]
    assert rows == [["size", "mIoU"], ["320", f"{(4 / 8 + 3 / 5 + 4 / 6) / 3:.4f}"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compare", "device=cpu,cuda"], "no cuda device here"),
        (["--compare", "colour=red"], "knows no option 'colour'; there are model"),
        (["--compare", "exemplars=a,b"], "knows no option 'exemplars'; there are model"),
        (["--compare", "exemplar=cat=a.jpg"], "knows no option 'exemplar'; there are model"),
        (["--compare", "size="], "is not OPTION=A,B,..."),
        (["--compare", "size=320", "--compare", "size=480"], "is not OPTION=A,B,..."),
        (["--compare", "size=tall"], "'tall' is not a valid integer"),
        (["--compare", "attention=magic"], "magic"),
        (["--compare", "templates=none-such"], "none-such"),
        (["--compare", "model=mini,no-such-model"], "no-such-model"),
        (["--compare", "size=320", "--csv", "x.csv"], "--compare and --csv exclude each other"),
        (["--tune", "--threshold", "0"], "--tune and --threshold exclude each other"),
        (["--predictions", ".", "--tune"], "--predictions and --tune exclude each other"),
        (["--predictions", ".", "--rename", "cat=x"], "--predictions and --rename exclude"),
        (
            ["--exemplar", "mug=pets/images/a.png"],
            "no class mug for its picture; there are: cat, dog",
        ),
        (["--predictions", ".", "-m", "mini"], "--predictions and --model exclude each other"),
        (["--predictions", ".", "--size", "64"], "--predictions and --size exclude each other"),
        (["--predictions", ".", "--templates", "vild"], "--predictions and --templates exclude"),
        (["--predictions", ".", "--rivals", "none"], "--predictions and --rivals exclude"),
        (["--predictions", ".", "--last-block", "full"], "--predictions and --last-block exclude"),
        (["--prediction-ids", "file"], "--prediction-ids without --predictions DIR"),
        (["--worst", "3"], "--worst without --worst-dir DIR"),
        (["--confusion", "c.svg"], "--confusion c.svg: what is written there is PNG"),
        (["--compare", "overlap=0.1,0.4"], "--overlap without --tile N"),
        (["--compare", "overlap=0.1,0.4", "--compare", "tile="], "is not OPTION=A,B,..."),
    ],
)
def test_options_that_do_not_go(program, labelled, fake, arguments, message):
    ended = program("eval", "--data", labelled, *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert not fake.loaded


def test_ids_that_classes_json_lacks_are_said(program, labelled):
    assert "not in classes.json" not in program("eval", "--data", labelled).err
    (labelled / "classes.json").write_text('{"0": "background", "1": "cat"}')
    ended = program("eval", "--data", labelled)
    assert ended.code == 0
    # Of 16 pixels one is ignored and 3 are dogs.
    told = "pets: labels hold ids that are not in classes.json (2): such pixels, 20.0% of those"
    assert told in ended.err
    (labelled / "classes.json").write_text('{"7": "cat"}')
    ended = program("eval", "--data", labelled)
    assert ended.code == 2
    assert "no pixel counts" in ended.err and "0, 1, 2" in ended.err


def test_a_set_in_which_all_is_ignored(program, labelled):
    for key in ("a", "b"):
        Image.new("L", (4, 2), 255).save(labelled / "labels" / f"{key}.png")
    ended = program("eval", "--data", labelled)
    assert ended.code == 2
    assert "pets: no pixel counts: all are ignored" in ended.err
