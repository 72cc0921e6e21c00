"""The work of `ovseg video` once all options are checked."""

from __future__ import annotations

from contextlib import ExitStack

from ovseg_cli.batch import options as batch_options
from ovseg_cli.cli import console
from ovseg_cli.cli.interruption import Interruption
from ovseg_cli.cli.video_clip import Clip
from ovseg_cli.cli.video_plan import Plan
from ovseg_cli.cli.vocabulary_echo import warn_of_other
from ovseg_cli.clips.names import clip_names
from ovseg_cli.cores import available_cores, keep_freed_memory, share_cores
from ovseg_cli.errors import OutputError, UsageError
from ovseg_cli.media.window import Window
from ovseg_cli.printable import printable
from ovseg_cli.run_folder import tables
from ovseg_cli.run_folder.run_lock import holding


def execute(plan: Plan) -> int:
    """Segment the clips; returns the exit code.

    Raises UsageError where another run is at work on one of them.
    """
    with ExitStack() as held:
        for name in clip_names(plan.clips):
            held.enter_context(holding(plan.out, f"clip-{name}"))
        return _execute(plan)


def _execute(plan: Plan) -> int:
    window = Window() if plan.show else None
    streams = batch_options.auto_streams("cpu", available_cores())
    share_cores(streams)  # before torch is imported
    keep_freed_memory()
    segmenter = plan.compute.segmenter(plan.vocabulary, other=plan.other, threshold=plan.threshold)
    model = segmenter.model
    console.note(f"model {model.name} on {model.device} ({model.precision})")
    warn_of_other(model, plan.other, plan.compute.rivals)
    try:
        _write_classes(plan)
    except OutputError as error:
        raise UsageError(str(error)) from error
    code = 0
    with Interruption() as interruption:
        for source, name in zip(plan.clips, clip_names(plan.clips), strict=True):
            if window is not None and not window.is_open:  # that ended the clip before
                window = _another_window()
            clip = Clip(plan, segmenter, source, name, interruption, window)
            code = max(code, clip.execute())
            if clip.last:
                break
    if window is not None:
        window.close()
    return code


def _another_window() -> Window | None:
    """For the next clip, which goes on without where the screen is gone by now."""
    try:
        return Window()
    except UsageError as error:
        console.warning(str(error))
        return None


def _write_classes(plan: Plan) -> None:
    """Write classes.json. Raises OutputError.

    Results of these clips for other names go before: of those that are not come to they would stay.
    """
    if tables.holds_other_names(plan.out, plan.labelled):
        for folder in map(plan.folder, clip_names(plan.clips)):
            if plan.resume and folder.holds_results():
                shown = printable(folder.clip)
                console.note(f"{shown}: begins anew: its results are for other names")
            folder.remove()
    tables.write_classes(plan.out, plan.labelled)
