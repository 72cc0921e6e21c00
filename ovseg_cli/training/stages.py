"""The training stages by name: reads a stage's TOML file, starts or resumes its run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ovseg_cli import weights
from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.model.build import MINI, build
from ovseg_cli.model.deop import DeOP
from ovseg_cli.training.config import build as build_table
from ovseg_cli.training.config import read_toml
from ovseg_cli.training.dense import DenseConfig, DenseStage
from ovseg_cli.training.engine import Progress, Schedule, Stage, train
from ovseg_cli.training.teacher import TextTargets, build_targets, sentence_encoder
from ovseg_cli.training.text import TextStage, TextStageConfig
from ovseg_cli.vocabulary import preset, presets

MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class Run:
    """Where a stage reads and writes."""

    data: Path  # folder of the data sets
    out: Path  # checkpoints, log.jsonl and the finished model
    init: Path | None = None  # a finished stage's folder or a model file to start from
    device: torch.device = torch.device("cpu")
    stop_at: int | None = None  # leave after this many steps; the next call goes on


def run_stage(
    name: str, config: Path, run: Run, overrides: tuple[str, ...] = ()
) -> Iterator[Progress]:
    """Train one stage and yield its log; at the end write the model into `run.out`.

    Raises UsageError for an unknown stage, key or value and for data that is not there.
    """
    if name not in STAGES:
        raise UsageError(f"no training stage {name!r}; there are {', '.join(STAGES)}")
    values = read_toml(config, overrides)
    unknown = sorted(set(values) - {"schedule", "stage", "seed"})
    if unknown:
        raise UsageError(f"{config}: unknown {', '.join(unknown)}; known: schedule, stage, seed")
    schedule = build_table(Schedule, values.get("schedule", {}), f"{config}: schedule")
    torch.manual_seed(values.get("seed", 0))
    model = initial_model(run.init).to(run.device)
    stage = STAGES[name](model, values.get("stage", {}), run, schedule)
    yield from train(stage, schedule, run.out, run.device, run.stop_at)
    recipe = json.dumps({"stage": name, **values}, sort_keys=True)
    description = f"trained by ovseg train {name}, recipe {weights.digest(recipe.encode())[:12]}"
    checkpoint = weights.Checkpoint(model.config, model.state_dict(), description, "see README")
    weights.save(checkpoint, run.out / MODEL_FILE, half=True)


def initial_model(init: Path | None) -> DeOP:
    """The model of a finished stage, or a fresh one of the bundled model's sizes."""
    if init is None:
        return build(MINI)
    path = init / MODEL_FILE if init.is_dir() else init
    if not path.exists():
        raise UsageError(f"--init {init}: there is no {MODEL_FILE}; finish that stage first")
    checkpoint = weights.load(path)
    model = build(checkpoint.config)
    try:
        model.load_state_dict(dict(checkpoint.state_dict))
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not hold the model it describes: {error}") from error
    return model


def _text(model: DeOP, table: dict[str, Any], run: Run, schedule: Schedule) -> Stage:
    config = build_table(TextStageConfig, table, "stage")
    stored = run.out / "targets.npz"
    if stored.exists():
        targets = TextTargets.load(stored)
    else:
        width = model.config.joint_width
        targets = build_targets(
            sentence_encoder(), Path(config.wordnet), _known_names(run.data), width
        )
        run.out.mkdir(parents=True, exist_ok=True)
        targets.save(stored)
    return TextStage(model, config, targets, run.device)


def _known_names(data: Path) -> list[str]:
    """The names of all presets and of the data sets at hand."""
    names = [p for name in presets() for entry in preset(name).classes for p in entry.phrases]
    for path in sorted(data.glob("*/classes.json")):
        for value in json.loads(path.read_text("utf-8")).values():
            names.extend([value] if isinstance(value, str) else value["names"])
    return names


def _dense(model: DeOP, table: dict[str, Any], run: Run, schedule: Schedule) -> Stage:
    config = build_table(DenseConfig, table, "stage")
    return DenseStage(model, config, run.data, schedule.steps, run.device)


STAGES: dict[str, Callable[[DeOP, dict[str, Any], Run, Schedule], Stage]] = {
    "text": _text,
    "dense": _dense,
}
