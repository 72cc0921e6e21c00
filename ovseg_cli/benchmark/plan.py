"""What a benchmark is asked for, and its sections. Light: it imports what measures when it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ovseg_cli.benchmark.figure import Figure
from ovseg_cli.errors import UsageError
from ovseg_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovseg_cli.segmenter import Segmenter

# Section -> module and function with its figures, in the order in which they are measured.
SECTIONS = {
    "start": ("commands", "start"),
    "throughput": ("commands", "throughput"),
    "names": ("costs", "names"),
    "masks": ("costs", "masks"),
    "sizes": ("costs", "sizes"),
    "batches": ("batches", "batches"),
    "models": ("models", "models"),
    "one-pass": ("one_pass", "section"),
}
DEFAULT = ("start", "throughput", "names")
NAMES = Vocabulary(
    ["sky", "building", "tree", "road", "car", "person", "grass", "water", "dog", "bird"]
)


class Load(Protocol):
    """Loads the model that was chosen, in this process or, sent there, in another one."""

    def __call__(self, vocabulary: Vocabulary, size: int | None = None) -> Segmenter:
        """size: shorter side at which it sees photos; None = as it was chosen."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often."""

    load: Load
    options: tuple[str, ...]  # of `ovseg segment`, for the same model
    device: str  # of networks that are made up: "auto", "cpu", "cuda" or "mps"
    photos: int  # how many the throughput is measured on
    runs: int  # of each way; the median counts
    inputs: tuple[Path, ...]  # photos that models are compared on; none = one made up
    folder: Path  # takes photos and results


def require_sections(names: Iterable[str]) -> None:
    """Raise UsageError for what is none of the sections."""
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        listed = ", ".join(SECTIONS)
        raise UsageError(f"--only {unknown[0]!r}: the sections of the benchmark are {listed}")


def measure(plan: Plan, sections: Iterable[str]) -> Iterator[Figure]:
    """The figures of these sections, each as soon as it is there."""
    wanted = set(sections)
    for name, (module, function) in SECTIONS.items():
        if name in wanted:
            yield from getattr(import_module(f"ovseg_cli.benchmark.{module}"), function)(plan)
