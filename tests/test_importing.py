"""Checkpoints of other programs: read as plain tensors, or refused without running anything."""

import argparse
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_models import openai_style_state

from ovseg_cli import weights
from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.importing import import_checkpoint, read_options, read_tensors

HEADS = {"visual_heads": 2, "text_heads": 2}  # of the small models


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


@pytest.mark.parametrize(
    "page", [b"<html>Sign in</html>", b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html lang=en>"]
)
def test_a_web_page_is_told_from_a_checkpoint(tmp_path, page):
    (tmp_path / "a.pth").write_bytes(page)
    with pytest.raises(CheckpointError, match="is a web page.*sign in"):
        read_tensors(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n", "git lfs pull"),
        (b"\x1f\x8b" + bytes(100), "packed: unpack it first"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"GGUF" + bytes(100), "a GGUF file, which is not read"),
        (b'{"weight_map": {}}', "the weights are another file"),
        (b"", "is empty: copy or download it again"),
    ],
)
def test_files_that_are_no_checkpoint_are_called_what_they_are(tmp_path, content, message):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_tensors(tmp_path / "a.pt")


def test_programs_and_foreign_archives(tmp_path, recwarn):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt is a TorchScript archive.*state_dict"):
        read_tensors(tmp_path / "a.pt")
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    with pytest.raises(CheckpointError, match=r"a\.npz is an archive of other files"):
        read_tensors(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["image_encoder.pos_embed", "mask_decoder.a"], "a Segment-Anything model.*sam:FOLDER"),
        (["vision_encoder.pos_embed", "mask_decoder.a"], "a Segment-Anything model.*sam:FOLDER"),
        (["visual.conv1.weight", "text.ln_final.weight"], "text tower of its own"),
        (["visual.layer1.0.conv1.weight", "token_embedding.weight"], "a CLIP with a ResNet"),
        (["visual.trunk.norm.weight", "text.ln_final.weight"], "a visual tower of timm's"),
        (["vision_model.a", "text_model.b"], "a CLIP as transformers stores it"),
        (["layer4.weight", "fc" + "x" * 200], r"names: fcx{78}…, layer4\.weight\. "),
    ],
)
def test_models_that_are_not_read_are_called_what_they_seem_to_be(tmp_path, names, message):
    torch.save({name: torch.zeros(2) for name in names}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=rf"a\.pt: .*{message}.*What is read: .*DeOP.*CLIPs"):
        import_checkpoint(tmp_path / "a.pt", "a")


def test_a_name_that_no_file_can_have():
    with pytest.raises(UsageError, match="no checkpoint at xxx"):
        read_tensors(Path("x" * 300))


def pickled(protocol):
    """Writes as detectron2 writes its `.pkl`."""
    return lambda value, path: path.write_bytes(pickle.dumps(value, protocol=protocol))


@pytest.mark.parametrize("writer", [torch.save, *map(pickled, range(6))])
def test_numpy_arrays_are_tensors(tmp_path, writer):
    arrays = {
        "single": np.arange(6, dtype="f4").reshape(2, 3),
        "columns first": np.asfortranarray(np.arange(6, dtype="f8").reshape(2, 3)),
        "big-endian": np.arange(3, dtype=">f4"),
        "half": np.arange(3, dtype="f2"),
        "whole": np.arange(3),
        "truth": np.array([True, False]),
        "none": np.zeros((0, 3), dtype="f4"),
        "one": np.array(2.5),
        "number": np.float32(1.5),
    }
    beside = {"iteration": np.int64(5), "best": np.float64(0.5), "__author__": "A", "raw": b"\xff"}
    writer({"model": arrays, **beside}, tmp_path / "c.pkl")
    found = read_tensors(tmp_path / "c.pkl")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        native = np.asarray(array, dtype=np.asarray(array).dtype.newbyteorder("="))
        assert torch.equal(found[name], torch.tensor(native)), name
        assert found[name].dtype == torch.tensor(native).dtype


