"""The work of `ovseg segment` once all options are checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ovseg_cli.batch import options as batch_options
from ovseg_cli.batch import run as batch
from ovseg_cli.batch.results import ImageResult, RunReport
from ovseg_cli.cli import console, segment_part
from ovseg_cli.cli.derived import discard_derived, outdated
from ovseg_cli.cli.export import write_formats
from ovseg_cli.cli.interruption import Interruption
from ovseg_cli.cli.provenance import Provenance, areas_record, moment
from ovseg_cli.cli.ray_run import ray_cluster, ray_results
from ovseg_cli.cli.segment_part import PartNotes
from ovseg_cli.cli.segment_plan import Plan
from ovseg_cli.cli.vocabulary_echo import warn_of_other
from ovseg_cli.cores import available_cores, keep_freed_memory, share_cores
from ovseg_cli.errors import InputError, OutputError
from ovseg_cli.exports import OVERLAY
from ovseg_cli.failures import remedy_of
from ovseg_cli.formats.options import ExportOptions
from ovseg_cli.media.images import MAX_PIXELS, read_image
from ovseg_cli.media.window import Window
from ovseg_cli.printable import printable, quantity
from ovseg_cli.run_folder.layout import EXPORTS
from ovseg_cli.run_folder.tables import ClassTotal, areas_of
from ovseg_cli.segmentation import percentage

if TYPE_CHECKING:
    from ovseg_cli.segmenter import Segmenter

_AGAIN = "run the same command with --resume"


def list_work(plan: Plan) -> None:
    """Print each input and the files it would give."""
    for image in plan.own_images:
        files = plan.output.targets(image.rel)
        if plan.as_json:
            console.json_line({"path": image.name, "files": files})
        else:
            console.data(image.name, *files.values())


def execute(plan: Plan, window: Window | None = None) -> int:
    """Segment the photos, show their overlays in `window`; returns the exit code.

    Raises UsageError where another run works in the output folder.
    """
    output = plan.output
    with output.hold(), closing(output):
        output.check(resume=plan.resume, overwrite=plan.overwrite)  # another may just have ended
        return _execute(plan, window)


def _execute(plan: Plan, window: Window | None) -> int:
    started, clock = time.time(), time.perf_counter()
    streams = batch_options.auto_streams("cpu", available_cores())
    share_cores(streams)  # before torch is imported
    keep_freed_memory()
    segmenter = plan.compute.segmenter(plan.vocabulary, other=plan.other, threshold=plan.threshold)
    model = segmenter.model
    console.note(f"model {model.name} on {model.device} ({model.precision})")
    warn_of_other(model, plan.other, plan.compute.rivals)
    run = _Run(plan, segmenter, window, started, clock)
    # A cluster that is not there is found before anything is written.
    with ray_cluster(plan) if plan.engine.name == "ray" else nullcontext():
        run.open()
        code = run.execute()
    if window is not None and code in (0, 1):  # not when it was interrupted
        window.wait()
    return code


class _Run:
    def __init__(
        self,
        plan: Plan,
        segmenter: Segmenter,
        window: Window | None,
        started: float,
        clock: float,
    ) -> None:
        """started: seconds since 1970; clock: the same moment by a clock that never goes back."""
        self.plan = plan
        self.segmenter = segmenter
        self.window = window
        self.started = started
        self.provenance = Provenance(
            segmenter, plan.compute, plan.vocabulary, plan.other, plan.threshold
        )
        self.part: PartNotes | None = None
        self.loaded = time.perf_counter()
        self.load_seconds = self.loaded - clock
        self.report = RunReport()
        self.totals: Sequence[ClassTotal] = ()

    def open(self) -> None:
        """Make the output folder ready. Raises UsageError."""
        # Not before: a part that cannot begin must not say how the others are cut.
        self.plan = plan = segment_part.agreed(self.plan)
        run = self.provenance.fingerprint(exif=self.plan.exif)
        plan.output.open(
            self.segmenter.vocabulary,
            run=run,
            metadata=self.provenance.metadata(),
            overwrite=plan.overwrite,
        )
        if plan.overwrite and not plan.destination.is_store:
            discard_derived(plan.output.root)
        if plan.shard is not None:
            self.part = PartNotes(plan, run)
            self.part.begin()

    def execute(self) -> int:
        status, code = "failed", 1
        with Interruption() as interruption:
            try:
                status, code = self.work(interruption)
            finally:  # whatever happened: what is finished gets its tables
                written = self.finish(status)
        self.say_end(status)
        if written and status == "complete":
            self.export()
        self.tell_outdated()
        return code if written else code or 1

    def work(self, interruption: Interruption) -> tuple[str, int]:
        """Go through the photos; returns how that ended and the exit code."""
        plan = self.plan
        results = self.results(lambda: interruption.requested() or self.too_many_failed)
        try:
            with console.progress(len(plan.own_images)) as progress:
                for result in results:
                    self.report.add(result)
                    self.show(result)
                    progress.advance()
        except BrokenPipeError:
            console.close_output()
            return "interrupted", console.BROKEN_PIPE
        except OutputError as error:
            console.trace(error)
            console.error(f"{error}\n{remedy_of(error, _AGAIN)}")
            return "stopped", 1
        finally:
            results.close()
        if interruption.requested() and self.not_processed:
            return "interrupted", interruption.exit_code
        if self.too_many_failed and self.not_processed:
            console.error(
                f"stopped by --max-errors after {quantity(self.report.failed, 'failure')}: "
                "mend their cause, then run the same command with --resume"
            )
            return "stopped", 1
        return "complete", 1 if self.not_processed else self.report.exit_code

    def results(self, stop: Callable[[], bool]) -> Generator[ImageResult, None, None]:
        """What becomes of each photo, by the engine that was asked for."""
        plan = self.plan
        options_for = partial(
            batch_options.options_for,
            batch_size=plan.batch_size,
            workers=plan.workers,
            exif=plan.exif,
            max_pixels=plan.max_pixels or MAX_PIXELS,
        )
        if plan.engine.name == "ray":
            return ray_results(plan, self.provenance, options_for, stop)
        device = str(self.segmenter.model.device)
        options = options_for(device, available_cores(), len(plan.own_images))
        return batch.run(plan.own_images, self.segmenter, plan.output, options, stop)

    def show(self, result: ImageResult) -> None:
        path = result.image.name
        if result.status == "failed":
            console.error(f"{printable(path)}: {printable(result.reason)}")
        elif self.window is not None:
            overlay = self.plan.output.targets(result.image.rel)[OVERLAY]
            try:
                self.window.show(read_image(overlay).pixels, printable(path))
            except InputError as error:  # the results are whole without: too large, or damaged
                console.warning(f"not shown: {printable(str(error))}")
        if not self.plan.as_json:
            return
        record: dict[str, Any] = {"path": path, "status": result.status}
        if result.entry is None:
            record["error"] = result.reason
        else:
            record |= {
                "width": result.entry.width,
                "height": result.entry.height,
                "files": self.plan.output.targets(result.image.rel),
                "classes": areas_record(areas_of(result.entry, self.segmenter.vocabulary)),
                "seconds": round(result.seconds, 4),
            }
        console.json_line(record)

    def finish(self, status: str) -> bool:
        """Write the tables and run.json of what is finished; returns whether that worked."""
        output = self.plan.output
        try:
            output.settle()
            self.totals = output.write_tables(self.plan.images, self.segmenter.vocabulary)
            described = self.describe(status)
            output.write_report(described)
            if self.part is not None:
                self.part.end(described)
        except OutputError as error:
            console.trace(error)
            console.error(f"{error}\n{remedy_of(error, _AGAIN)}")
            return False
        return True

    def export(self) -> None:
        """Write the formats of other programs, if any were asked for and there are results."""
        root = self.plan.output.root
        if self.plan.formats and self.report.done + self.report.skipped:
            limit = self.plan.max_pixels or MAX_PIXELS  # of this run, whoever made the folder
            exports = root / EXPORTS
            write_formats(root, self.plan.formats, exports, ExportOptions(), limit, wait=True)

    def tell_outdated(self) -> None:
        """Say what tells of the results as they were before this run."""
        if self.report.done and not self.plan.destination.is_store:
            formats = {entry.name for entry in self.plan.formats}
            older = outdated(self.plan.output.root, formats)
            if older:
                console.note(f"made before this run, so that they lack it: {', '.join(older)}")

    @cached_property
    def most_failures(self) -> float:
        """How many failures end the run."""
        limit = self.plan.max_errors
        return float("inf") if limit is None else limit.of(len(self.plan.own_images))

    @property
    def too_many_failed(self) -> bool:
        return self.report.failed >= self.most_failures

    @property
    def not_processed(self) -> int:
        report = self.report
        return len(self.plan.own_images) - report.done - report.skipped - report.failed

    def say_end(self, status: str) -> None:
        """The table of the classes found, and one line on how it went."""
        console.table(
            "Classes found",
            ("class", "id", "share", "photos"),
            (
                (total.name, str(total.class_id), percentage(total.fraction), str(total.images))
                for total in sorted(self.totals, key=lambda total: -total.pixels)
                if total.pixels
            ),
        )
        report = self.report
        parts = [f"{report.done} done"]
        if report.skipped:
            parts.append(f"{report.skipped} finished earlier")
        if report.failed:
            parts.append(f"{report.failed} failed")
        if self.not_processed:
            parts.append(f"{self.not_processed} not begun")
        seconds = self.run_seconds
        speed = f", {report.done / seconds:.1f} a second" if report.done and seconds else ""
        console.note(f"{', '.join(parts)} in {seconds:.1f} s{speed}: {self.plan.destination.where}")
        if status == "interrupted":
            console.note("interrupted: to go on, run the same command with --resume")

    @cached_property
    def run_seconds(self) -> float:
        """Wall time from the loaded model to the end."""
        return time.perf_counter() - self.loaded

    def describe(self, status: str) -> dict[str, Any]:
        """The contents of run.json."""
        plan, report = self.plan, self.report
        head = self.provenance.report(
            status,
            plan.arguments,
            exif=plan.exif,
            batch_size=plan.batch_size,
            workers=plan.workers,
            shard=str(plan.shard) if plan.shard else None,
        )
        return {
            **head,
            "timing": {
                "started": moment(self.started),
                "load_seconds": round(self.load_seconds, 3),
                "run_seconds": round(self.run_seconds, 3),
                "photos_per_second": round(report.done / max(self.run_seconds, 1e-9), 3),
            },
            "counts": {
                "inputs": len(plan.own_images),
                "done": report.done,
                "skipped": report.skipped,
                "failed": report.failed,
                "not_processed": self.not_processed,
            },
            "failures": [{"path": path, "reason": reason} for path, reason in report.failures],
        }
