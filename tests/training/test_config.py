"""A stage's TOML file: what is read, and that errors name file and key."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ovseg_cli.errors import UsageError
from ovseg_cli.training.config import from_table, read_toml
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
    built = from_table(Whole, read_toml(path), str(path))
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
        from_table(Whole, values, "x.toml")


def test_overrides_change_values(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("[schedule]\nsteps = 5\n[stage]\nset = 'a'\n")
    overrides = ("schedule.steps=7", "stage.views.sets={a = 'val'}", "stage.set=my set", "seed = 3")
    assert read_toml(path, overrides) == {
        "schedule": {"steps": 7},
        "stage": {"set": "my set", "views": {"sets": {"a": "val"}}},
        "seed": 3,
    }


@pytest.mark.parametrize(
    "override",
    ["schedule.steps", "schedule.steps.more=1", "schedule.steps=2\nfoo=3", "x=" + 5000 * "["],
    ids=["no value", "no section", "two values", "nested"],
)
def test_overrides_that_make_no_sense(tmp_path, override):
    path = tmp_path / "x.toml"
    path.write_text("[schedule]\nsteps = 5\n")
    with pytest.raises(UsageError, match=re.escape(f"--set {override[:50]}")):
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


def test_none_undoes_what_a_base_gives(tmp_path):
    (tmp_path / "base.toml").write_text("rate = 1\nclip = 2\n[main]\nsize = 3\n")
    path = tmp_path / "x.toml"
    path.write_text("base = 'base.toml'\nclip = 'none'\n")
    built = from_table(Whole, read_toml(path, ("main=none",)), str(path))
    assert built == Whole(1.0, clip=None, main=None)
    with pytest.raises(UsageError, match=r"x\.toml: rate: 'none' is not a float"):
        from_table(Whole, read_toml(path, ("rate=none",)), str(path))


def test_a_base_that_is_reached_on_another_way_is_still_its_own(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "x.toml").write_text("base = '../here/x.toml'\n")
    with pytest.raises(UsageError, match=r"here/x\.toml is its own base"):
        read_toml(folder / "x.toml")


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
    recipe = from_table(Recipe, read_toml(path), path.name)
    _, kind, _ = STAGES[path.stem.split("-")[-1]]
    from_table(kind, recipe.stage, path.name, "stage")


def test_a_number_with_thousands_of_digits(tmp_path):
    (tmp_path / "a.toml").write_text(f"steps = {'9' * 5000}\n")
    with pytest.raises(UsageError, match=r"a\.toml is not valid TOML"):
        read_toml(tmp_path / "a.toml")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfsteps = 3\r\n")
    assert read_toml(tmp_path / "a.toml") == {"steps": 3}


PHASE = {"until": 1.0, "size": 64, "batch": 4, "sets": {"a": 1.0}}
VIEWS = {"sets": {"a": "train"}, "size": 64, "batch": 2}
OTHER = {"names": ["x"], "sets": ["a"]}
LEAST = {  # of each stage: what its table must have
    "text": {"wordnet": "nouns"},
    "pictures": {"image_sets": ["a"]},
    "dense": {"phases": [PHASE], "pixel_sets": {"a": "train"}, "other_names": [OTHER]},
    "prompt": {"set": "a"},
    **{name: {"views": VIEWS} for name in ("proposals", "deop", "san")},
}
NAN = float("nan")
SCALES = [[0, 1], [2, 0.5], [-1, 1], [NAN, 1.0]]


def phase(**changes):
    return {"phases": [{**PHASE, **changes}]}


def views(**changes):
    return {"views": {**VIEWS, **changes}}


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("dense", {"phases": []}, "phases: at least one"),
        ("dense", phase(sets={}), "sets names none"),
        ("dense", phase(sets={"a": -1.0}), "that of a is -1.0"),
        ("dense", phase(sets={"a": 0.0}), "no set can be drawn"),
        ("dense", phase(size=0), "size is 0, not 8 or more"),
        *(("dense", phase(scales=scales), "scales are the smallest") for scales in SCALES),
        ("dense", {"picture_scales": [0, 1]}, "picture_scales are the smallest"),
        ("dense", {"picture_masks": {"batch": 0}}, "batch is 0, not 1 or more"),
        ("dense", {"other_names": [{"names": [], "sets": ["a"]}]}, "names are 1 to 254"),
        ("dense", {"drop_share": 1.5}, "drop_share is 1.5, not from 0 to 1"),
        ("dense", {"mix_shares": {"a": -0.1}}, "mix_shares: that of a is -0.1, not from 0 to 1"),
        *(("dense", phase(until=part), f"until is {part}") for part in (NAN, -1.0, 2.0)),
        ("dense", phase(until=0.5), "phases: the last one ends at 0.5, not"),
        ("dense", {"phases": [PHASE, {**PHASE, "until": 0.9}]}, "the last one ends at 0.9, not"),
        ("dense", phase(sets={"zz": 1, "a": 1}), "phases name sets that are not listed: zz$"),
        ("dense", {"mix_shares": {"b": 0.1}}, "mix_shares: b is not among the pixel_sets"),
        ("dense", {"weight_powers": {"b": 0.1}}, "weight_powers: b is not among the pixel_sets"),
        *(("dense", {"weight_power": p}, f"weight_power is {p}") for p in (NAN, -0.4)),
        ("dense", {"weight_powers": {"a": NAN}}, "weight_powers: that of a is nan, not 0 or more"),
        *((name, {"seed": -1}, "seed is -1") for name in ("text", "pictures", "dense", "prompt")),
        *((name, {"seed": 10**23}, "seed is 1000") for name in ("pictures", "dense")),
        ("deop", views(seed=-1), "views: seed is -1"),
        *(("san", views(scales=scales), "views: scales are") for scales in SCALES),
        ("proposals", views(shares={"a": 0.0}), "no set can be drawn"),
        ("proposals", views(shares={"a": -2.0}), "that of a is -2.0"),
        ("proposals", views(batch=0), "batch is 0"),
        ("pictures", {"shares": {"a": 0.0}}, "no set can be drawn"),
        ("pictures", {"shares": {"b": 1.0}}, r"shares name b, which is none of the sets \(a\)"),
        ("pictures", {"evaluate_batch": 0}, "evaluate_batch is 0"),
        ("pictures", {"label_smoothing": 2}, "label_smoothing is 2.0, not from 0 to 1"),
        ("prompt", {"size": 0}, "size is 0"),
        ("prompt", {"batch": 0}, "batch is 0"),
        ("prompt", {"smallest": 0}, "smallest is 0"),
        ("text", {"batch": 0}, "batch is 0"),
        ("san", {"weights": {"points": -3}}, "weights: points is -3"),
        ("san", {"weights": {"mask": float("inf")}}, "weights: mask is inf"),
        ("san", {"weights": {"non_object": 0}}, "weights: non_object is 0.0, not 1e-06 or more"),
        ("san", {"supervised": 0}, "supervised is 0"),
    ],
)
def test_numbers_that_nothing_can_be_learnt_with(name, wrong, message):
    _, kind, _ = STAGES[name]
    from_table(kind, LEAST[name], "x.toml", "stage")
    with pytest.raises(UsageError, match=rf"^x\.toml: stage.*{message}"):
        from_table(kind, {**LEAST[name], **wrong}, "x.toml", "stage")


@pytest.mark.parametrize("seed", [-1, 10**23])
def test_a_recipes_seed(seed):
    table = {"schedule": {"steps": 1, "learning_rate": 1.0}, "stage": {}, "seed": seed}
    with pytest.raises(UsageError, match=rf"^x\.toml: seed is {seed}"):
        from_table(Recipe, table, "x.toml")