@pytest.mark.parametrize("writer", [torch.save, pickled(2), pickled(5)])
@pytest.mark.parametrize("array", [np.array(["text"]), np.array([(1, 2.0)], dtype="i4,f8")])
def test_arrays_of_other_things_are_named(tmp_path, writer, array):
    writer({"model": {"odd": array}}, tmp_path / "c.pkl")
    with pytest.raises(CheckpointError, match="'odd' is not a plain array: .*no plain numbers"):
        read_tensors(tmp_path / "c.pkl")


@pytest.mark.parametrize("writer", [torch.save, pickled(2), pickled(5)])
def test_what_is_not_allowed_is_named(tmp_path, writer):
    writer({"model": {"a": np.zeros(3)}, "args": argparse.Namespace(lr=1)}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"asks for 'argparse\.Namespace', .*not allowed"):
        read_tensors(tmp_path / "c.pth")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": t for name, t in state.items()}},
        lambda state: {f"model.{name}": t for name, t in state.items()},
        lambda state: {f"module.model.{name}": t for name, t in state.items()},
    ],
)
def test_wrappings_are_taken_off(tmp_path, wrap):
    state = {"a.weight": torch.randn(2, 3), "b": torch.randn(1)}
    torch.save(wrap(state), tmp_path / "c.pth")
    found = read_tensors(tmp_path / "c.pth")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_a_prefix_of_some_names_stays(tmp_path):
    torch.save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "c.pth")
    assert read_tensors(tmp_path / "c.pth").keys() == {"module.a", "b"}


@pytest.mark.parametrize("name", ["c.pth", "c.safetensors", "c.SAFETENSORS", "c"])
@pytest.mark.parametrize("writer", [save_file, torch.save, pickled(2)])
def test_the_ending_of_a_name_does_not_matter(tmp_path, name, writer):
    values = torch.randn(3)
    stored = values if writer in (save_file, torch.save) else values.numpy()
    writer({"a": stored}, tmp_path / name)
    assert torch.equal(read_tensors(tmp_path / name)["a"], values)


def test_a_changed_byte_is_found_and_its_member_named(tmp_path):
    path = tmp_path / "c.pth"
    torch.save({"a": torch.zeros(1000), "b": torch.ones(1000)}, path)
    with zipfile.ZipFile(path) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith("/data/1"))
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(1000).numpy().tobytes()) + 2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"is damaged at '{member}': copy or download it"):
        read_tensors(path)


def test_archives_without_check_sums_are_read(tmp_path):
    values = torch.randn(1000)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": values}, tmp_path / "c.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_tensors(tmp_path / "c.pth")["a"], values)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_numbers_of_any_precision_give_a_model_of_float32(tmp_path, kind):
    state = {name: value.to(kind) for name, value in openai_style_state().items()}
    torch.save(state, tmp_path / "c.pth")
    loaded = weights.load(import_checkpoint(tmp_path / "c.pth", "c", HEADS).path)
    assert {value.dtype for value in loaded.state_dict.values()} == {torch.float32}


def test_that_another_model_of_the_name_is_replaced_is_said(tmp_path, caplog):
    state = openai_style_state()
    torch.save(state, tmp_path / "first.pth")
    torch.save({name: value + 1 for name, value in state.items()}, tmp_path / "other.pth")
    first = import_checkpoint(tmp_path / "first.pth", "c", HEADS)
    assert import_checkpoint(tmp_path / "first.pth", "c", HEADS) == first
    assert not caplog.records
    for file, options in (("other.pth", HEADS), ("first.pth", HEADS | {"gelu": "exact"})):
        import_checkpoint(tmp_path / file, "c", options)
        assert "another model named c was there" in caplog.messages.pop()
        caplog.clear()
    assert weights.find("c") != first


@pytest.mark.parametrize("keep", [0, -4])
def test_a_damaged_model_can_be_imported_again(tmp_path, keep):
    torch.save(openai_style_state(), tmp_path / "c.pth")
    entry = import_checkpoint(tmp_path / "c.pth", "c", HEADS)
    entry.path.write_bytes(entry.path.read_bytes()[:keep])
    import_checkpoint(tmp_path / "c.pth", "c", HEADS)
    weights.verify(entry)
