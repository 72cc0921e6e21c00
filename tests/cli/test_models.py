import json
import sys
import types
from dataclasses import dataclass
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
def weights(monkeypatch):
    module = types.ModuleType("ovseg_cli.weights")
    module.imported = []

    def find(name):
        found = [entry for entry in (MINI, MINE) if entry.name == name]
        if not found:
            raise UsageError(f"no model {name!r}")
        return found[0]

    def import_checkpoint(path, name, config_path=None):
        module.imported.append((path, name, config_path))
        if path.name == "broken.pth":
            raise CheckpointError("tensor a.b is missing")
        return MINE

    def verify(entry):
        if entry is MINE:
            raise CheckpointError("h/mine.safetensors is damaged")

    def remove(name):
        entry = find(name)
        module.removed.append(entry.name)
        return entry

    module.verify, module.remove, module.removed = verify, remove, []
    module.available = lambda: [MINI, MINE]
    module.find, module.import_checkpoint = find, import_checkpoint
    monkeypatch.setitem(sys.modules, "ovseg_cli.weights", module)
    monkeypatch.setattr(ovseg_cli, "weights", module, raising=False)
    return module


def test_list(program, weights):
    ended = program("models", "list")
    assert ended.code == 0
    first, second = ended.out.splitlines()
    assert first.split()[:4] == ["mini", "34.5", "MB", "MIT"]
    assert "\x1b" not in second


def test_list_as_json(program, weights):
    lines = program("models", "list", "--json").out.splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["name"] for record in records] == ["mini", "mine"]
    assert records[0]["checksum"] == MINI.checksum and records[0]["path"] == str(MINI.path)


def test_show(program, weights):
    ended = program("models", "show", "mini")
    assert ended.code == 0
    assert MINI.checksum in ended.out and "MIT" in ended.out


def test_show_of_an_unknown_model(program, weights):
    ended = program("models", "show", "nonsense")
    assert (ended.code, ended.out) == (2, "")


def test_import(program, weights):
    ended = program("models", "import", "c.pth", "--name", "mine", "--config", "c.json")
    assert ended.code == 0
    assert weights.imported == [(Path("c.pth"), "mine", Path("c.json"))]
    assert "mine" in ended.out


def test_import_without_a_name(program, weights):
    assert program("models", "import", "c.pth").code == 2


def test_import_of_a_broken_checkpoint(program, weights):
    ended = program("models", "import", "broken.pth", "--name", "mine")
    assert ended.code == 1
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
