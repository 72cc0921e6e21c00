"""`ovseg vocab check`, with the bundled model."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.cli import auto_names
from ovseg_cli.cli.compute import Compute
from ovseg_cli.cli.main import ovseg
from ovseg_cli.cli.options import read_exemplars
from ovseg_cli.errors import UsageError
from ovseg_cli.media.picture_formats import HEAVY_PIXELS
from ovseg_cli.names.naming import Proposal
from ovseg_cli.names.nouns import common_nouns
from ovseg_cli.names.vocabulary_check import ClassCheck, Neighbour
from ovseg_cli.vocabulary_files import read


@pytest.fixture
def vocab(capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            ovseg.main(["vocab", "check", *arguments], prog_name="ovseg")
        return end.value.code, *capfd.readouterr()

    return run


def test_names_that_mini_finds_alike_and_one_mistyped(vocab, tmp_path):
    (tmp_path / "names.txt").write_text("car\nautomobile  # the same\ngrass\nbuidling\n")
    code, out, err = vocab("names.txt")
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in rows] == ["car", "automobile", "grass", "buidling"]
    assert rows[0][1].startswith("automobile 0.")
    assert "car: the model can hardly tell it from 'automobile'" in err
    assert "is 'building' meant?" in err
    assert "grass:" not in err


def test_json(vocab):
    code, out, _ = vocab("--classes", "car|auto, sky", "--json")
    assert code == 0
    first, second = map(json.loads, out.splitlines())
    assert first["name"] == "car" and first["nearest"][0][0] == "sky"
    assert second["warnings"] == []


def test_no_similarity_is_less_than_nothing_by_its_sign_alone(vocab, monkeypatch):
    found = ClassCheck("car", (Neighbour("sky", -0.00001),), ())
    monkeypatch.setattr("ovseg_cli.names.vocabulary_check.check", lambda *_: [found])
    assert vocab("--classes", "car, sky")[1] == "car\tsky 0.00\n"
    nearest = json.loads(vocab("--classes", "car, sky", "--json")[1])["nearest"]
    assert str(nearest[0][1]) == "0.0"


@pytest.mark.parametrize("arguments", [[], ["names.txt", "--classes", "a,b"]])
def test_the_names_are_given_once(vocab, arguments):
    code, _, err = vocab(*arguments)
    assert code == 2
    assert "name the classes once" in err


def test_proposed_names_are_no_names_to_check(vocab):
    code, out, err = vocab("--classes", "auto")
    assert code == 2 and not out and "ovseg vocab propose" in err


@pytest.mark.parametrize("option", ["exemplar", "rivals"])
def test_what_goes_with_classes_is_refused_where_they_are_looked_for(valley, capfd, option):
    value = {"exemplar": f"sky={valley}", "rivals": "voc20"}[option]
    with pytest.raises(SystemExit) as end:
        ovseg.main(["vocab", "propose", valley, f"--{option}", value], prog_name="ovseg")
    out, err = capfd.readouterr()
    assert end.value.code == 2 and not out and f"--{option} goes with classes" in err


@pytest.mark.parametrize("command", [["vocab", "propose"], ["bench"], ["segment"], ["eval"]])
def test_options_that_go_with_classes_are_shown_where_there_are_classes(capfd, command):
    with pytest.raises(SystemExit):
        ovseg.main([*command, "--help"], prog_name="ovseg")
    shown = " ".join(capfd.readouterr().out.split())
    assert "--runtime" in shown
    has_classes = command[0] in ("segment", "eval")
    assert ("--exemplar" in shown) == ("--rivals" in shown) == has_classes
    assert ("none of the classes, instead" in shown) == (command == ["segment"])


def test_a_file_of_rivals_is_given_with_an_at(valley, capfd):
    arguments = ["segment", valley, "--classes", "sky", "--rivals", "names.txt", "--dry-run"]
    with pytest.raises(SystemExit) as end:
        ovseg.main(arguments, prog_name="ovseg")
    assert end.value.code == 2 and "given as @names.txt" in capfd.readouterr().err


def test_a_file_that_is_not_there(vocab):
    code, _, err = vocab("absent.txt")
    assert code == 2 and "absent.txt" in err


@pytest.fixture
def valley():
    path = Path(__file__).parents[2] / "examples" / "photos" / "valley.jpg"
    if not path.exists():
        pytest.skip("no examples here")
    return str(path)


def test_propose_prints_a_file_of_names(valley, capfd, tmp_path):
    with pytest.raises(SystemExit) as end:
        ovseg.main(["vocab", "propose", valley], prog_name="ovseg")
    out, _ = capfd.readouterr()
    assert end.value.code == 0
    (tmp_path / "names.txt").write_text(out)
    names = read(tmp_path / "names.txt").names
    assert 1 <= len(names) <= 20
    assert "sky" in names
    assert set(names) <= set(common_nouns())


def test_segment_with_proposed_names(valley, capfd, tmp_path):
    arguments = ["segment", valley, "--classes", "auto", "-o", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        ovseg.main(arguments, prog_name="ovseg")
    _, err = capfd.readouterr()
    assert end.value.code == 0
    assert 'names proposed, a start to be edited: --classes "' in err
    classes = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert "sky" in [entry["name"] for entry in classes]


@pytest.mark.parametrize("option", ["--other", "--exemplar"])
def test_what_is_typed_wins_over_proposals_that_mean_the_same(
    valley, capfd, tmp_path, monkeypatch, option
):
    """In whatever case and number: names that are alike would be refused after the looking."""
    proposals = [Proposal(name, 0.3) for name in ("sky", "tree", "grass")]
    monkeypatch.setattr(auto_names, "proposals", lambda *_: proposals)
    for typed, left in (("Sky", ["tree", "grass"]), ("trees", ["sky", "grass"])):
        value = typed if option == "--other" else f"{typed}={valley}:0,0,300,100"
        arguments = ["segment", valley, "--classes", "auto", option, value]
        with pytest.raises(SystemExit) as end:
            ovseg.main([*arguments, "-o", str(tmp_path / typed)], prog_name="ovseg")
        err = capfd.readouterr().err
        assert end.value.code == 0, err
        classes = json.loads((tmp_path / typed / "classes.json").read_text())
        assert [entry["name"] for entry in classes] == [*left, typed]


def test_all_that_is_proposed_may_be_typed_already(valley, monkeypatch):
    monkeypatch.setattr(auto_names, "proposals", lambda *_: [Proposal("sky", 1.0)])
    shown = read_exemplars([f"Sky={valley}"])
    compute = Compute("mini", "cpu", "fp32", exemplars=shown)
    assert auto_names.auto_vocabulary(compute, []).names == ("Sky",)
    with pytest.raises(UsageError, match="no names could be proposed"):
        auto_names.auto_vocabulary(Compute("mini", "cpu", "fp32"), [], other="rest | sky")


def test_photos_are_looked_at_up_to_the_limit_that_is_asked_for(valley, capfd, monkeypatch):
    monkeypatch.setitem(HEAVY_PIXELS, "JPEG", 9999)
    seen = []
    monkeypatch.setattr(
        auto_names, "proposals", lambda _, frames, unread: seen.extend(frames) or []
    )
    for options in ([], ["--max-pixels", "10000000"]):
        assert not seen
        with pytest.raises(SystemExit):
            ovseg.main(["segment", valley, "--classes", "auto", *options], prog_name="ovseg")
        assert ("exceed the limit of 9999" in capfd.readouterr().err) == (not options)
    assert len(seen) == 1


@pytest.mark.parametrize("option", ["--other", "--save"])
def test_what_is_empty_is_found_before_names_are_looked_for(valley, capfd, monkeypatch, option):
    monkeypatch.delattr(auto_names, "proposals")
    with pytest.raises(SystemExit) as end:
        ovseg.main(["segment", valley, "--classes", "auto", option, " "], prog_name="ovseg")
    assert end.value.code == 2 and f"{option}" in capfd.readouterr().err


def test_why_nothing_is_proposed(capfd, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    arguments = ["segment", str(tmp_path / "a.jpg"), "--classes", "auto", "-o", "out"]
    with pytest.raises(SystemExit) as end:
        ovseg.main(arguments, prog_name="ovseg")
    assert end.value.code == 2
    assert re.search(r"no names could be proposed \(.*a\.jpg: .*\): name", capfd.readouterr().err)


def test_proposing_looks_ahead_which_a_stream_does_not_allow(capfd, tmp_path):
    arguments = ["video", "camera:0", "--classes", "auto", "-o", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        ovseg.main(arguments, prog_name="ovseg")
    assert end.value.code == 2
    assert "cannot look ahead in camera:0" in capfd.readouterr().err


def test_a_class_shown_by_a_picture_alone(valley, capfd, tmp_path):
    out = tmp_path / "out"
    shown = f"what is above={valley}:0,0,300,100"
    arguments = ["segment", valley, "--exemplar", shown, "--classes", "grass", "-o", str(out)]
    with pytest.raises(SystemExit) as end:
        ovseg.main(arguments, prog_name="ovseg")
    assert end.value.code == 0, capfd.readouterr().err
    classes = json.loads((out / "classes.json").read_text())
    assert [entry["name"] for entry in classes] == ["grass", "what is above"]
    labels = np.asarray(Image.open(out / "labels" / "valley.png"))
    assert (labels[: len(labels) // 8] == 1).mean() > 0.9
    ((name, path, digest, box),) = json.loads((out / "run.json").read_text())["options"][
        "exemplars"
    ]
    assert (name, path, len(digest), box) == ("what is above", valley, 16, [0, 0, 300, 100])


def test_a_blank_before_the_file_s_name_drops(vocab, tmp_path):
    (tmp_path / "names.txt").write_text("sky\ngrass\n")
    code, out, _ = vocab("--classes", " @names.txt")
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == ["sky", "grass"]


def test_proposing_names_where_a_photo_has_no_masks(valley, capfd, tmp_path):
    """The others are looked at, and the one is told."""
    with Image.open(valley) as photo:
        photo.save(tmp_path / "seen.png")
        photo.save(tmp_path / "unseen.png")
        height, width = photo.height, photo.width
    masks = tmp_path / "masks"
    masks.mkdir()
    ids = np.ones((height, width), np.uint8)
    ids[: height // 4] = 2  # the sky
    Image.fromarray(ids).save(masks / "seen.png")
    photos = [str(tmp_path / f"{name}.png") for name in ("seen", "unseen")]
    with pytest.raises(SystemExit) as end:
        ovseg.main(["vocab", "propose", *photos, "--proposals", f"file:{masks}"])
    out, err = capfd.readouterr()
    assert end.value.code == 1
    assert out.strip()
    assert "holds no masks of" in err and "unseen.png" in err
