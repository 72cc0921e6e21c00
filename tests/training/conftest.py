"""Tiny models and photos: a stage learns something from them within seconds."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ovseg_cli.model import prompts
from ovseg_cli.model.config import (
    BackboneConfig,
    ClipVisualConfig,
    DeOPConfig,
    HeatmapConfig,
    InputConfig,
    ProposalConfig,
    PyramidVisualConfig,
    TextConfig,
)
from ovseg_cli.model.san import INPUT, SANConfig
from ovseg_cli.model.side_adapter import SideAdapterConfig
from ovseg_cli.training.engine import Stage, train
from ovseg_cli.training.schedule import Schedule

TINY = DeOPConfig(
    joint_width=16,
    logit_scale=20.0,
    input=InputConfig(min_size=64),
    backbone=BackboneConfig(
        stem_channels=(8, 8, 8),
        block="basic",
        depths=(1, 1, 1, 1),
        inner_channels=(8, 12, 16, 16),
        out_channels=(8, 12, 16, 16),
        res5_multi_grid=(1,),
    ),
    proposal=ProposalConfig(
        pixel_channels=8,
        mask_channels=8,
        norm_groups=2,
        queries=5,
        hidden=16,
        heads=2,
        layers=2,
        feedforward=32,
        class_hidden=32,
        class_channels=16,
    ),
    visual=PyramidVisualConfig(
        channels=16, norm_groups=2, context_width=16, context_layers=1, context_heads=2
    ),
    text=TextConfig(
        width=16, heads=2, layers=1, context=24, tokens=514, prompt_prefix=0, prompt_suffix=0
    ),
    heatmap=HeatmapConfig(heads=2, feedforward=16),
)
TINY_CLIP = replace(
    TINY,
    visual=ClipVisualConfig(
        width=16,
        layers=2,
        heads=2,
        mlp_width=32,
        grid=2,
        run_grid=4,
        position_layers=(1,),
        severed_layers=(1,),
    ),
    text=replace(TINY.text, context=32, prompt_prefix=4),
)

TINY_SAN = SANConfig(
    joint_width=16,
    input=replace(INPUT, min_size=64),
    visual=ClipVisualConfig(
        patch_size=8,
        width=16,
        layers=3,
        heads=2,
        mlp_width=32,
        grid=4,
        run_grid=None,
        position_layers=(),
        severed_layers=(2,),
        severance="gps",
    ),
    text=TINY.text,
    shallow_layers=2,
    clip_scale=0.5,
    side_adapter=SideAdapterConfig(
        width=16,
        layers=2,
        heads=2,
        mlp_width=32,
        patch_size=8,
        grid=8,
        queries=5,
        fused_layers=(0, 1, 2),
        decoder_width=16,
        mask_channels=8,
    ),
)
# A CLIP that the published SANs could be built on.
TINY_PLAIN = replace(
    TINY_CLIP,
    proposals="grid",
    backbone=None,
    proposal=None,
    heatmap=None,
    visual=replace(
        TINY_CLIP.visual, layers=4, run_grid=None, position_layers=(), severed_layers=(3,)
    ),
    text=replace(TINY.text, context=77),
)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on several threads, and far slower on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights in each run, and names by their bytes: CLIP's tokenizer takes seconds."""
    torch.manual_seed(0)
    bytewise = SimpleNamespace(encode=lambda text: list(text.encode()))
    monkeypatch.setattr(prompts, "tokenizer", lambda tokens: bytewise)


@dataclass(frozen=True)
class Effect:
    """What some steps of a stage did to its model."""

    before: dict[str, float]  # losses on one batch
    after: dict[str, float]
    scores: dict[str, float]
    changed: set[str]  # names of the tensors that are not as they were


