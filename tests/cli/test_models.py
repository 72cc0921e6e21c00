import json
import sys
import types
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import ovseg_cli
from ovseg_cli.errors import CheckpointError, UsageError


@dataclass(frozen=True)
class ModelEntry:
    name: str
    description: str
    path: Path
    size_bytes: int
    licence: str
    bundled: bool
    checksum: str


MINI = ModelEntry("mini", "small", Path("w/mini.safetensors"), 34_500_000, "MIT", True, "ab" * 32)
MINE = ModelEntry("mine", "my \x1b[1mown", Path("h/mine.safetensors"), 1, "?", False, "cd" * 32)


@pytest.fixture
def weights(monkeypatch, tmp_path):
    module = types.ModuleType("ovseg_cli.weights")

    def find(name):
        found = [entry for entry in module.entries if entry.name == name]
        if not found:
            raise UsageError(f"no model {name!r}")
        return found[0]

    def verify(entry):
        if entry is MINE:
            raise CheckpointError("h/mine.safetensors is damaged")

    def remove(name):
        entry = find(name)
        module.removed.append(entry.name)
        return entry.path

    module.verify, module.remove, module.removed = verify, remove, []
    module.entries = [MINI, MINE]
    module.available = lambda: list(module.entries)
    module.names = lambda: [entry.name for entry in module.entries]
    module.find = find
    module.home = lambda: tmp_path
    module.place_of = lambda name: tmp_path / "models" / f"{name}.safetensors"
    monkeypatch.setitem(sys.modules, "ovseg_cli.weights", module)
    monkeypatch.setattr(ovseg_cli, "weights", module, raising=False)
    return module


@pytest.fixture
def importing(monkeypatch):
    """Stands in for ovseg_cli.importing; `imported` lists what was asked of it."""
    module = types.ModuleType("ovseg_cli.importing")
    module.imported = []

    def import_checkpoint(path, name, options):
        module.imported.append((path, name, options))
        if path.name == "broken.pth":
            raise CheckpointError("tensor a.b is missing")
        return MINE

    module.import_checkpoint = import_checkpoint
    module.read_options = lambda path: {"read": path.name}
    monkeypatch.setitem(sys.modules, "ovseg_cli.importing", module)
    monkeypatch.setattr(ovseg_cli, "importing", module, raising=False)
    return module


def test_list_shows_what_is_here_and_then_what_can_be_had(program, weights):
    ended = program("models", "list")
    assert ended.code == 0
    first, second, third, *_ = ended.out.splitlines()
    assert first.split()[:4] == ["mini", "34.5", "MB", "MIT"]
    assert "\x1b" not in second
    assert third.split()[:3] == ["clip-vit-b-16", "-", "599.0"]


def test_list_as_json(program, weights):
    lines = program("models", "list", "--json").out.splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["name"] for record in records if record["here"]] == ["mini", "mine"]
    (deop,) = (record for record in records if record["name"].startswith("deop"))
    assert (deop["here"], deop["path"], deop["download"]) == (False, None, [])
    assert records[0]["checksum"] == MINI.checksum and records[0]["path"] == str(MINI.path)


def test_show(program, weights):
    ended = program("models", "show", "mini")
    assert ended.code == 0
    assert MINI.checksum in ended.out and "MIT" in ended.out


def test_show_does_not_take_a_file_for_the_published_one_by_its_name(program, weights):
    from ovseg_cli.catalogue import lookup

    published = lookup("clip-vit-b-16")
    weights.entries = [replace(MINE, name=published.name)]
    record = json.loads(program("models", "show", published.name, "--json").out)
    assert "accuracy" not in record and "architecture" not in record
    weights.entries = [replace(MINE, name=published.name, description=published.description)]
    record = json.loads(program("models", "show", published.name, "--json").out)
    assert record["accuracy"] == published.accuracy


def test_show_of_a_model_that_is_not_here(program, weights):
    ended = program("models", "show", "deop-vit-b-16-r101c")
    assert ended.code == 0
    assert "none stated" in ended.out and "ovseg models import FILE" in ended.out
    assert "A-150 22.9" in ended.out


