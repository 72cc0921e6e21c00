"""`ovseg train` without its command line: TOML files in, models out."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg_cli import weights
from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.errors import CheckpointError, InputError, UsageError
from ovseg_cli.loading import load_model
from ovseg_cli.model.build import build
from ovseg_cli.model.san import SANConfig
from ovseg_cli.training import picture_masks, stages
from ovseg_cli.training.stages import STAGES, Run, run_stage

SCHEDULE = """
[schedule]
steps = 6
learning_rate = 1e-3
warmup = 2
ema = 0.9
checkpoint_every = 2
log_every = 2
precision = "bf16"
"""
PROPOSALS = (
    SCHEDULE
    + """
[stage]
evaluate_size = 64
views = { size = 64, batch = 2, sets = { discs = "train", fields = "train" } }
"""
)
DENSE = (
    SCHEDULE
    + """
[stage]
evaluate_size = 64
pixel_sets = { fields = "train" }
image_sets = { moods = "train" }
picture_masks = { sizes = [32] }
[[stage.phases]]
until = 1.0
size = 32
batch = 4
sets = { moods = 1.0 }
"""
)
PICTURES = SCHEDULE + '[stage]\nimage_sets = ["moods"]\nbatch = 4\nsizes = [32]\n'
OTHERWISE = ("stage.learn_non_object=false",)  # another recipe than PROPOSALS
PROMPT = SCHEDULE + '[stage]\nset = "discs"\nsize = 32\nsmallest = 50\n'


@pytest.fixture
def start(tiny, tmp_path):
    """A model file to start from."""
    torch.manual_seed(4)
    model = build(tiny)
    path = tmp_path / "start.safetensors"
    weights.save(weights.Checkpoint(model.config, model.state_dict()), path)
    return path


def recipe(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def log_of(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def test_parts_of_a_run_end_in_the_same_bytes_as_the_whole(data, start, tmp_path):
    config = recipe(tmp_path, PROPOSALS)
    whole = list(run_stage("proposals", config, Run(data, tmp_path / "whole", start)))
    assert [line.step for line in whole] == [2, 4, 6]
    assert set(whole[0].losses) == {"class", "mask", "dice"}
    assert set(whole[-1].scores) == {"discs", "fields"}
    moved = tmp_path / "moved.safetensors"
    shutil.copyfile(start, moved)
    for init, end in ((start, 3), (moved, None)):
        list(run_stage("proposals", config, Run(data, tmp_path / "parts", init, stop_at=end)))
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")
    files = [tmp_path / run / "model.safetensors" for run in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_beginning_anew_leaves_no_model_of_an_earlier_run(data, start, tmp_path, caplog):
    """Which the next stage would start from."""
    config, out = recipe(tmp_path, PROPOSALS), tmp_path / "run"
    run, model = Run(data, out, start), out / "model.safetensors"
    list(run_stage("proposals", config, run))
    with pytest.raises(UsageError, match="unknown"):  # a mistake costs nothing
        list(run_stage("proposals", config, run, ("stage.nonsense=1",)))
    list(run_stage("proposals", config, run))  # there is no more to learn
    assert model.exists() and "earlier run" not in caplog.text
    for name in ("checkpoint.pt", "log.jsonl"):
        (out / name).unlink()
    next(run_stage("proposals", config, replace(run, init=out)))
    assert model.exists()  # this run starts from it, and may have to do so again
    (out / "checkpoint.pt").unlink()
    begun = run_stage("proposals", config, run)
    next(begun)  # and it is killed
    assert not model.exists()
    assert "model.safetensors is of an earlier run: it is removed" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "scoring"),
    [
        ("proposals", PROPOSALS, "evaluate_size=96"),
        ("dense", DENSE, "evaluate_size=96"),
        ("pictures", PICTURES, "evaluate_batch=3"),
    ],
)
def test_how_val_photos_are_seen_may_change_between_two_parts(
    pictures, start, tmp_path, name, text, scoring
):
    """What is learnt does not depend on it."""
    config = recipe(tmp_path, text)
    list(run_stage(name, config, Run(pictures, tmp_path / "whole", start)))
    parts = Run(pictures, tmp_path / "parts", start, stop_at=3)
    list(run_stage(name, config, parts, (f"stage.{scoring}", "schedule.evaluate_every=2")))
    assert list(run_stage(name, config, replace(parts, stop_at=None)))
    models = [weights.load(tmp_path / run / "model.safetensors") for run in ("whole", "parts")]
    for key, value in models[0].state_dict.items():
        assert torch.equal(value, models[1].state_dict[key]), key


@pytest.fixture
def copied(data, tmp_path):
    """The data of this test alone."""
    return Path(shutil.copytree(data, tmp_path / "data"))


@pytest.fixture
def origins(monkeypatch):
    """What the stage `proposals` would be made of: it is told, and no stage is made."""
    told = []
    trained, kind, _ = STAGES["proposals"]

    def make(model, config, run, schedule):
        told.append(run.origin)
        raise UsageError("enough")

    monkeypatch.setitem(STAGES, "proposals", (trained, kind, make))
    return told


def test_what_a_stage_keeps_is_for_the_same_start_recipe_and_data(
    copied, tiny, start, tmp_path, origins
):
    other = tmp_path / "other.safetensors"
    weights.save(weights.Checkpoint(tiny, build(tiny).state_dict()), other)

    def begin(init=start, *overrides):
        with pytest.raises(UsageError, match="enough"):
            run = Run(copied, tmp_path / "run", init)
            list(run_stage("proposals", recipe(tmp_path, PROPOSALS), run, overrides))

    begin()
    begin(start, "schedule.learning_rate=0.5")
    begin(other)
    begin(start, "stage.learn_non_object=false")
    (copied / "discs" / "train.txt").write_text("train0\ntrain1\n")
    begin()
    same, later, *others = origins
    assert same == later
    assert len({same, *others}) == 4


def test_masks_of_another_start_or_recipe_are_made_anew(
    pictures, tiny, start, tmp_path, monkeypatch
):
    """As after a run that was killed before its first checkpoint."""
    other = tmp_path / "other.safetensors"
    weights.save(weights.Checkpoint(tiny, build(tiny).state_dict()), other)
    marked = []

    def mark(model, images, *rest):
        marked.append(model)
        return np.full(images.images.shape[:3], IGNORE, np.uint8)

    def killed(*arguments):
        raise UsageError("enough")

    monkeypatch.setattr(picture_masks, "picture_masks", mark)
    monkeypatch.setattr(stages, "train", killed)

    def times_marked(init=start, *overrides):
        marked.clear()
        with pytest.raises(UsageError, match="enough"):
            run = Run(pictures, tmp_path / "run", init)
            list(run_stage("dense", recipe(tmp_path, DENSE), run, overrides))
        return len(marked)

    assert times_marked() == 1
    assert times_marked() == 0
    assert times_marked(start, "schedule.learning_rate=0.5") == 0
    assert times_marked(other) == 1
    assert times_marked(other, "stage.picture_masks.least_cover=0.5") == 1


def test_a_recipe_is_compared_before_a_stage_is_made(data, start, tmp_path, request):
    run = Run(data, tmp_path / "run", start, stop_at=2)
    list(run_stage("proposals", recipe(tmp_path, PROPOSALS), run))
    made = request.getfixturevalue("origins")
    with pytest.raises(CheckpointError, match="another recipe"):
        list(run_stage("proposals", recipe(tmp_path, PROPOSALS), run, OTHERWISE))
    assert not made


def test_a_run_goes_on_with_its_own_data_alone(copied, start, tmp_path):
    run = Run(copied, tmp_path / "run", start, stop_at=2)
    list(run_stage("proposals", recipe(tmp_path, PROPOSALS), run))
    (copied / "fields" / "classes.json").write_text('{"3": "grass", "4": "sky"}')
    with pytest.raises(CheckpointError, match=r"another recipe: --data fields changed.*--out"):
        list(run_stage("proposals", recipe(tmp_path, PROPOSALS), run))


@pytest.mark.parametrize("edited", ["train1", "val1", None])
def test_a_run_does_not_go_on_with_other_labels(copied, start, tmp_path, edited):
    """A copy of the data, with other times, will do, and what it is only scored on may change."""
    config, run = recipe(tmp_path, PROPOSALS), Run(copied, tmp_path / "run", start)
    list(run_stage("proposals", config, run))
    copied = copied.rename(tmp_path / "moved")
    for file in copied.glob("*/labels/*.png"):
        os.utime(file, (1, 1))
        if file.stem == edited:
            Image.fromarray(np.flipud(np.asarray(Image.open(file)))).save(file)
    again = run_stage("proposals", config, replace(run, data=copied))
    if edited == "train1":
        with pytest.raises(CheckpointError, match="--data discs, --data fields changed"):
            list(again)
    else:
        assert not list(again)  # there is no more to learn


@pytest.mark.parametrize("key", ["val1", "train1"])
def test_files_that_are_missing_are_said_before_anything_is_learnt(copied, start, tmp_path, key):
    (copied / "discs" / "labels" / f"{key}.png").unlink()
    run = Run(copied, tmp_path / "run", start)
    with pytest.raises(
        UsageError, match=rf"^discs lacks .* of 1 of \d that are listed: labels/{key}\."
    ):
        list(run_stage("proposals", recipe(tmp_path, PROPOSALS), run))
    assert not run.out.exists()


@pytest.mark.parametrize("damage", ["size", "bytes"])
@pytest.mark.parametrize(("name", "text"), [("proposals", PROPOSALS), ("dense", DENSE)])
def test_val_photos_that_cannot_be_scored_are_said_before_anything_is_learnt(
    pictures, copied, start, tmp_path, name, text, damage
):
    label = copied / "fields" / "labels" / "val1.png"
    if damage == "size":
        Image.new("L", (64, 47)).save(label)
        message = r"fields: .*val1\.png has 64×47 pixels and .* 64×48"
    else:
        label.write_bytes(label.read_bytes()[:40])
        message = r"val1\.png cannot be read"
    run = Run(copied, tmp_path / "run", start)
    with pytest.raises(InputError, match=message):
        list(run_stage(name, recipe(tmp_path, text), run))
    assert not run.out.exists()


def test_a_list_of_results_beside_the_data_sets_brings_no_names(
    copied, start, tmp_path, monkeypatch
):
    (copied / "results").mkdir()
    (copied / "results" / "classes.json").write_text('[{"name": "sky"}]')
    monkeypatch.setattr(stages, "sentence_encoder", lambda: None)
    text = SCHEDULE + "[stage]\nwordnet = 'nowhere'\n"
    with pytest.raises(UsageError, match="WordNet's noun files"):  # what comes next
        list(run_stage("text", recipe(tmp_path, text), Run(copied, tmp_path / "run", start)))
    (copied / "results" / "classes.json").write_text("[")
    with pytest.raises(UsageError, match=r"results/classes\.json is no table"):
        list(run_stage("text", recipe(tmp_path, text), Run(copied, tmp_path / "run", start)))


def test_one_name_of_a_set_of_pictures_is_no_list_of_letters(pictures, tmp_path, monkeypatch):
    shards = tmp_path / "data" / "gems"
    shards.mkdir(parents=True)
    (shards / "classes.json").write_text('{"0": {"names": "ruby"}, "1": {"names": ["a", "b"]}}')
    monkeypatch.setattr(stages, "sentence_encoder", lambda: None)
    asked = []
    monkeypatch.setattr(stages, "build_targets", lambda *arguments: asked.extend(arguments[2]))
    with pytest.raises(AttributeError):  # there are no targets
        text = SCHEDULE + "[stage]\nwordnet = 'nowhere'\n"
        run = Run(shards.parent, tmp_path / "run")
        list(run_stage("text", recipe(tmp_path, text), run))
    assert asked[-3:] == ["ruby", "a", "b"]


def test_a_text_encoder_that_is_random_is_told_of(data, start, tmp_path, caplog, origins):
    for init in (start, None):
        assert "no text encoder is given" not in caplog.text
        with pytest.raises(UsageError, match="enough"):
            run = Run(data, tmp_path / "run", init)
            list(run_stage("proposals", recipe(tmp_path, PROPOSALS), run))
    assert "no text encoder is given" in caplog.text


def test_a_run_of_another_recipe_is_not_gone_on_with(data, tiny, start, tmp_path):
    run = Run(data, tmp_path / "run", start, stop_at=2)
    list(run_stage("proposals", recipe(tmp_path, PROPOSALS), run))
    for changed in ("schedule.learning_rate=0.5", "schedule.steps=7", *OTHERWISE):
        key = changed.partition("=")[0]
        with pytest.raises(CheckpointError, match=rf"another recipe: {key} changed.*--out"):
            list(run_stage("proposals", recipe(tmp_path, PROPOSALS), run, (changed,)))
    other = tmp_path / "other.safetensors"
    weights.save(weights.Checkpoint(tiny, build(tiny).state_dict()), other)
    with pytest.raises(CheckpointError, match=r"another recipe: --init changed.*--out"):
        list(run_stage("proposals", recipe(tmp_path, PROPOSALS), replace(run, init=other)))
    told_more = ("schedule.log_every=1", "stage.evaluate_size=96")
    finish = replace(run, stop_at=None)
    assert list(run_stage("proposals", recipe(tmp_path, PROPOSALS), finish, told_more))


def test_the_stages_of_deop_follow_each_other(data, tiny_clip, tmp_path):
    model = build(tiny_clip)
    state = weights.Checkpoint(model.config, model.state_dict())
    weights.save(state, tmp_path / "imported.safetensors")
    stage_3 = PROPOSALS.replace("[stage]", "[stage]\nfocal_weight = 2.0")
    before = tmp_path / "imported.safetensors"
    for name, text in (("prompt", PROMPT), ("proposals", PROPOSALS), ("deop", stage_3)):
        run = Run(data, tmp_path / name, before)
        *_, last = run_stage(name, recipe(tmp_path, text), run)
        assert all(0 <= score <= 1 for score in last.scores.values())
        before = tmp_path / name
    finished = weights.load(before / "model.safetensors")
    assert finished.config == tiny_clip
    assert finished.description.startswith("trained by ovseg train deop")
    for name in ("text.prompt.prefix", "proposals.query_embed.weight", "visual.learned_position"):
        assert not torch.equal(finished.state_dict[name], model.state_dict()[name].half().float())
    frozen = "visual.conv1.weight"
    assert torch.equal(finished.state_dict[frozen], model.state_dict()[frozen].half().float())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("proposal", PROPOSALS, "no training stage 'proposal'; there are text, pictures, dense"),
        ("proposals", PROPOSALS + "[extra]\n", r"toml: unknown extra; known: licence, model"),
        ("proposals", "[stage]\n", r"recipe\.toml: schedule must be given"),
        ("proposals", SCHEDULE + "[stage]\n", r"recipe\.toml: stage: views must be given"),
        (
            "proposals",
            PROPOSALS.replace("batch = 2", "batch = 2.5"),
            r"recipe\.toml: stage\.views\.batch: 2\.5 is not a int",
        ),
        (
            "proposals",
            PROPOSALS.replace('"bf16"', '"fp8"'),
            r"recipe\.toml: schedule: precision is 'fp8', not one of fp32, bf16",
        ),
        (
            "proposals",
            PROPOSALS.replace("discs", "cubes"),
            r"cubes is not a labelled data set \(classes\.json, train\.txt",
        ),
        ("proposals", PROPOSALS + "[model]\n", r"--init and the table \[model\]"),
        ("prompt", PROMPT, "CLIP's image tower and a learned prompt"),
    ],
)
def test_what_a_user_can_mend(data, start, tmp_path, name, text, message):
    with pytest.raises(UsageError, match=message):
        list(run_stage(name, recipe(tmp_path, text), Run(data, tmp_path / "run", start)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("proposals", "a plain CLIP: there are no mask proposals to train"),
        ("deop", "a plain CLIP: it has no heatmap decoder to train"),
    ],
)
def test_a_plain_clip_lacks_what_these_stages_train(data, tiny_plain, tmp_path, name, message):
    path = tmp_path / "clip.safetensors"
    weights.save(weights.Checkpoint(tiny_plain, build(tiny_plain).state_dict()), path)
    with pytest.raises(UsageError, match=message):
        list(run_stage(name, recipe(tmp_path, PROPOSALS), Run(data, tmp_path / "run", path)))


def test_a_side_adapter_grows_beside_a_plain_clip(data, tiny_plain, tmp_path):
    """Run in parts, as a whole, and then asked for labels."""
    clip = build(tiny_plain)
    path = tmp_path / "clip.safetensors"
    weights.save(weights.Checkpoint(tiny_plain, clip.state_dict()), path)
    config = recipe(tmp_path, PROPOSALS.replace("[stage]", "[stage]\nlearn_positions = false"))
    few = ("schedule.steps=3", "stage.weights={mask_loss='cross_entropy', points=50}")
    (last,) = list(run_stage("san", config, Run(data, tmp_path / "whole", path), few))[-1:]
    assert all(0 <= score <= 1 for score in last.scores.values())
    for end in (1, None):
        list(run_stage("san", config, Run(data, tmp_path / "parts", path, stop_at=end), few))
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")
    files = [tmp_path / run / "model.safetensors" for run in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()
    finished = weights.load(files[0])
    assert isinstance(finished.config, SANConfig)
    assert finished.config.side_adapter.fused_layers == (0, 1, 2, 3)
    for name, value in clip.state_dict().items():
        if name != "text.non_object_embedding":
            assert torch.equal(finished.state_dict[name], value.half().float()), name
    result = load_model(files[0]).segment(np.full((48, 64, 3), 90, np.uint8), ["sky", "grass"])
    assert result.labels.shape == (48, 64)


@pytest.mark.parametrize(
    ("name", "kind"), [("proposals", "DeOP"), ("prompt", "DeOP"), ("deop", "DeOP"), ("san", "SAN")]
)
def test_a_stage_refuses_models_of_another_kind(data, tiny, tiny_san, tmp_path, name, kind):
    config = tiny if kind == "SAN" else tiny_san
    path = tmp_path / "other.safetensors"
    weights.save(weights.Checkpoint(config, build(config).state_dict()), path)
    text = PROMPT if name == "prompt" else PROPOSALS
    with pytest.raises(UsageError, match=f"the stage '{name}' trains a {kind}"):
        list(run_stage(name, recipe(tmp_path, text), Run(data, tmp_path / "run", path)))
