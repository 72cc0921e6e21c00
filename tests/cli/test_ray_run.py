"""What `ovseg segment --engine ray` sends to actors."""

from dataclasses import replace

from ovseg_cli.cli.compute import Compute
from ovseg_cli.cli.options import read_exemplars


def test_files_are_found_from_another_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("m.safetensors", "picture.png", "mask.png"):
        (tmp_path / name).touch()
    typed = Compute(
        "./m.safetensors",
        "cpu",
        "fp32",
        proposals="sam:model",
        exemplars=read_exemplars(("sky=picture.png:mask.png", "road=picture.png")),
        runtime="m.onnx",
    )
    sent = typed.absolute()
    masked, whole = sent.exemplars
    assert sent.model == str(tmp_path / "m.safetensors")
    assert sent.proposals == f"sam:{tmp_path / 'model'}"
    assert sent.runtime == str(tmp_path / "m.onnx")
    assert (masked.picture, masked.mask) == (tmp_path / "picture.png", tmp_path / "mask.png")
    assert (whole.picture, whole.mask) == (tmp_path / "picture.png", None)
    assert replace(typed, proposals="file:masks").absolute().proposals == f"file:{tmp_path}/masks"


def test_names_stay_names(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").touch()  # the model of this name comes first
    for typed in (
        Compute("mini", "cpu", "fp32", proposals="regions"),
        Compute("elsewhere", "cpu", "fp32", runtime="onnx"),
    ):
        assert typed.absolute() == typed
