"""The training stages by name: reads a stage's TOML file, starts or resumes its run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ovseg_cli import weights
from ovseg_cli.data import image_set
from ovseg_cli.data.bounds import SEED, require
from ovseg_cli.data.pixel_set import PixelSet, named_set
from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.json_files import read_json
from ovseg_cli.model.deop import DeOP
from ovseg_cli.model.network import Network
from ovseg_cli.model.san import SAN
from ovseg_cli.training.config import from_table, read_toml
from ovseg_cli.training.dense import DenseStage
from ovseg_cli.training.dense_config import DenseConfig
from ovseg_cli.training.deop import DeOPStage, DeOPStageConfig
from ovseg_cli.training.engine import (
    CHECKPOINT,
    Progress,
    Schedule,
    Stage,
    require_recipe,
    train,
)
from ovseg_cli.training.kept import Kept
from ovseg_cli.training.pictures import PicturesConfig, PicturesStage
from ovseg_cli.training.prompt import PromptStage, PromptStageConfig
from ovseg_cli.training.proposals import ProposalStage, ProposalStageConfig
from ovseg_cli.training.san import SANStage, SANStageConfig
from ovseg_cli.training.start import FreshModel, finished, finished_model, fresh_model, san_around
from ovseg_cli.training.teacher import TextTargets, build_targets, sentence_encoder
from ovseg_cli.training.text import TextStage, TextStageConfig
from ovseg_cli.vocabulary_files import preset, presets
from ovseg_cli.whole_files import output_errors

log = logging.getLogger(__name__)

# Of the schedule: how often something is told or kept.
REPORTING = ("evaluate_every", "checkpoint_every", "log_every")
SCORING = ("evaluate_size", "evaluate_batch")  # of a stage: how val photos and pictures are seen


@dataclass(frozen=True)
class Recipe:
    """A stage's TOML file."""

    schedule: Schedule
    stage: dict[str, Any]
    model: FreshModel | None = None
    seed: int = 0  # of the weights that are fresh
    licence: str = "unknown"  # of the finished model, as `ovseg models list` shows it

    def __post_init__(self) -> None:
        require(self, seed=SEED)


@dataclass(frozen=True)
class Run:
    """Where a stage reads and writes."""

    data: Path  # folder of the data sets
    out: Path  # checkpoints, log.jsonl and the finished model
    init: Path | None = None  # a finished stage's folder, a model file or an imported name
    device: torch.device = torch.device("cpu")
    stop_at: int | None = None  # leave after this many steps; the next call goes on
    origin: str = ""  # see `Kept`; `run_stage` says it


def run_stage(
    name: str, config: Path, run: Run, overrides: tuple[str, ...] = ()
) -> Iterator[Progress]:
    """Train one stage and yield its log; at the end write the model into `run.out`.

    Raises UsageError for an unknown stage, key or value and for data that is not there.
    """
    if name not in STAGES:
        raise UsageError(f"no training stage {name!r}; there are {', '.join(STAGES)}")
    values = read_toml(config, overrides)
    recipe = from_table(Recipe, values, str(config))
    trained, kind, make = STAGES[name]
    stage_config: Any = from_table(kind, recipe.stage, str(config), "stage")
    if run.init is not None and recipe.model is not None:
        raise UsageError(f"--init and the table [model] of {config} exclude each other")
    decisive = {
        **_decisive(name, recipe),
        **_begun_from(recipe.model, run.init),
        **_learnt_from(stage_config, run.data),
    }
    require_recipe(run.out, decisive)
    if name != "text" and run.init is None and not _brings_text(recipe.model):
        log.warning(
            "no text encoder is given: a random one stays as it is, and what is learnt serves "
            "nobody; name a model with --init, or with text or clip in the table [model]"
        )
    torch.manual_seed(recipe.seed)
    model = finished_model(run.init) if run.init is not None else fresh_model(recipe.model)
    if trained is SAN:
        model = san_around(model)
    if not isinstance(model, trained):
        raise UsageError(
            f"the stage {name!r} trains a {trained.__name__}, and this model is of another kind"
        )
    run = replace(run, origin=_origin(decisive))
    stage = make(model.to(run.device), stage_config, run, recipe.schedule)
    _forget_earlier_model(run)
    yield from train(stage, recipe.schedule, run.out, run.device, run.stop_at, decisive)
    told = _digest({"stage": name, **values})
    description = f"trained by ovseg train {name}, recipe {told[:12]}"
    checkpoint = weights.Checkpoint(model.config, model.state_dict(), description, recipe.licence)
    weights.save(checkpoint, run.out / weights.MODEL_FILE, half=True)


def _forget_earlier_model(run: Run) -> None:
    """Remove the finished model of another run, where training begins anew: --init would take it.

    Not where that is what this run starts from. Raises OutputError.
    """
    path = run.out / weights.MODEL_FILE
    if (run.out / CHECKPOINT).exists() or not path.exists():
        return
    if run.init is None or not finished(run.init).path.samefile(path):
        log.warning("%s is of an earlier run: it is removed", path)
        with output_errors(path):
            path.unlink()


