"""`ovseg train`: what the command adds to the stages."""

import pytest
import torch

from ovseg_cli.run_folder.run_lock import WHOLE, holding
from ovseg_cli.training import stages
from ovseg_cli.training.engine import Progress

REMEDY = "not enough memory on cpu: lower the batch or the size of the views in recipe.toml"


@pytest.fixture
def train(program, fake):
    """Runs `ovseg train STAGE` into run/."""
    fake.choose_device = torch.device
    return lambda stage="dense": program(
        *("train", stage, "--config", "recipe.toml", "--device", "cpu", "-o", "run")
    )


def test_two_runs_never_write_into_one_folder(train, tmp_path):
    half = tmp_path / "run" / f".{16 * '0'}.tmp"  # of a checkpoint that the first one writes
    with holding(tmp_path / "run", WHOLE):
        half.touch()
        ended = train()
        assert half.exists()
    assert ended.code == 2
    assert "another run writes to run" in ended.err


def test_a_run_leaves_what_it_wrote_and_no_lock(train, tmp_path, monkeypatch):
    def run_stage(name, config, run, overrides):
        with pytest.raises(Exception, match="another run"), holding(run.out, WHOLE):
            pass
        yield Progress(2, 2, 0.5, {"pixels": 0.25}, {"discs": float("nan")})
        (run.out / "model.safetensors").touch()

    monkeypatch.setattr(stages, "run_stage", run_stage)
    ended = train()
    assert ended.code == 0
    assert "step 2/2  0 s  pixels 0.2500  discs nan" in ended.err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model.safetensors"]


def test_without_a_folder_it_is_called_as_the_recipe(program, fake, tmp_path, monkeypatch):
    def run_stage(name, config, run, overrides):
        (run.out / "model.safetensors").touch()
        return iter(())

    fake.choose_device = torch.device
    monkeypatch.setattr(stages, "run_stage", run_stage)
    ended = program("train", "dense", "--config", "recipes/small-dense.toml", "--device", "cpu")
    assert ended.code == 0
    assert (tmp_path / "runs/small-dense/model.safetensors").exists()


def test_a_folder_that_is_a_file(train, tmp_path):
    (tmp_path / "run").write_text("")
    ended = train()
    assert ended.code == 2
    assert "cannot write to run: " in ended.err


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), REMEDY),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), REMEDY),
        (MemoryError(), REMEDY),
        (RuntimeError("shapes cannot be multiplied"), "this is a bug in ovseg"),
    ],
)
def test_too_little_memory_is_no_bug(train, monkeypatch, failure, message):
    def run_stage(*arguments):
        yield Progress(2, 9, 0.5, {}, {})
        raise failure

    monkeypatch.setattr(stages, "run_stage", run_stage)
    ended = train()
    assert ended.code == 1
    assert message in ended.err
    assert ("bug in ovseg" in ended.err) == ("bug in ovseg" in message)


@pytest.mark.parametrize(
    ("stage", "value"), [("dense", "evaluate_size"), ("pictures", "evaluate_batch")]
)
def test_too_little_memory_in_scoring_costs_no_training(train, monkeypatch, stage, value):
    """A checkpoint is written before, and what is scored how is no part of the recipe."""

    def run_stage(*arguments):
        raise MemoryError

    monkeypatch.setattr(stages, "run_stage", run_stage)
    ended = train(stage)
    assert ended.code == 1
    assert f"the same command with a smaller --set stage.{value}=N goes on" in ended.err
    assert "--set" not in train("text").err  # which has no such value
