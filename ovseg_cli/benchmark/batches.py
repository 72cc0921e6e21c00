"""Photos a second at several sizes of the network's input and of the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ovseg_cli.benchmark.figure import HIGHER, Figure
from ovseg_cli.benchmark.made_up import made_up
from ovseg_cli.benchmark.networks import DEOP, labelling, random_network, random_text, scorer
from ovseg_cli.benchmark.plan import NAMES, Load, Plan
from ovseg_cli.benchmark.ways import Prepare, Way, times
from ovseg_cli.frame import Frame
from ovseg_cli.model.config import DeOPConfig
from ovseg_cli.scoring import Scorer

USUAL = 171  # names of the full-size model
OWN = [(size, batch) for size in (320, 480, 640) for batch in (1, 4, 8)]
FULL = [(size, batch) for size in (384, 512) for batch in (1, 2)]
LONGER = 4 / 3  # of a photo, to its shorter side


def batches(plan: Plan) -> Iterator[Figure]:
    """The chosen model and DeOP at its published sizes, with photos of the input's own size."""
    yield from _rates("own", "the model", Chosen(plan.load), OWN, plan.runs)
    full = FullSize(DEOP, plan.device)
    yield from _rates("deop", "DeOP (random weights)", full, FULL, plan.runs)


def _rates(
    key: str, what: str, prepare: Prepare, points: Sequence[tuple[int, int]], runs: int
) -> Iterator[Figure]:
    for (size, batch), seconds in zip(points, times(prepare, points, runs), strict=True):
        name = f"{what}, shorter side {size}, batch of {batch}"
        series = f"{what}, {size}"
        yield Figure(
            f"batches.{key}.{size}.{batch}.rate",
            name,
            batch / seconds,
            "1/s",
            HIGHER,
            at=batch,
            series=series,
        )


def _photo_hw(size: int) -> tuple[int, int]:
    return size, round(size * LONGER)


@dataclass(frozen=True)
class Chosen:
    """The chosen model on (shorter side, batch)."""

    load: Load

    def __call__(self, point: tuple[int, int]) -> Way:
        """A batch of photos, in memory, to their segmentations."""
        size, batch = point
        segmenter = self.load(NAMES, size)
        frames = [Frame(made_up(_photo_hw(size), number)) for number in range(batch)]
        return lambda: segmenter.segment(frames)


@dataclass(frozen=True)
class FullSize:
    """A network with random weights on (shorter side, batch)."""

    config: DeOPConfig
    device: str

    @cached_property
    def scorer(self) -> Scorer:
        """The network, which sees photos at their own size."""
        free = replace(self.config, input=replace(self.config.input, min_size=None))
        return scorer(random_network(free), self.device)

    def __call__(self, point: tuple[int, int]) -> Way:
        """A batch of photos, in memory, to their labels."""
        size, batch = point
        photos = [made_up(_photo_hw(size), number) for number in range(batch)]
        return labelling(self.scorer, photos, random_text(USUAL, self.scorer))
