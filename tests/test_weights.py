"""Model files: what is written is read, and what is no model is refused without running it."""

import json
import os
import stat
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ovseg_cli import weights
from ovseg_cli.errors import CheckpointError, OutputError, UsageError
from ovseg_cli.model.config import DeOPConfig, PyramidVisualConfig

CONFIG = DeOPConfig(joint_width=24, visual=PyramidVisualConfig(channels=16))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def checkpoint(**tensors: torch.Tensor) -> weights.Checkpoint:
    return weights.Checkpoint(CONFIG, tensors, "a test model", "MIT")


def test_what_is_saved_is_loaded(tmp_path):
    values = torch.randn(3, 5)
    weights.save(checkpoint(a=values, b=torch.tensor(7)), tmp_path / "deep" / "m.safetensors")
    loaded = weights.load(tmp_path / "deep" / "m.safetensors")
    assert loaded.config == CONFIG
    assert (loaded.description, loaded.licence) == ("a test model", "MIT")
    torch.testing.assert_close(loaded.state_dict["a"], values, atol=0, rtol=0)
    assert loaded.state_dict["b"] == 7


def test_half_precision_on_disk_is_float32_in_memory(tmp_path):
    values = torch.randn(100)
    weights.save(checkpoint(a=values), tmp_path / "m.safetensors", half=True)
    loaded = weights.load(tmp_path / "m.safetensors").state_dict["a"]
    assert loaded.dtype == torch.float32
    torch.testing.assert_close(loaded, values.half().float(), atol=0, rtol=0)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_any_precision_on_disk_is_float32_in_memory(tmp_path, kind):
    values = torch.randn(100, dtype=kind)
    weights.save(checkpoint(a=values), tmp_path / "m.safetensors")
    loaded = weights.load(tmp_path / "m.safetensors").state_dict["a"]
    assert torch.equal(loaded, values.float()) and loaded.dtype == torch.float32


def test_tensors_that_share_memory_are_written_each_for_itself(tmp_path):
    table = torch.randn(6, 4)
    tensors = {"a": table, "again": table, "row": table[1:2], "rows": table[1:3].t()}
    tensors |= {"empty": table[:0], "other": torch.zeros(0)}
    weights.save(checkpoint(**tensors), tmp_path / "m.safetensors")
    loaded = weights.load(tmp_path / "m.safetensors").state_dict
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], value) for name, value in tensors.items())
    assert (tmp_path / "m.safetensors").stat().st_size < 4000
    weights.verify(weights.find(tmp_path / "m.safetensors"))


def test_half_precision_does_not_touch_integers(tmp_path):
    counts = torch.tensor([2049, 2**40])  # float16 has neither
    weights.save(checkpoint(a=counts), tmp_path / "m.safetensors", half=True)
    assert torch.equal(weights.load(tmp_path / "m.safetensors").state_dict["a"], counts)


def test_a_model_file_can_be_read_by_all_whom_the_umask_allows(tmp_path):
    old = os.umask(0o022)
    try:
        weights.save(checkpoint(a=torch.zeros(1)), tmp_path / "m.safetensors")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "m.safetensors").stat().st_mode) == 0o644


def test_values_beyond_half_precision_stay_in_float32(tmp_path):
    huge = torch.tensor([1e6, 0.1])
    weights.save(checkpoint(huge=huge, b=huge / 1e6), tmp_path / "m.safetensors", half=True)
    loaded = weights.load(tmp_path / "m.safetensors").state_dict
    assert torch.equal(loaded["huge"], huge)
    assert torch.equal(loaded["b"], (huge / 1e6).half().float())
    weights.verify(weights.find(tmp_path / "m.safetensors"))


@pytest.mark.parametrize("half", [True, False])
def test_values_that_are_not_finite_are_not_written(tmp_path, half):
    with pytest.raises(CheckpointError, match="wrong"):
        wrong = torch.tensor([torch.inf])
        weights.save(checkpoint(wrong=wrong), tmp_path / "m.safetensors", half=half)
    assert list(tmp_path.glob("**/*m.safetensors*")) == []


def saved(path: Path) -> weights.ModelEntry:
    values = {"a": torch.randn(3, 5), "b": torch.tensor(7), "c": torch.zeros(0, 2)}
    weights.save(checkpoint(**values), path)
    return weights.find(path)


