"""DeOP, SAN, a plain CLIP, the two-stream way and the chosen model on the same photos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ovseg_cli.benchmark.figure import LOWER, Figure, memory
from ovseg_cli.benchmark.fresh import in_fresh_process
from ovseg_cli.benchmark.made_up import made_up
from ovseg_cli.benchmark.networks import (
    CLIP,
    DEOP,
    SAN,
    SIDE,
    labelling,
    random_network,
    random_text,
    scorer,
)
from ovseg_cli.benchmark.one_pass import USUAL, TwoStream
from ovseg_cli.benchmark.plan import NAMES, Load, Plan
from ovseg_cli.benchmark.ways import Way, once, times
from ovseg_cli.media.images import read_image
from ovseg_cli.model.build import skeleton
from ovseg_cli.model.config import ModelConfig
from ovseg_cli.scoring import Scorer
from ovseg_cli.segmenter import Model

OWN, DEOP_NAME, TWO_STREAM = "own", "deop", "two-stream"
CONFIGS: Mapping[str, ModelConfig] = {DEOP_NAME: DEOP, "san": SAN, "clip": CLIP}
WAYS = {
    DEOP_NAME: "DeOP (random weights)",
    "san": "SAN B/16 (random weights)",
    "clip": "CLIP B/16 grid (random weights)",
    TWO_STREAM: "two-stream (random weights)",
    OWN: "",  # whatever its name is
}


def models(plan: Plan) -> Iterator[Figure]:
    """Seconds a photo, against DeOP's, peak memory and parameters; text features are at hand."""
    ways = Ways(plan.load, plan.device, plan.inputs)
    quick = [way for way in WAYS if way != TWO_STREAM]
    seconds = dict(zip(quick, times(ways, quick, plan.runs), strict=True))
    facts = in_fresh_process(_facts, ways)
    count = max(1, len(plan.inputs))
    for way in WAYS:
        alone = once(ways, way)
        # The two-stream way takes so long that one run is enough.
        taken = seconds.get(way, alone.seconds)
        title, parameters = facts[way]
        yield Figure(f"models.{way}.seconds", title, taken / count, "s", LOWER)
        if way != DEOP_NAME:
            yield Figure(
                f"models.{way}.ratio", f"{title}, to DeOP", taken / seconds[DEOP_NAME], "×"
            )
        if alone.peak_bytes:
            yield memory(f"models.{way}.peak", f"{title}, peak memory", alone.peak_bytes)
        yield Figure(
            f"models.{way}.parameters", f"{title}, parameters", parameters / 1e6, "million"
        )


def _facts(ways: Ways) -> dict[str, tuple[str, int]]:
    """What each way is called, with the size at which it sees the first photo; its parameters."""
    found = {}
    for way, name in WAYS.items():
        config = ways.config(way)
        network = ways.own.network if config is None else skeleton(config)
        seen = Scorer(network, torch.device("cpu"), "fp32")
        height, width = seen.input_size(ways.photos[0].shape[:2])
        title = f"{name or ways.own.name}, {width}×{height}"
        found[way] = title, sum(parameter.numel() for parameter in network.parameters())
    return found


@dataclass(frozen=True)
class Ways:
    """Each model on the same photos."""

    load: Load
    device: str
    inputs: tuple[Path, ...]  # none: one made up
    configs: Mapping[str, ModelConfig] = field(default_factory=lambda: CONFIGS)

    @cached_property
    def photos(self) -> list[np.ndarray]:
        """(H, W, 3) uint8 each."""
        if not self.inputs:
            return [made_up((SIDE, SIDE))]
        return [read_image(path).pixels for path in self.inputs]

    @cached_property
    def own(self) -> Model:
        """The chosen model."""
        return self.load(NAMES).model

    @cached_property
    def _scorers(self) -> dict[ModelConfig, Scorer]:
        return {}

    def config(self, way: str) -> ModelConfig | None:
        """The sizes of a network that is made up; None for the chosen one."""
        return self.configs.get(DEOP_NAME if way == TWO_STREAM else way)

    def scorer(self, way: str) -> Scorer:
        """The network of a way, built when it is first asked for."""
        config = self.config(way)
        if config is None:
            return Scorer(self.own.network, self.own.device, self.own.precision)
        # The two-stream way shares DeOP's.
        found = self._scorers.get(config) or scorer(random_network(config), self.device)
        return self._scorers.setdefault(config, found)

    def __call__(self, way: str) -> Way:
        """All photos, in memory, to their labels."""
        chosen = self.scorer(way)
        if way == TWO_STREAM:
            runs: list[Way] = [TwoStream(chosen, photo).labels for photo in self.photos]
        else:
            text = random_text(USUAL, chosen)
            runs = [labelling(chosen, [photo], text) for photo in self.photos]
        return lambda: [run() for run in runs]
