"""The training loop on a line to fit: resuming, checkpoints, averaging, errors."""

import copy
import json
import math
import os

import pytest
import torch
from torch import nn

from ovseg_cli.errors import CheckpointError, InputError, OutputError, OvsegError
from ovseg_cli.training import engine
from ovseg_cli.training.engine import train, weight_decay_groups
from ovseg_cli.training.schedule import Schedule

CPU = torch.device("cpu")


class Line:
    """Fits y = x · w; `breaks_at`: the step whose batch cannot be read."""

    def __init__(self, breaks_at=None):
        torch.manual_seed(3)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.breaks_at = breaks_at
        self.scale = 1.0

    def parameter_groups(self):
        return weight_decay_groups(self.model.parameters())

    def batch(self, step):
        if step == self.breaks_at:
            raise KeyboardInterrupt
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        return x, x.sum(1, keepdim=True)

    def losses(self, batch):
        x, y = batch
        return {"square": self.scale * (self.model(x) - y).square().mean()}

    def evaluate(self, model):
        x, y = self.batch(10_000)
        return {"error": float((model(x) - y).abs().mean())}


def schedule(**changes):
    values = {
        "steps": 12,
        "learning_rate": 0.05,
        "warmup": 3,
        "ema": 0.9,
        "checkpoint_every": 4,
        "log_every": 3,
        "evaluate_every": 5,
    }
    return Schedule(**{**values, **changes})