def test_show_of_an_unknown_model(program, weights):
    ended = program("models", "show", "nonsense")
    assert (ended.code, ended.out) == (2, "")


def test_a_mirror_s_password_is_not_shown(program, weights, download, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://me:hf_SECRET@mirror.example")
    listed = program("models", "list", "--json")
    assert listed.code == 0
    for command in ("show", "download"):
        refused = program("models", command, "clip-vit-b-16")
        assert refused.code == 2
        assert "HF_ENDPOINT holds" in refused.err
        assert "hf_SECRET" not in listed.out + refused.out + refused.err
    assert download.obtained == []


def test_import(program, importing):
    ended = program("models", "import", "c.pth", "--name", "mine", "--config", "c.json")
    assert ended.code == 0
    assert importing.imported == [(Path("c.pth"), "mine", {"read": "c.json"})]
    assert "mine" in ended.out


def test_a_name_of_the_catalogue_has_its_sizes(program, importing):
    """A file that came another way than by `models download` is the same model."""
    name = "clip-vit-b-16-laion2b"
    ended = program("models", "import", "c.pth", "--name", name)
    assert ended.code == 0 and "gelu exact, as the catalogue has it" in ended.err
    program("models", "import", "c.pth", "--name", name, "--config", "c.json")
    assert [options for _, _, options in importing.imported] == [
        {"gelu": "exact"},
        {"gelu": "exact", "read": "c.json"},
    ]


def test_import_without_a_name(program):
    assert program("models", "import", "c.pth").code == 2


def test_import_of_a_broken_checkpoint(program, importing):
    ended = program("models", "import", "broken.pth", "--name", "mine")
    assert ended.code == 2
    assert "tensor a.b is missing" in ended.err


def test_verify_all_tells_which_are_damaged(program, weights):
    ended = program("models", "verify")
    assert ended.code == 1
    assert ended.out == "mini: intact\n"
    assert "mine: h/mine.safetensors is damaged" in ended.err


def test_verify_one(program, weights):
    ended = program("models", "verify", "mini")
    assert (ended.code, ended.out) == (0, "mini: intact\n")
    assert program("models", "verify", "nonsense").code == 2


def test_remove(program, weights):
    assert program("models", "remove", "mine").code == 0
    assert weights.removed == ["mine"]
    assert program("models", "remove").code == 2


def test_path(program, weights):
    ended = program("models", "path", "mini")
    assert (ended.code, ended.out) == (0, f"{MINI.path}\n")


@pytest.fixture
def download(monkeypatch):
    """Stands in for ovseg_cli.download: a file of 12 MB."""
    module = types.ModuleType("ovseg_cli.download")
    module.remote = types.SimpleNamespace(url="https://a/b", size_bytes=12_000_000, sha256="e" * 64)
    module.ask = lambda published: module.remote
    module.obtained = []

    def obtain(published, remote, progress):
        progress(5_000_000, remote.size_bytes)
        module.obtained.append(published.name)
        return replace(MINE, name=published.name)

    module.obtain = obtain
    monkeypatch.setitem(sys.modules, "ovseg_cli.download", module)
    monkeypatch.setattr(ovseg_cli, "download", module, raising=False)
    return module


def test_download_says_first_what_it_will_fetch(program, weights, download):
    ended = program("models", "download", "clip-vit-b-16")
    assert ended.code == 0
    assert download.obtained == ["clip-vit-b-16"]
    assert "clip-vit-b-16: https://a/b, 12.0 MB; licence: MIT" in ended.err
    assert "checksum" in ended.out and "Radford" in ended.out


def test_download_of_what_nobody_states_a_checksum_for_warns(program, weights, download):
    download.remote.sha256 = None
    assert "SHA-256" in program("models", "download", "clip-vit-b-16").err


def test_download_of_what_is_here(program, weights, download):
    ended = program("models", "download", "mini")
    assert ended.code == 0
    assert "here already" in ended.err
    assert download.obtained == []


def test_download_of_an_unknown_model(program, weights, download):
    ended = program("models", "download", "nonsense")
    assert (ended.code, ended.out) == (2, "")
    assert "clip-vit-b-16" in ended.err
