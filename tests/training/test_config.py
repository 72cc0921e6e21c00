"""A stage's TOML file: what is read, and that errors name file and key."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ovseg_cli.errors import UsageError
from ovseg_cli.training.config import build, read_toml
from ovseg_cli.training.stages import STAGES, Recipe

WEIGHTS = Path(__file__).parents[2] / "weights"


@dataclass(frozen=True)
class Part:
    size: int
    scales: tuple[float, float] = (1.0, 2.0)

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size is {self.size}")


@dataclass(frozen=True)
class Whole:
    rate: float
    parts: tuple[Part, ...] = ()
    main: Part | None = None
    sets: dict[str, str] = field(default_factory=dict)
    flag: bool = False
    clip: float | None = 1.0


def test_tables_become_dataclasses(tmp_path):
    path = tmp_path / "whole.toml"
    path.write_text(
        "rate = 1\nflag = true\nclip = 2\nsets = {a = 'train', b = 'val'}\n"
        "[main]\nsize = 3\n[[parts]]\nsize = 4\nscales = [0.5, 3]\n[[parts]]\nsize = 5\n"
    )
    built = build(Whole, read_toml(path), str(path))
    assert built == Whole(
        rate=1.0,
        parts=(Part(4, (0.5, 3.0)), Part(5)),
        main=Part(3),
        sets={"a": "train", "b": "val"},
        flag=True,
        clip=2.0,
    )
    assert isinstance(built.rate, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 1, "rat": 2}, r"^x\.toml: unknown rat; known: clip, flag, main"),
        ({}, r"^x\.toml: rate must be given"),
        ({"rate": 10**400}, r"^x\.toml: rate: the number is too large"),
        ({"rate": "fast"}, r"^x\.toml: rate: 'fast' is not a float"),
        ({"rate": 1, "flag": 1}, r"^x\.toml: flag: 1 is not a bool"),
        ({"rate": 1, "main": 3}, r"^x\.toml: main: 3 is not a table"),
        ({"rate": 1, "main": {"size": 2.5}}, r"^x\.toml: main\.size: 2\.5 is not a int"),
        ({"rate": 1, "main": {"size": 0}}, r"^x\.toml: main: size is 0"),
        ({"rate": 1, "main": {"size": 1, "scales": [1]}}, r"main\.scales: \[1\] .* 2 entries"),
        ({"rate": 1, "parts": [{"siz": 1}]}, r"^x\.toml: parts: unknown siz"),
        ({"rate": 1, "sets": {"a": 1}}, r"^x\.toml: sets\.a: 1 is not a str"),
        (3, r"^x\.toml: 3 is not a table"),
    ],
)
def test_errors_name_the_file_and_the_key(values, message):
    with pytest.raises(UsageError, match=message):
        build(Whole, values, "x.toml")


def test_overrides_change_values(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("[schedule]\nsteps = 5\n[stage]\nset = 'a'\n")
    overrides = ("schedule.steps=7", "stage.views.sets={a = 'val'}", "stage.set=my set", "seed = 3")
    assert read_toml(path, overrides) == {
        "schedule": {"steps": 7},
        "stage": {"set": "my set", "views": {"sets": {"a": "val"}}},
        "seed": 3,
    }


@pytest.mark.parametrize("override", ["schedule.steps", "schedule.steps.more=1"])
def test_overrides_that_make_no_sense(tmp_path, override):
    path = tmp_path / "x.toml"
    path.write_text("[schedule]\nsteps = 5\n")
    with pytest.raises(UsageError, match=f"--set {override}"):
        read_toml(path, (override,))


def test_a_file_says_what_is_otherwise_than_in_its_base(tmp_path):
    (tmp_path / "base.toml").write_text(
        "seed = 1\n[schedule]\nsteps = 5\nclip = 0.1\n[stage]\nsizes = [1, 2]\nsets = {a = 'x'}\n"
    )
    path = tmp_path / "changed.toml"
    path.write_text(
        "base = 'base.toml'\n[schedule]\nsteps = 7\n[stage]\nsizes = [3]\nsets = {b = 'y'}\n"
    )
    assert read_toml(path, ("schedule.clip=2",)) == {
        "seed": 1,
        "schedule": {"steps": 7, "clip": 2},
        "stage": {"sizes": [3], "sets": {"a": "x", "b": "y"}},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base = 'other.toml'", r"other\.toml is its own base"),
        ("base = 'absent.toml'", r"absent\.toml cannot be read"),
        ("base = 3", r"other\.toml: base: 3 is not the name of a file"),
    ],
)
def test_bases_that_make_no_sense(tmp_path, text, message):
    (tmp_path / "x.toml").write_text("base = 'other.toml'\n")
    (tmp_path / "other.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_toml(tmp_path / "x.toml")


@pytest.mark.parametrize("content", [None, "steps = ", b"\xff\xfe"])
def test_files_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UsageError, match=r"x\.toml"):
        read_toml(path)


@pytest.mark.parametrize("path", sorted(WEIGHTS.glob("*.toml")), ids=lambda path: path.name)
def test_the_recipes_in_the_project_are_valid(path):
    recipe = build(Recipe, read_toml(path), path.name)
    _, kind, _ = STAGES[path.stem.split("-")[-1]]
    build(kind, recipe.stage, path.name, "stage")


def test_a_number_with_thousands_of_digits(tmp_path):
    (tmp_path / "a.toml").write_text(f"steps = {'9' * 5000}\n")
    with pytest.raises(UsageError, match=r"a\.toml is not valid TOML"):
        read_toml(tmp_path / "a.toml")
