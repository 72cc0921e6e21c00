"""Checkpoints of other programs: read as plain tensors, or refused without running anything."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.importing import import_checkpoint, read_options, read_tensors


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize(
    "writer", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))]
)
def test_a_checkpoint_cannot_run_code(tmp_path, home, writer):
    writer({"model": {"a": Malicious(tmp_path / "owned")}}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="never run"):
        import_checkpoint(tmp_path / "bad.pth", "bad")
    assert not (tmp_path / "owned").exists()
    assert not list(home.glob("models/*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "no dict of tensors"),
        ({}, "no dict of tensors"),
        ({"model": {"a": "text"}}, "'a' is not a tensor"),
    ],
)
def test_checkpoints_without_tensors(tmp_path, content, message):
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(tmp_path / "c.pth", "c")


def test_options_that_are_no_json(tmp_path):
    (tmp_path / "o.json").write_text("{")
    with pytest.raises(UsageError, match="not valid JSON"):
        read_options(tmp_path / "o.json")
    with pytest.raises(UsageError, match="cannot be read"):
        read_options(tmp_path / "absent.json")
    (tmp_path / "o.json").write_text("[]")
    with pytest.raises(UsageError, match="JSON object"):
        read_options(tmp_path / "o.json")


def test_an_archive_that_would_unpack_to_far_more_is_refused_unread(tmp_path):
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "c.pth")
    with (
        zipfile.ZipFile(tmp_path / "c.pth") as stored,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in stored.namelist():
            bomb.writestr(member, stored.read(member))
    assert (tmp_path / "bomb.pth").stat().st_size < 50_000
    with pytest.raises(CheckpointError, match="would unpack to 4 MB"):
        read_tensors(tmp_path / "bomb.pth")
    assert read_tensors(tmp_path / "c.pth")["a"].numel() == 1 << 20


@pytest.mark.parametrize("content", [b"a text", b"\x80\x04\x95 a pickle of sorts"])
def test_no_advice_to_run_the_code_of_a_file(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as plain tensors") as raised:
        read_tensors(tmp_path / "a.pth")
    assert "weights_only" not in str(raised.value) and "Re-running" not in str(raised.value)
