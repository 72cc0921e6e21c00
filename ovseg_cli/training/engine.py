"""The training loop that all stages share.

A batch is a pure function of its step, and a checkpoint holds everything that changes, so a run
that was killed goes on exactly as if it had not been.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ovseg_cli.errors import CheckpointError, OutputError, OvsegError
from ovseg_cli.model.bfloat16 import multiplies_bfloat16
from ovseg_cli.training.muon import Muon, split_matrices
from ovseg_cli.training.schedule import Schedule
from ovseg_cli.whole_files import atomic_path, left_over, output_errors, remove

log = logging.getLogger(__name__)

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"  # in the folder of a run


class Stage(Protocol):
    """What one stage learns; see the modules beside this one."""

    @property
    def model(self) -> nn.Module:
        """All of it is saved; what requires gradients learns."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For the optimiser; `lr_scale` multiplies the learning rate of a group."""

    def batch(self, step: int) -> Any:
        """The inputs of a step, a pure function of it (runs in another thread)."""

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Named losses, each a scalar; they are added up."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Scores of `model` (the averaged one where there is averaging) on the val splits."""


def weight_decay_groups(parameters: Iterable[nn.Parameter], **options: Any) -> list[dict[str, Any]]:
    """Groups for the optimiser in which only matrices decay, no biases and norms."""
    learning = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], **options},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0, **options},
    ]
    return [group for group in groups if group["params"]]


@dataclass(frozen=True)
class Progress:
    """One line of the log: after `step` steps."""

    step: int
    steps: int
    seconds: float  # since this process began
    losses: dict[str, float]  # means since the last line
    scores: dict[str, float]  # from an evaluation, NaN for none; empty at other steps


def train(
    stage: Stage,
    schedule: Schedule,
    run: Path,
    device: torch.device,
    stop_at: int | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Iterator[Progress]:
    """Train and yield the log as it goes; checkpoints and log.jsonl lie in `run`.

    Goes on from `run/checkpoint.pt` where there is one; after it, `stage.model` holds the result
    (the averaged weights). stop_at: leave after this many steps, for a run in parts. recipe: what
    the run depends on, plain values; only a run of the same is gone on with.
    Raises OvsegError when the loss is not finite, OutputError where `run` cannot be written,
    CheckpointError for a checkpoint that is damaged or of another recipe.
    """
    with output_errors(run):
        run.mkdir(parents=True, exist_ok=True)
        # Of a run that was killed while it saved: a checkpoint each.
        remove(left_over(run))
    if schedule.precision == "bf16" and not multiplies_bfloat16(device):
        log.warning("this machine does not multiply in bfloat16: fp32 instead, which is quicker")
        schedule = replace(schedule, precision="fp32")
    state = _State(stage, schedule, recipe or {})
    state.restore(run / CHECKPOINT)
    if _forget_later_lines(run / LOG, state.step) == state.step:
        state.mean_losses()  # that line has told them
    last = min(schedule.steps, stop_at or schedule.steps)
    started = time.monotonic()
    with ThreadPoolExecutor(1) as reader:
        upcoming = reader.submit(stage.batch, state.step)
        while True:
            # Before the first step, too: a run may have ended between a checkpoint and its line.
            if state.sums and (state.is_judged or _due(state.step, schedule.log_every)):
                line = state.progress(started)
                _append(run / LOG, line)
                yield line
            if state.step >= last:
                break
            batch = upcoming.result()
            if state.step + 1 < last:
                upcoming = reader.submit(stage.batch, state.step + 1)
            state.advance(batch, device)
            # An evaluation may take long or fail: what was learnt before it is safe.
            if state.is_judged or _due(state.step, schedule.checkpoint_every) or state.step == last:
                state.save(run / CHECKPOINT)
    state.finish()


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def require_recipe(run: Path, recipe: Mapping[str, Any]) -> None:
    """Raise CheckpointError, as `train` does, for a run that was begun with another recipe.

    For what takes long before a stage is made.
    """
    with _fitting(run / CHECKPOINT) as state:
        if state is not None:
            _require_same(json.loads(state["recipe"]), json.loads(_recipe_text(recipe)))


@contextmanager
def _fitting(path: Path) -> Iterator[dict[str, Any] | None]:
    """The checkpoint at `path`, if there is one; CheckpointError for what goes wrong with it."""
    try:
        exists = path.exists()
        yield torch.load(path, map_location="cpu", weights_only=True) if exists else None
    except Exception as error:  # torch's reader fails in many ways on what is no checkpoint
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path} does not fit this configuration ({reason}); "
            "train in another folder (--out), or remove it to start anew"
        ) from error


def _recipe_text(recipe: Mapping[str, Any]) -> str:
    return json.dumps(recipe, sort_keys=True)


