"""`ovseg export-model` and `--runtime`, as typed."""

import json

import numpy as np
import onnx
import pytest
from mock_segmenter import make_photo

from ovseg_cli.cli.main import ovseg


@pytest.fixture
def type_in(monkeypatch, tmp_path):
    """Run the program in an empty folder; returns its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "home"))

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            ovseg.main(list(arguments))
        return end.value.code

    return run


def test_names_are_not_proposed_without_photos(type_in, tmp_path, capsys):
    assert type_in("export-model", "mini", "--to", "onnx", "--classes", "auto") == 2
    assert "--classes auto is for names by photos" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))


def test_a_file_is_written_told_of_and_run(type_in, tmp_path, capsys):
    export = ("export-model", "mini", "--to", "onnx", "--size", "64")
    assert type_in(*export, "--classes", "sky, road, car|automobile") == 0
    shown = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert shown["opset"] == "17"
    assert shown["input images"] == "float32 (images, 3, height, width)"
    assert (shown["min_size"], shown["size_divisibility"]) == ("64", "8")
    onnx.checker.check_model(str(tmp_path / "mini.onnx"), full_check=True)
    with np.load(tmp_path / "mini.onnx.text.npz") as text:
        assert text["class_of"].tolist() == [0, 1, 2, 2]
        assert text["names"].tolist() == ["sky", "road", "car"]
        np.testing.assert_allclose(np.linalg.norm(text["text_features"], axis=1), 1, rtol=1e-5)

    assert type_in(*export) == 2
    assert "mini.onnx is there already" in capsys.readouterr().err

    make_photo(tmp_path / "photo.png")
    segment = ("segment", "photo.png", "--classes", "sky, road", "-o", "out")
    assert type_in(*segment, "--runtime", "mini.onnx") == 0
    said = json.loads((tmp_path / "out/run.json").read_text("utf-8"))["options"]["runtime"]
    assert said.startswith("onnx sha256:")
    # With another runtime the photo is not finished.
    assert type_in(*segment, "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["status"] == "done"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("-o", "q.onnx", "--classes", "word " * 200), "word word"),
        (("-o", ""), "-o: an empty name"),
    ],
)
def test_wrong_usage_writes_nothing(type_in, tmp_path, capsys, arguments, reason):
    assert type_in("export-model", "mini", "--to", "onnx", *arguments) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx*"))


@pytest.mark.parametrize(
    ("runtime", "reason"),
    [("tensorrt", "neither torch nor onnx"), ("photo.png", "no file of `ovseg export-model`")],
)
def test_other_runtimes_are_wrong_usage(type_in, tmp_path, capsys, runtime, reason):
    make_photo(tmp_path / "photo.png")
    assert type_in("segment", "photo.png", "--classes", "sky", "--runtime", runtime) == 2
    assert reason in capsys.readouterr().err


def test_a_name_that_does_not_say_what_the_file_is(type_in, tmp_path, capsys):
    assert type_in("export-model", "mini", "--to", "onnx", "-o", "notes.txt", "--overwrite") == 2
    assert "--output notes.txt: " in (said := capsys.readouterr().err)
    assert "ends in .onnx" in said
    assert not list(tmp_path.iterdir())
