"""What a photo costs against the number of names, of masks and of pixels, in time and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor, nn

from ovseg_cli.benchmark.figure import LOWER, Figure, memory
from ovseg_cli.benchmark.made_up import made_up
from ovseg_cli.benchmark.networks import (
    DEOP,
    SIDE,
    labelling,
    random_network,
    random_text,
    scorer,
)
from ovseg_cli.benchmark.plan import NAMES, Load, Plan
from ovseg_cli.benchmark.ways import Cost, Way, costs
from ovseg_cli.frame import Frame
from ovseg_cli.model.config import DeOPConfig
from ovseg_cli.model.deop import DeOP
from ovseg_cli.scoring import Scorer

LARGE_HW = (3000, 4000)  # 12 megapixels
NAME_COUNTS = (10, 100, 1000, 10_000)
MASK_COUNTS = (25, 50, 100, 200)
USUAL = 171  # names where something else is varied
MEGAPIXELS = (0.2, 1.0, 4.0, 12.0, 50.0)


def names(plan: Plan, size_hw: tuple[int, int] = LARGE_HW) -> Iterator[Figure]:
    """One photo of 12 megapixels; the features of the names are at hand."""
    found = costs(NameCounts(plan.load, size_hw), NAME_COUNTS, plan.runs)
    what = f"{size_hw[0] * size_hw[1] / 1e6:.0f} megapixels"
    yield from _curve("names", what, "name", NAME_COUNTS, found)
    few, many = (found[NAME_COUNTS.index(count)] for count in (10, 1000))
    times = many.seconds / few.seconds
    yield Figure("names.ratio.seconds", "1000 names against 10, time", times, "×")
    if few.peak_bytes:
        peaks = many.peak_bytes / few.peak_bytes
        yield Figure("names.ratio.peak", "1000 names against 10, peak memory", peaks, "×")


def masks(plan: Plan) -> Iterator[Figure]:
    """DeOP at its published sizes with random weights, and so with random masks."""
    found = costs(QueryCounts(DEOP, plan.device), MASK_COUNTS, plan.runs)
    what = f"DeOP (random weights), {SIDE}×{SIDE}"
    yield from _curve("masks", what, "mask", MASK_COUNTS, found)


def sizes(plan: Plan, points: Sequence[float] = MEGAPIXELS) -> Iterator[Figure]:
    """Photos in memory, of more and more pixels, with ten names."""
    found = costs(PhotoSizes(plan.load), points, plan.runs)
    yield from _curve("sizes", "10 names", "megapixel", points, found)


def _curve(
    section: str, what: str, unit: str, points: Sequence[float], found: Sequence[Cost]
) -> Iterator[Figure]:
    for point, cost in zip(points, found, strict=True):
        name = f"{what}, {point:g} {unit}{'' if point == 1 else 's'}"
        key = f"{section}.{point:g}"
        yield Figure(f"{key}.seconds", name, cost.seconds, "s", LOWER, at=point)
        if cost.peak_bytes:
            yield memory(f"{key}.peak", f"{name}, peak memory", cost.peak_bytes, at=point)


@dataclass(frozen=True)
class NameCounts:
    """The chosen model with so many names."""

    load: Load
    size_hw: tuple[int, int]

    @cached_property
    def scorer(self) -> Scorer:
        """The model, loaded."""
        model = self.load(NAMES).model
        return Scorer(model.network, model.device, model.precision)

    def __call__(self, count: int) -> Way:
        """One photo to its labels."""
        return labelling(self.scorer, [made_up(self.size_hw)], random_text(count, self.scorer))


@dataclass(frozen=True)
class QueryCounts:
    """A network with mask proposals, and so many of them."""

    config: DeOPConfig
    device: str
    most: int = max(MASK_COUNTS)

    @cached_property
    def scorer(self) -> Scorer:
        """The network with the most queries."""
        assert self.config.proposal is not None
        config = replace(self.config, proposal=replace(self.config.proposal, queries=self.most))
        return scorer(random_network(config), self.device)

    @cached_property
    def queries(self) -> list[Tensor]:
        """All of them, as mask proposals and as heatmaps have them."""
        return [embedding.weight for embedding in self._embeddings()]

    def _embeddings(self) -> list[nn.Embedding]:
        network = self.scorer.network
        assert isinstance(network, DeOP)
        return [network.proposals.query_embed, network.heatmap_decoder.query_embedding]

    def __call__(self, count: int) -> Way:
        """One photo to its labels, by the first `count` queries."""
        queries = self.queries  # before any is taken away
        run = labelling(self.scorer, [made_up((SIDE, SIDE))], random_text(USUAL, self.scorer))

        def with_some() -> object:
            for embedding, rows in zip(self._embeddings(), queries, strict=True):
                embedding.weight = nn.Parameter(rows[:count])
            return run()

        return with_some


@dataclass(frozen=True)
class PhotoSizes:
    """The chosen model on a photo of so many megapixels, 4:3."""

    load: Load

    def __call__(self, megapixels: float) -> Way:
        """The photo, in memory, to its segmentation."""
        height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
        segmenter = self.load(NAMES)
        frame = Frame(made_up((height, height * 4 // 3)))
        return lambda: segmenter(frame)