def test_a_file_as_it_was_saved_is_intact(tmp_path):
    weights.verify(saved(tmp_path / "m.safetensors"))


def test_one_changed_bit_is_found(tmp_path):
    entry = saved(tmp_path / "m.safetensors")
    content = bytearray(entry.path.read_bytes())
    content[-3] ^= 1
    entry.path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{entry.path} is damaged"):
        weights.verify(entry)


def test_a_file_cut_short_is_found(tmp_path):
    entry = saved(tmp_path / "m.safetensors")
    entry.path.write_bytes(entry.path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="damaged"):
        weights.verify(entry)


def header_of(path: Path) -> tuple[dict, bytes]:
    """A safetensors file's header, and what follows it."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def put(path: Path, header: dict, rest: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)


@pytest.mark.parametrize(
    ("part", "key", "value"), [("input", "min_size", 96), ("text", "gelu", "exact")]
)
def test_a_changed_configuration_is_found(tmp_path, part, key, value):
    """It would load, and label otherwise."""
    entry = saved(tmp_path / "m.safetensors")
    header, rest = header_of(entry.path)
    about = json.loads(header["__metadata__"]["ovseg"])
    put(entry.path, header, rest)
    weights.verify(entry)  # written anew, but the same
    about["config"][part][key] = value
    header["__metadata__"]["ovseg"] = json.dumps(about)
    put(entry.path, header, rest)
    assert weights.load(entry.path).config != CONFIG
    with pytest.raises(CheckpointError, match=f"{entry.path} is damaged"):
        weights.verify(entry)


def test_files_of_versions_that_noted_no_checksum_of_the_configuration(tmp_path):
    entry = saved(tmp_path / "m.safetensors")
    header, rest = header_of(entry.path)
    about = json.loads(header["__metadata__"]["ovseg"])
    del about["config_sha256"]
    header["__metadata__"]["ovseg"] = json.dumps(about)
    put(entry.path, header, rest)
    weights.verify(entry)
    put(entry.path, header, rest[:-1] + bytes([rest[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="damaged"):
        weights.verify(entry)


@pytest.mark.parametrize(
    "change", [lambda b: b[: len(b) // 2], lambda b: b[:-1], lambda b: b + b"x"]
)
def test_a_file_of_another_length_than_its_header_says_is_not_shown_as_a_model(
    home, caplog, change
):
    entry = saved(home / "models" / "cut.safetensors")
    header, rest = header_of(entry.path)
    put(entry.path, header, change(rest))
    with pytest.raises(CheckpointError, match=r"cut\.safetensors is damaged"):
        weights.find("cut")
    assert "cut" not in {found.name for found in weights.available()}
    assert "ovseg models remove cut" in caplog.text


def test_headers_of_which_no_length_can_be_read(tmp_path):
    entry = saved(tmp_path / "m.safetensors")
    header, rest = header_of(entry.path)
    for offsets in (None, [], [0], {}, "ab", ["a", "b"], [0, None], [0, 1e300]):
        put(entry.path, header | {"a": {"data_offsets": offsets}}, rest)
        with pytest.raises(CheckpointError, match="not a model of ovseg|damaged"):
            weights.find(entry.path)


def test_a_file_without_a_checksum_is_not_called_intact(tmp_path):
    about = json.dumps({"config": CONFIG.to_dict()})
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", {"ovseg": about})
    with pytest.raises(CheckpointError, match="no checksum"):
        weights.verify(weights.find(tmp_path / "m.safetensors"))


def test_the_bundled_model_is_intact():
    weights.verify(weights.find("mini"))


def test_imported_models_alone_can_be_removed(home, tmp_path):
    kept, gone = saved(tmp_path / "kept.safetensors"), saved(home / "models" / "gone.safetensors")
    assert weights.remove("gone") == gone.path
    assert not gone.path.exists()
    for name in ("mini", str(kept.path)):
        with pytest.raises(UsageError, match="left alone"):
            weights.remove(name)
    assert kept.path.exists()
    with pytest.raises(UsageError, match="gone"):
        weights.remove("gone")


def test_find_by_name_and_by_path(home, tmp_path):
    weights.save(checkpoint(a=torch.zeros(1)), home / "models" / "mine.safetensors")
    by_name = weights.find("mine")
    assert (by_name.name, by_name.bundled, by_name.licence) == ("mine", False, "MIT")
    assert len(by_name.checksum) == 64
    assert weights.find(home / "models" / "mine.safetensors") == by_name
    assert "mine" in [entry.name for entry in weights.available()]
    with pytest.raises(UsageError, match="mine"):
        weights.find("yours")


def test_the_folder_of_a_training_is_told_from_its_model(tmp_path):
    entry = saved(tmp_path / "run" / "model.safetensors")
    with pytest.raises(UsageError, match=f"is a folder: name the file in it, {entry.path}"):
        weights.find(tmp_path / "run")


@pytest.mark.parametrize("name", ["x" * 300, "nul\0"])
def test_a_name_that_no_file_can_have(name):
    with pytest.raises(UsageError, match="no model '(xxx|nul)"):
        weights.find(name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"PK\x03\x04" + b"\0" * 100,
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 20) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 4) + b"[[[[",
        struct.pack("<Q", 12) + b'{"__meta":1}',
    ],
)
def test_no_model_file(tmp_path, content):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a model of ovseg"):
        weights.load(path)


def test_a_header_that_lies_about_its_tensors(tmp_path):
    path = tmp_path / "m.safetensors"
    weights.save(checkpoint(a=torch.zeros(1000)), path)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(CheckpointError, match="damaged"):
        weights.load(path)


def test_an_unknown_configuration(tmp_path):
    about = json.dumps({"config": {"flux": 1}})
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", {"ovseg": about})
    with pytest.raises(CheckpointError, match="flux"):
        weights.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("name", ["../up", "", ".hidden", "a/b", "a b", "mini", "open_clip:a/b/c"])
def test_names_that_are_no_file_names(name):
    with pytest.raises(UsageError, match="cannot be named"):
        weights.place_of(name)


def test_a_name_that_is_too_long_for_a_file_is_refused_before_anything_is_made():
    assert weights.place_of("a" * 200)
    for name in ("a" * 201, f"open_clip:{'a' * 100}/{'b' * 100}"):
        with pytest.raises(UsageError, match="cannot be named .*200 at most") as raised:
            weights.place_of(name)
        assert len(str(raised.value)) < 250


def test_names_of_open_clip_become_file_names_and_back(home):
    name = "open_clip:ViT-B-32/laion2b_s34b_b79k"
    place = weights.place_of(name)
    assert place.parent == home / "models"
    weights.save(checkpoint(a=torch.zeros(1)), place)
    assert weights.find(name).name == name
    assert name in [entry.name for entry in weights.available()]
    with pytest.raises(UsageError, match=f"neither a file nor one of .*{name}"):
        weights.find("nonsense")


def test_a_model_that_can_be_had_is_named_with_the_command_that_fetches_it():
    with pytest.raises(UsageError, match="ovseg models download clip-vit-b-16"):
        weights.find("clip-vit-b-16")
    with pytest.raises(UsageError, match="programs should not scrape.*ovseg models import FILE"):
        weights.find("deop-vit-b-16-r101c")
    with pytest.raises(UsageError, match="ovseg models download open_clip:A/b"):
        weights.find("open_clip:A/b")


def test_a_model_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write .*m.safetensors: "):
        weights.save(checkpoint(a=torch.zeros(1)), tmp_path / "file" / "m.safetensors")


def test_one_damaged_file_is_in_the_way_of_no_other_model(home, caplog):
    good = saved(home / "models" / "good.safetensors")
    junk = home / "models" / "junk.safetensors"
    junk.write_text("garbage")
    (home / "models" / "dangling.safetensors").symlink_to("nowhere")
    (home / "models" / "folder.safetensors").mkdir()
    found = {entry.name: entry.path for entry in weights.available()}
    assert found["good"] == good.path and "mini" in found
    assert not {"junk", "dangling", "folder"} & set(found)
    assert "junk.safetensors" in caplog.text and "ovseg models remove junk" in caplog.text
    assert "junk" in weights.names()
    assert weights.remove("junk") == junk
    assert not junk.exists()