def log_of(run):
    """The lines of the log without the time, which no two runs share."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
@pytest.mark.parametrize("breaks_at", [2, 4, 7, 10])
def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path, breaks_at, optimizer):
    plan = schedule(optimizer=optimizer)
    whole = Line()
    list(train(whole, plan, tmp_path / "whole", CPU))
    with pytest.raises(KeyboardInterrupt):
        list(train(Line(breaks_at), plan, tmp_path / "killed", CPU))
    again = Line()
    list(train(again, plan, tmp_path / "killed", CPU))
    assert same(again.model.state_dict(), whole.model.state_dict())
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")


def test_a_run_in_parts_equals_one_in_one_go(tmp_path):
    whole = Line()
    list(train(whole, schedule(), tmp_path / "whole", CPU))
    for end in (1, 5, 6, None):
        part = Line()
        list(train(part, schedule(), tmp_path / "parts", CPU, stop_at=end))
    assert same(part.model.state_dict(), whole.model.state_dict())
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")


def test_lines_after_the_last_checkpoint_and_half_lines_are_forgotten(tmp_path):
    list(train(Line(), schedule(), tmp_path, CPU, stop_at=4))
    kept = (tmp_path / "log.jsonl").read_text("utf-8")
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 6, "steps": 12, "losses": {}, "scores": {}}\n{"step": 7, "st')
    list(train(Line(), schedule(), tmp_path, CPU, stop_at=5))
    lines = (tmp_path / "log.jsonl").read_text("utf-8")
    assert lines.startswith(kept)
    assert [line["step"] for line in log_of(tmp_path)] == [3, 5]


def test_the_log_tells_means_and_scores(tmp_path):
    stage = Line()
    seen = []
    losses = stage.losses

    def recording(batch):
        found = losses(batch)
        seen.append(float(found["square"].detach()))
        return found

    stage.losses = recording
    told = list(train(stage, schedule(), tmp_path, CPU))
    assert [line.step for line in told] == [3, 5, 6, 9, 10, 12]
    assert [bool(line.scores) for line in told] == [False, True, False, False, True, True]
    first = 0
    for line in told:
        mean = sum(seen[first : line.step]) / (line.step - first)
        assert line.losses["square"] == pytest.approx(mean)
        first = line.step
    assert [line["losses"] for line in log_of(tmp_path)] == [line.losses for line in told]


def test_it_learns(tmp_path):
    lines = list(train(Line(), schedule(steps=150, ema=None), tmp_path, CPU))
    assert lines[-1].scores["error"] < 0.3 * lines[1].scores["error"]


def test_the_average_follows_its_recurrence(tmp_path):
    stage = Line()
    seen = []  # the weights before each step
    losses = stage.losses

    def recording(batch):
        seen.append(copy.deepcopy(stage.model.state_dict()))
        return losses(batch)

    stage.losses = recording
    list(train(stage, schedule(ema=0.8), tmp_path, CPU, stop_at=8))
    final = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    average = {name: value.double() for name, value in seen[0].items()}
    for step, state in enumerate([*seen[1:], final["model"]], start=1):
        keep = min(0.8, (1 + step) / (10 + step))
        for name in average:
            average[name] = keep * average[name] + (1 - keep) * state[name].double()
    for name, value in average.items():
        torch.testing.assert_close(final["averaged"][name].double(), value, rtol=1e-5, atol=1e-6)
    assert same(stage.model.state_dict(), final["averaged"])  # the result is the average


def test_groups_learn_at_their_own_rate_and_only_matrices_decay(tmp_path):
    stage = Line()
    slow, fast = stage.model[0], stage.model[2]
    stage.parameter_groups = lambda: [
        *weight_decay_groups(slow.parameters(), lr_scale=0.0),
        *weight_decay_groups(fast.parameters()),
    ]
    before = copy.deepcopy(stage.model.state_dict())
    list(train(stage, schedule(ema=None), tmp_path, CPU))
    after = stage.model.state_dict()
    assert [torch.equal(before[name], after[name]) for name in before] == [True, True, False, False]
    fast.weight.requires_grad_(False)
    groups = weight_decay_groups(stage.model.parameters())
    assert [len(group["params"]) for group in groups] == [1, 2]
    assert groups[0]["params"][0] is slow.weight
    assert [group.get("weight_decay") for group in groups] == [None, 0.0]


@pytest.mark.parametrize(("factor", "what"), [(float("nan"), "loss"), (float("inf"), "loss")])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, factor, what):
    list(train(Line(), schedule(), tmp_path, CPU, stop_at=4))
    checkpoint = (tmp_path / "checkpoint.pt").read_bytes()
    stage = Line()
    stage.scale = factor
    with pytest.raises(OvsegError, match=f"the {what} is not finite.* at step 4.*learning_rate"):
        list(train(stage, schedule(), tmp_path, CPU))
    assert (tmp_path / "checkpoint.pt").read_bytes() == checkpoint


def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(tmp_path):
    stage = Line()
    before = copy.deepcopy(stage.model.state_dict())
    # The square root's slope at zero is infinite, its value is not.
    stage.losses = lambda batch: {"root": (stage.model[0].weight * 0).sum().sqrt()}
    with pytest.raises(OvsegError, match="the gradient is not finite at step 0"):
        list(train(stage, schedule(), tmp_path, CPU))
    assert same(stage.model.state_dict(), before)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_an_evaluation_that_fails_loses_nothing(tmp_path):
    whole = Line()
    list(train(whole, schedule(), tmp_path / "whole", CPU))
    broken = Line()
    asked = []

    def evaluate(model):
        asked.append(model)
        raise InputError("no label map")

    broken.evaluate = evaluate
    for steps in (5, 5):  # where it is evaluated, not where it is saved anyway
        with pytest.raises(InputError):
            list(train(broken, schedule(), tmp_path / "run", CPU))
        saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
        assert saved["step"] == steps
    list(train(Line(), schedule(), tmp_path / "run", CPU, stop_at=11))
    with pytest.raises(InputError):
        list(train(broken, schedule(), tmp_path / "run", CPU))
    mended = Line(breaks_at=11)  # no step is made again
    (last,) = train(mended, schedule(), tmp_path / "run", CPU)
    assert last.scores
    assert log_of(tmp_path / "run") == log_of(tmp_path / "whole")
    assert same(mended.model.state_dict(), whole.model.state_dict())


def test_the_log_is_json_where_there_is_no_score(tmp_path):
    stage = Line()
    stage.evaluate = lambda model: {"error": math.nan}
    list(train(stage, schedule(), tmp_path, CPU))
    lines = (tmp_path / "log.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[-1], parse_constant=pytest.fail)["scores"] == {"error": None}


@pytest.mark.skipif(os.name == "nt", reason="limits")
@pytest.mark.parametrize(("width", "room"), [(4, 1000), (4000, 20_000)])
def test_a_full_disk_is_called_so(tmp_path, width, room):
    """A limit to the size of files stands in for it, met as the file is closed and before that."""
    import resource

    stage = Line()
    stage.model = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*checkpoint\.pt: File too large"):
            list(train(stage, schedule(log_every=0), tmp_path, CPU, stop_at=4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("failure", [OSError(28, "No space left"), RuntimeError("write failed")])
def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path, monkeypatch, failure):
    list(train(Line(), schedule(), tmp_path, CPU, stop_at=4))
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def half(state, stream):
        stream.write(b"half")
        raise failure

    monkeypatch.setattr(engine.torch, "save", half)
    with pytest.raises(OutputError, match=r"cannot write .*checkpoint\.pt: "):
        list(train(Line(), schedule(), tmp_path, CPU))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "log.jsonl"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        list(train(Line(), schedule(), tmp_path / "file" / "run", CPU))


@pytest.mark.parametrize("damage", ["cut", "text", "other model"])
def test_a_checkpoint_that_does_not_fit(tmp_path, damage):
    list(train(Line(), schedule(), tmp_path, CPU, stop_at=4))
    path = tmp_path / "checkpoint.pt"
    stage = Line()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "text":
        path.write_text("this is no checkpoint")
    else:
        stage.model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt does not fit .*--out"):
        list(train(stage, schedule(), tmp_path, CPU))


@pytest.mark.parametrize(
    ("precision", "able", "kind"),
    [
        ("fp32", True, torch.float32),
        ("bf16", True, torch.bfloat16),
        ("bf16", False, torch.float32),  # emulated it would be slower, and less exact
    ],
)
def test_autocast_is_on_where_it_is_asked_for_and_pays(
    tmp_path, monkeypatch, caplog, precision, able, kind
):
    monkeypatch.setattr(engine, "multiplies_bfloat16", lambda device: able)
    stage = Line()
    kinds = []

    def losses(batch):
        predicted = stage.model(batch[0])
        kinds.append(predicted.dtype)
        return {"square": (predicted - batch[1]).square().mean()}

    stage.losses = losses
    list(train(stage, schedule(steps=2, precision=precision), tmp_path, CPU))
    assert set(kinds) == {kind}
    assert ("fp32 instead" in caplog.text) == (precision == "bf16" and not able)


@pytest.mark.parametrize("line", [b"garbage\n", b'{"x": 1}\n', b"[1]\n", b"\xff\xfe\n", b"null\n"])
def test_lines_that_are_none_of_the_logs_are_dropped(tmp_path, line):
    list(train(Line(), schedule(), tmp_path, CPU, stop_at=4))
    log = tmp_path / "log.jsonl"
    before = log.read_bytes()
    log.write_bytes(line + before)
    list(train(Line(), schedule(), tmp_path, CPU))
    assert log.read_bytes().startswith(before)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    list(train(Line(), schedule(), tmp_path, CPU, stop_at=4))
    checkpoint = (tmp_path / "checkpoint.pt").read_bytes()
    stage = Line()
    right = stage.losses

    def losses(batch):
        found = right(batch)
        stage.model[0].weight.data.fill_(math.inf)  # as a step far too large leaves them
        return found

    stage.losses = losses
    with pytest.raises(OvsegError, match="not finite .*another --out"):
        list(train(stage, schedule(), tmp_path, CPU))
    assert (tmp_path / "checkpoint.pt").read_bytes() == checkpoint
