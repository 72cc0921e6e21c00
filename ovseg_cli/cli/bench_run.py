"""The work of `ovseg bench` once all options are checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ovseg_cli.benchmark.plan import NAMES, Plan, measure
from ovseg_cli.cli import console
from ovseg_cli.cli.compute import Compute
from ovseg_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovseg_cli.benchmark.baseline import Baseline, Comparison
    from ovseg_cli.benchmark.figure import Figure
    from ovseg_cli.segmenter import Segmenter


@dataclass(frozen=True)
class Request:
    """All that a benchmark was asked for."""

    sections: tuple[str, ...]  # empty: the profile
    compute: Compute
    given: tuple[str, ...]  # its options, as typed
    inputs: tuple[str, ...]
    photos: int
    runs: int
    as_json: bool
    trace: Path | None
    plot: Path | None
    store: Path | None
    compare: Path | None
    tolerance: float

    def settings(self) -> dict[str, Any]:
        """What of this the figures depend on."""
        return {
            "options": list(self.given),
            "runs": self.runs,
            "photos": list(self.inputs) or self.photos,
        }


@dataclass(frozen=True)
class Chosen:
    """Loads the chosen model; can be sent to another process."""

    compute: Compute

    def __call__(self, vocabulary: Vocabulary, size: int | None = None) -> Segmenter:
        """See `benchmark.plan.Load`."""
        return replace(self.compute, size=size or self.compute.size).segmenter(vocabulary)


def execute(request: Request) -> int:
    """Measure, show, keep and compare; returns the exit code."""
    from ovseg_cli.benchmark.baseline import Baseline, store
    from ovseg_cli.benchmark.fresh import in_fresh_process
    from ovseg_cli.benchmark.machine import machine, one_line
    from ovseg_cli.whole_files import require_writable

    for file in filter(None, (request.store, request.plot, request.trace)):
        require_writable(file.parent)  # before minutes are spent
    earlier = None
    if request.compare is not None:
        earlier = Baseline(request.compare)
        earlier.require(request.sections or ("profile",))
    facts = in_fresh_process(machine)
    if request.as_json:
        console.json_line({"machine": facts, "settings": request.settings()})
    console.note(one_line(facts))
    if earlier is not None:
        for difference in earlier.differences(facts, request.settings()):
            console.warning(f"{request.compare} was measured otherwise: {difference}")
    with TemporaryDirectory(prefix="ovseg-bench-") as folder:
        measured = (_measured if request.sections else _profiled)(request, Path(folder), facts)
        shown = [_show(request, figure, earlier) for figure in measured]
    figures = [figure for figure, _ in shown]
    _show_tables(request, shown)
    try:
        if request.store is not None:
            store(request.store, figures, facts, request.settings())
    finally:  # one file is not lost with the other
        if request.plot is not None:
            from ovseg_cli.benchmark.chart import draw_chart
            from ovseg_cli.exports import write_png

            write_png(request.plot, draw_chart(figures, one_line(facts)), {})
    worse = [figure for figure, comparison in shown if comparison and comparison.verdict == "worse"]
    if worse:
        names = ", ".join(figure.key for figure in worse)
        console.error(f"worse than {request.compare} by more than {request.tolerance:.0%}: {names}")
    return 1 if worse else 0


def _photos(request: Request) -> tuple[Path, ...]:
    from ovseg_cli.media.inputs import find_images

    return tuple(image.path for image in find_images(request.inputs)) if request.inputs else ()


def _measured(request: Request, folder: Path, facts: dict[str, Any]) -> Iterator[Figure]:
    plan = Plan(
        load=Chosen(request.compute),
        options=request.given,
        device=request.compute.device,
        photos=request.photos,
        runs=request.runs,
        inputs=_photos(request),
        folder=folder,
    )
    yield from measure(plan, request.sections)


def _profiled(request: Request, folder: Path, facts: dict[str, Any]) -> Iterator[Figure]:
    from ovseg_cli.benchmark.commands import PHOTO_HW
    from ovseg_cli.benchmark.made_up import write_photos
    from ovseg_cli.cores import keep_freed_memory

    photos = _photos(request)
    if not photos:
        photos = tuple(sorted(write_photos(folder / "photos", request.photos, PHOTO_HW).iterdir()))
    keep_freed_memory()  # as segment does, before torch is imported
    segmenter = request.compute.segmenter(NAMES)
    from ovseg_cli.benchmark.profile import profile

    found = profile(segmenter, photos, folder / "out", request.runs)
    if request.trace is not None:
        from ovseg_cli.benchmark.trace import write_trace

        write_trace(request.trace, found, facts)
    yield from found.figures()


def _show(
    request: Request, figure: Figure, earlier: Baseline | None
) -> tuple[Figure, Comparison | None]:
    """Print one figure, beside what it was."""
    comparison = None if earlier is None else earlier.compare(figure, request.tolerance)
    if request.as_json:
        console.json_line(figure.record() | (comparison.record() if comparison else {}))
        return figure, comparison
    line = f"{figure.name:<48} {figure.value:>10.3f} {figure.unit}"
    if figure.share is not None:
        line += f" {figure.share:>7.1%}"
    if comparison is not None and comparison.ratio is not None:
        line += f"  ×{comparison.ratio:.2f} of {comparison.before:.3f}"
    if comparison is not None and comparison.verdict:
        line += f"  {comparison.verdict}"
    console.data(line)
    return figure, comparison


def _show_tables(request: Request, shown: Sequence[tuple[Figure, Comparison | None]]) -> None:
    """What is easier read side by side, on a terminal."""
    models = [figure for figure, _ in shown if figure.section == "models"]
    if models:
        found = {figure.key: f"{figure.value:.3g}" for figure in models}
        columns = ("seconds", "ratio", "peak", "parameters")
        names = {figure.key.rpartition(".")[0]: figure.name for figure in reversed(models)}
        console.table(
            "Models on the same photos",
            ["model", "s a photo", "to DeOP", "MB", "million"],
            [
                [names[way], *(found.get(f"{way}.{column}", "") for column in columns)]
                for way in reversed(names)
            ],
        )
    compared = [(figure, c) for figure, c in shown if c is not None and c.ratio is not None]
    if compared:
        console.table(
            f"Against {request.compare}",
            ["figure", "before", "now", "ratio", ""],
            [
                [f.key, f"{c.before:.4g}", f"{f.value:.4g}", f"{c.ratio:.2f}", c.verdict]
                for f, c in compared
            ],
        )
