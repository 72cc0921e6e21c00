"""Loading a model: what cannot be had is said, and what is slow is not waited for."""

import subprocess
import sys

import pytest
import torch
from small_models import PYRAMID

from ovseg_cli import weights
from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.loading import load_model
from ovseg_cli.model.build import build


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A model file of toy size."""
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "home"))
    path = tmp_path / "pyramid.safetensors"
    weights.save(weights.Checkpoint(PYRAMID, build(PYRAMID).state_dict()), path)
    return path


def test_errors_name_the_culprit(file):
    with pytest.raises(UsageError, match="models list"):
        load_model("no-such-model")
    with pytest.raises(UsageError, match="tpu"):
        load_model(file, device="tpu")
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES=1"):
        load_model(file, device="cuda:1")
    for device in (torch.device("cpu"), torch.device("cpu", 0), "cpu:0"):
        assert load_model(file, device=device).device == torch.device("cpu")
    with pytest.raises(UsageError, match="triangles"):
        load_model(file, proposals="triangles")
    for size in (0, 31, 4097):
        with pytest.raises(UsageError, match=f"32 to 4096 pixels, not at {size}"):
            load_model(file, size=size)
    with pytest.raises(UsageError, match="fp8"):
        load_model(file, precision="fp8")


def test_there_is_no_other_quality(file):
    with pytest.raises(UsageError, match="no quality 'best'; there are fast, high"):
        load_model(file, "cpu", quality="best")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "none"}, "severed, mask, csa, self, neighbour"),
        ({"last_block": "half"}, "full, reduced"),
        ({"last_block": "reduced"}, "not severed"),
    ],
)
def test_choices_of_the_last_layer_that_are_none(file, options, message):
    with pytest.raises(UsageError, match=message):
        load_model(file, device="cpu", **options)


def test_a_model_whose_tensors_do_not_fit_its_description(file):
    checkpoint = weights.load(file)
    state = dict(checkpoint.state_dict)
    del state["visual.norm.weight"]
    weights.save(weights.Checkpoint(PYRAMID, state), file)
    with pytest.raises(CheckpointError, match=r"visual\.norm\.weight"):
        load_model(file)


@pytest.mark.parametrize("able", [False, True])
def test_bf16_that_is_slower_is_warned_of(file, monkeypatch, caplog, able):
    monkeypatch.setattr("ovseg_cli.loading.multiplies_bfloat16", lambda device: able)
    load_model(file, device="cpu", precision="bf16")
    assert ("--precision fp32 is quicker" in caplog.text) != able


def test_loading_does_not_wait_for_torchs_compiler():
    """Importing it takes as long as all the rest of loading a small model."""
    script = (
        "import sys, ovseg_cli; ovseg_cli.load_model('mini'); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