@pytest.fixture
def learn(tmp_path: Path) -> Callable[..., Effect]:
    """Trains a stage for a few steps: learn(stage, steps, learning_rate, **schedule)."""

    def run(stage: Stage, steps: int, learning_rate: float, **schedule: Any) -> Effect:
        batch = stage.batch(0)
        state = {name: value.clone() for name, value in stage.model.state_dict().items()}
        before = {name: loss.item() for name, loss in stage.losses(batch).items()}
        plan = Schedule(steps, learning_rate, warmup=5, weight_decay=0.0, **schedule)
        (*_, last) = train(stage, plan, tmp_path / "run", torch.device("cpu"))
        after = {name: loss.item() for name, loss in stage.losses(batch).items()}
        changed = {n for n, v in stage.model.state_dict().items() if not torch.equal(v, state[n])}
        return Effect(before, after, last.scores, changed)

    return run


@pytest.fixture(scope="session")
def tiny() -> DeOPConfig:
    """A model like the bundled one."""
    return TINY


@pytest.fixture(scope="session")
def tiny_clip() -> DeOPConfig:
    """A model like the published one."""
    return TINY_CLIP


@pytest.fixture(scope="session")
def tiny_san() -> SANConfig:
    """A model like the SAN that is as large as the bundled one."""
    return TINY_SAN


@pytest.fixture(scope="session")
def tiny_plain() -> DeOPConfig:
    """A model like a plain CLIP."""
    return TINY_PLAIN


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets: `discs`, red and blue ones on a noisy background, and `fields`, all labelled."""
    root = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    _write_set(root / "discs", {0: "background", 1: "red", 7: "blue"}, draw, _discs)
    _write_set(root / "fields", {3: "sky", 4: "grass"}, draw, _fields)
    return root


@pytest.fixture(scope="session")
def pictures(data: Path) -> Path:
    """An image-level set, `moods`, beside the photos: sunny and dark pictures."""
    root = data / "moods"
    root.mkdir()
    names = {"0": {"names": ["sunny", "bright"]}, "1": {"names": ["dark"]}}
    (root / "classes.json").write_text(json.dumps(names))
    for split in ("train", "val"):
        with tarfile.open(root / f"{split}-00.tar.gz", "w:gz") as shard:
            for index in range(8):
                buffer = io.BytesIO()
                Image.new("RGB", (32, 32), (240 - 200 * (index % 2),) * 3).save(buffer, "WEBP")
                _add(shard, f"{index}.webp", buffer.getvalue())
                _add(shard, f"{index}.cls", str(index % 2).encode())
    return data


def _add(shard, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


def _discs(draw):
    image = draw.integers(90, 130, (48, 64, 3)).astype(np.uint8)
    labels = np.zeros((48, 64), np.uint8)
    y, x = np.mgrid[:48, :64]
    for label, colour, left in ((1, (220, 40, 40), 16), (7, (40, 40, 220), 46)):
        near = np.hypot(y - draw.integers(14, 34), x - left)
        shade = 0.8 + 0.2 * (x - left) / 12  # brighter at the right
        image[near < 12] = (shade[..., None] * colour)[near < 12]
        labels[near < 12] = label
        labels[(near >= 12) & (near < 13)] = 255
    return image, labels


def _fields(draw):
    horizon = draw.integers(12, 36)
    image = np.empty((48, 64, 3), np.uint8)
    image[:horizon], image[horizon:] = (150, 190, 240), (60, 140, 50)
    labels = np.full((48, 64), 3, np.uint8)
    labels[horizon:] = 4
    return image, labels


def _write_set(root, classes, draw, make):
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    (root / "classes.json").write_text(json.dumps(classes))
    for split, count in (("train", 6), ("val", 2)):
        keys = [f"{split}{index}" for index in range(count)]
        (root / f"{split}.txt").write_text("\n".join(keys) + "\n")
        for key in keys:
            image, labels = make(draw)
            Image.fromarray(image).save(root / "images" / f"{key}.png")
            Image.fromarray(labels).save(root / "labels" / f"{key}.png")