def _decisive(name: str, recipe: Recipe) -> dict[str, Any]:
    """All of a recipe that the result depends on: key -> value."""
    stage = {f"stage.{key}": recipe.stage[key] for key in recipe.stage if key not in SCORING}
    schedule = {
        f"schedule.{key}": value
        for key, value in asdict(recipe.schedule).items()
        if key not in REPORTING
    }
    return {"stage": name, "seed": recipe.seed, **stage, **schedule}


def _begun_from(fresh: FreshModel | None, init: Path | None) -> dict[str, Any]:
    """What the weights before the first step depend on, besides the seed."""
    if init is not None:
        return {"--init": finished(init).checksum}
    table = {} if fresh is None else asdict(fresh)
    return {f"model.{key}": value for key, value in table.items()}


def _brings_text(fresh: FreshModel | None) -> bool:
    return fresh is not None and bool(fresh.clip or fresh.text)


def _learnt_from(config: Any, data: Path) -> dict[str, Any]:
    """What tells the data sets that a stage learns from apart from others of these names."""
    if isinstance(config, TextStageConfig):
        return {"--data": _digest(_known_names(data))}
    photos, pictures = _sets(config)
    found = {name: _contents(named_set(data, name, split)) for name, split in photos.items()}
    found |= {name: image_set.contents(data / name, split) for name, split in pictures.items()}
    return {f"--data {name}": _digest(contents) for name, contents in found.items()}


def _contents(data: PixelSet) -> list[Any]:
    """What tells a labelled set apart, wherever it lies: its label files' bytes, too.

    Labels are what somebody edits between a kill and going on. Raises InputError.
    """
    files = [data.files(data.root, key)[1] for key in data.keys]
    try:
        return [*data.contents, *map(weights.file_digest, files)]
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error


def _sets(config: Any) -> tuple[dict[str, str], dict[str, str]]:
    """The labelled sets and those of pictures: folder -> split to train on."""
    match config:
        case DenseConfig():
            return config.pixel_sets, config.image_sets
        case PicturesConfig():
            return config.cut_outs, dict.fromkeys(config.image_sets, "train")
        case PromptStageConfig():
            return {config.set: config.split}, {}
    return config.views.sets, {}


def _origin(decisive: dict[str, Any]) -> str:
    """Of what a stage keeps: it depends on all that is decisive but how long the stage learns."""
    return _digest({k: v for k, v in decisive.items() if not k.startswith("schedule.")})


def _digest(values: Any) -> str:
    return weights.digest(json.dumps(values, sort_keys=True).encode())


def _text(model: Network, config: TextStageConfig, run: Run, schedule: Schedule) -> Stage:
    stored = Kept(run.out / "targets.npz", run.origin)
    targets = TextTargets.load(stored)
    if targets is None:
        width = model.config.joint_width
        targets = build_targets(
            sentence_encoder(), Path(config.wordnet), _known_names(run.data), width
        )
        targets.save(stored)
    return TextStage(model, config, targets, run.device)


def _known_names(data: Path) -> list[str]:
    """The names of all presets and of the data sets at hand."""
    names = [p for name in presets() for entry in preset(name).classes for p in entry.phrases]
    for path in sorted(data.glob("*/classes.json")):
        try:
            table = read_json(path)
            if isinstance(table, dict):  # a folder of results has a list
                for value in table.values():
                    names.extend([value] if isinstance(value, str) else image_set.names_of(value))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UsageError(f"{path} is no table of a data set's classes: {error!r}") from error
    return names


def _pictures(model: Network, config: PicturesConfig, run: Run, schedule: Schedule) -> Stage:
    return PicturesStage(model, config, run.data, schedule.steps, run.device)


def _dense(model: Network, config: DenseConfig, run: Run, schedule: Schedule) -> Stage:
    return DenseStage(model, config, run.data, schedule.steps, run.device, run.out, run.origin)


def _prompt(model: DeOP, config: PromptStageConfig, run: Run, schedule: Schedule) -> Stage:
    return PromptStage(model, config, run.data, run.device)


def _proposals(model: DeOP, config: ProposalStageConfig, run: Run, schedule: Schedule) -> Stage:
    return ProposalStage(model, config, run.data, run.device)


def _deop(model: DeOP, config: DeOPStageConfig, run: Run, schedule: Schedule) -> Stage:
    return DeOPStage(model, config, run.data, run.device)


def _san(model: SAN, config: SANStageConfig, run: Run, schedule: Schedule) -> Stage:
    return SANStage(model, config, run.data, run.device)


# Each stage: which models it trains, its table `[stage]`, and how it is made. The first three are
# those of models that no pretrained part is in.
STAGES: dict[str, tuple[type[Network], type, Callable[[Any, Any, Run, Schedule], Stage]]] = {
    "text": (Network, TextStageConfig, _text),
    "pictures": (Network, PicturesConfig, _pictures),
    "dense": (Network, DenseConfig, _dense),
    "prompt": (DeOP, PromptStageConfig, _prompt),
    "proposals": (DeOP, ProposalStageConfig, _proposals),
    "deop": (DeOP, DeOPStageConfig, _deop),
    "san": (SAN, SANStageConfig, _san),
}