def _require_same(earlier: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [key for key in {**earlier, **now} if earlier.get(key) != now.get(key)]
    if changed:
        raise ValueError(f"it is of another recipe: {', '.join(sorted(changed))} changed")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """`atomic_path` for what torch writes, which has its own error for a full disk."""
    try:
        with atomic_path(path) as partial:
            yield partial
    except RuntimeError as error:
        # What it says is where in its file it was; what stopped it there is the context.
        stopped = error.__context__
        reason = stopped.strerror if isinstance(stopped, OSError) else error
        raise OutputError(f"cannot write {path}: {reason}") from error


def _append(path: Path, progress: Progress) -> None:
    # JSON has no NaN.
    scores = {name: None if math.isnan(v) else v for name, v in progress.scores.items()}
    with output_errors(path), path.open("a", encoding="utf-8") as log_file:
        print(json.dumps({**vars(progress), "scores": scores}), file=log_file)


def _forget_later_lines(path: Path, step: int) -> float:
    """Drop what a killed run logged after its last checkpoint: those steps are made again.

    And lines that are none of the log's: it is a report, on which nothing else depends. Returns
    the last step that is told of, 0 for none.
    """
    if not path.exists():
        return 0
    lines = path.read_text("utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _step_of(line) <= step]
    if kept != lines:
        with _whole(path) as partial:
            partial.write_text("".join(kept), "utf-8")
    return max(map(_step_of, kept), default=0)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, LookupError):
        return math.inf


class _State:
    """Everything that changes while a stage learns."""

    def __init__(self, stage: Stage, schedule: Schedule, recipe: Mapping[str, Any]) -> None:
        self.stage = stage
        self.schedule = schedule
        self.recipe = _recipe_text(recipe)
        self.step = 0
        self.sums: dict[str, float] = {}  # of the losses since the last line of the log
        self.counts: dict[str, int] = {}  # steps that had each of them
        groups = [{"lr_scale": 1.0, **group} for group in stage.parameter_groups()]
        self.parameters = [p for group in groups for p in group["params"]]
        self.optimizers = self._optimizers(groups)
        self.averaged = copy.deepcopy(stage.model).eval() if schedule.ema else None

    def _optimizers(self, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        rate, decay = self.schedule.learning_rate, self.schedule.weight_decay
        if self.schedule.optimizer == "sgd":
            return [torch.optim.SGD(groups, rate, momentum=0.9, weight_decay=decay)]
        found: list[torch.optim.Optimizer] = []
        if self.schedule.optimizer == "muon":
            matrices, groups = split_matrices(self.stage.model, groups)
            found += [Muon(matrices, rate, decay)] if matrices else []
        return found + ([torch.optim.AdamW(groups, rate, weight_decay=decay)] if groups else [])

    def advance(self, batch: Any, device: torch.device) -> None:
        """One step."""
        rate = self.schedule.learning_rate * self.schedule.rate(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["lr_scale"]
        half = self.schedule.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            losses = self.stage.losses(batch)
        total = sum(losses.values(), torch.zeros((), device=device))
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        self._require_finite(float(total.detach()), f"the loss is not finite ({values})")
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        total.backward()
        largest = math.inf if self.schedule.clip is None else self.schedule.clip
        norm = nn.utils.clip_grad_norm_(self.parameters, largest)
        self._require_finite(float(norm), "the gradient is not finite")
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self._average()
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def _require_finite(self, value: float, complaint: str) -> None:
        if not math.isfinite(value):
            raise OvsegError(
                f"{complaint} at step {self.step}: begin again in another --out with a lower "
                "learning_rate, or with precision = 'fp32'"
            )

    @property
    def is_judged(self) -> bool:
        """Whether the model is evaluated after this step."""
        return self.step == self.schedule.steps or _due(self.step, self.schedule.evaluate_every)

    def progress(self, started: float) -> Progress:
        """The line of the log for this step; started: of the process, by the monotonic clock."""
        scores = self.evaluate() if self.is_judged else {}
        elapsed = time.monotonic() - started
        return Progress(self.step, self.schedule.steps, elapsed, self.mean_losses(), scores)

    def mean_losses(self) -> dict[str, float]:
        """The means since this was last asked."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    @torch.no_grad()
    def _average(self) -> None:
        if self.averaged is None or self.schedule.ema is None:
            return
        # In the first steps the average follows more closely, so that the start is forgotten.
        keep = min(self.schedule.ema, (1 + self.step) / (10 + self.step))
        current = self.stage.model.state_dict()
        for name, value in self.averaged.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name].to(value.dtype), 1 - keep)
            else:
                value.copy_(current[name])

    def evaluate(self) -> dict[str, float]:
        model = self.averaged or self.stage.model
        training = model.training
        model.eval()
        with torch.inference_mode():
            scores = self.stage.evaluate(model)
        model.train(training)
        return scores

    def save(self, path: Path) -> None:
        """Write the checkpoint; one whole file is always there, of weights that are finite."""
        finite = all(bool(parameter.isfinite().all()) for parameter in self.parameters)
        self._require_finite(0.0 if finite else math.nan, "the weights are not finite")
        state = {
            "step": self.step,
            "recipe": self.recipe,
            "model": self.stage.model.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "sums": self.sums,
            "counts": self.counts,
        }
        with _whole(path) as partial, partial.open("wb") as stream:
            torch.save(state, stream)  # given a path, it does not say why it cannot write there

    def restore(self, path: Path) -> None:
        with _fitting(path) as state:
            if state is None:
                return
            _require_same(json.loads(state["recipe"]), json.loads(self.recipe))
            self.stage.model.load_state_dict(state["model"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["averaged"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step = state["step"]
            self.sums, self.counts = state["sums"], state["counts"]
        log.info("going on from step %d", self.step)

    def finish(self) -> None:
        if self.averaged is not None:
            self.stage.model.load_state_dict(self.averaged.state_dict())
        self.stage.model.eval()
