"""One clip of `ovseg video` on its way: its frames, labels, files and report."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovseg_cli.batch import options as batch_options
from ovseg_cli.cli import console
from ovseg_cli.cli.interruption import Interruption
from ovseg_cli.cli.provenance import Provenance, areas_record, moment
from ovseg_cli.cli.video_plan import Plan
from ovseg_cli.clips import run as clip_run
from ovseg_cli.clips.live import Live
from ovseg_cli.clips.names import is_stream
from ovseg_cli.clips.overlay import ClipOverlay
from ovseg_cli.clips.past import past_frames
from ovseg_cli.clips.state import Origin
from ovseg_cli.cores import available_cores
from ovseg_cli.errors import InputError, OutputError
from ovseg_cli.exports import OVERLAY
from ovseg_cli.failures import is_run_wide, reason_of, remedy_of
from ovseg_cli.frame import Frame
from ovseg_cli.media.camera import CAMERA
from ovseg_cli.media.inputs import InputState
from ovseg_cli.media.numbered_pictures import pictures_version
from ovseg_cli.media.video import open_video
from ovseg_cli.media.video_source import Video, without_credentials
from ovseg_cli.media.window import Window
from ovseg_cli.printable import printable, quantity

if TYPE_CHECKING:
    from ovseg_cli.segmenter import Segmenter


class Clip:
    """One clip on its way."""

    def __init__(
        self,
        plan: Plan,
        segmenter: Segmenter,
        source: str,
        name: str,
        interruption: Interruption,
        window: Window | None,
    ) -> None:
        self.plan = plan
        self.segmenter = segmenter
        self.source = source
        self.shown = without_credentials(source)  # in messages and records
        self.name = name
        self.interruption = interruption
        self.window = window
        self.provenance = Provenance(
            segmenter, plan.compute, plan.vocabulary, plan.other, plan.threshold
        )
        self.folder = plan.folder(name)
        self.started = time.time()  # for the record; clocks may be set back
        self.clock = time.perf_counter()  # the same moment
        self.segmented = self.before = self.dropped = 0  # frames
        self.about: dict[str, Any] = {"source": self.shown}
        self.reason = ""  # why it failed
        self.last = False  # whether no other clip is begun
        self.overlay: ClipOverlay | None = None
        self.remedy = "run the same command with --resume"  # to go on after what ended it
        if plan.overwrite:
            self.remedy += " instead of --overwrite"
        if is_stream(source):
            self.remedy = "begin anew with --overwrite, or into another folder with -o"

    def execute(self) -> int:
        """Returns the exit code."""
        status, code, origin = "failed", 1, None
        try:
            origin = self.origin()
            if self.plan.resume and self.folder.finished(origin, audio=self.plan.audio):
                console.note(f"{printable(self.shown)}: finished earlier")
                return 0
            with open_video(self.source, self.stopped) as video:
                status, code = self.work(video, origin)
                self.finish(video, status, origin)
        except Exception as error:  # the other clips are still to be done
            console.trace(error)
            if isinstance(error, InputError) and self.interruption.requested():  # it broke off
                status, code = self.interrupted()
            else:
                status, code = "failed", 1
                self.fail(reason_of(error, self.shown, kind="clip"))
                self.last = isinstance(error, OutputError) and is_run_wide(error)
            if isinstance(error, OutputError):
                console.note(remedy_of(error, self.remedy))
            elif origin is not None:
                self.note_nothing(status, origin)
        self.say_end(status)
        return code

    def interrupted(self) -> tuple[str, int]:
        """How the run ends after a signal, and its exit code."""
        self.last = True
        return "interrupted", self.interruption.exit_code

    def note_nothing(self, status: str, origin: Origin) -> None:
        """Leave a run.json that says why there is nothing else, if there is not."""
        if self.folder.holds_results():
            return
        try:
            self.folder.write_report(self.describe(status), origin)
        except OutputError as error:
            console.error(str(error))

    def origin(self) -> Origin:
        plan = self.plan
        # Where the clip ends changes nothing of the frames before that.
        labels = {**vars(plan.choice), "end": None, "most": None}
        run = self.provenance.fingerprint(choice=labels, smooth=plan.smooth)
        extent = json.dumps([plan.choice.end, plan.choice.most, sorted(plan.saves)])
        if is_stream(self.source):
            return Origin(self.shown, -1, 0, run, extent)
        path = Path(self.source)
        state = InputState.of(path)
        size, version = state.size, state.modified_ns
        if path.is_dir():
            size, version = pictures_version(path)
        return Origin(state.path, size, version, run, extent)

    def work(self, video: Video, origin: Origin) -> tuple[str, int]:
        """Go through the frames; returns how that ended and the exit code."""
        metadata = self.provenance.metadata()
        held, anew = self.folder.holds_results(), self.plan.overwrite
        self.before = self.folder.open(origin, metadata, video.info.rate, anew=anew)
        if self.before:
            console.note(f"{printable(self.shown)}: goes on after {quantity(self.before, 'frame')}")
        elif held and not anew:
            console.note(f"{printable(self.shown)}: begins anew: {self.folder.why_anew(origin)}")
        device = str(self.segmenter.model.device)
        options = clip_run.RunOptions(
            batch_size=self.plan.batch_size or batch_options.auto_batch_size(device),
            streams=batch_options.auto_streams(device, available_cores()),
        )
        frames = self.frames(video)
        results = clip_run.run(frames, self.labeller(), self.folder, options, self.stopped)
        bar = console.progress(self.expected(video), unit="frame")
        try:
            # An error would keep `frames` reading until after the video is closed.
            with closing(frames), closing(results), bar as progress:
                for result in results:
                    if not self.folder.has(result.frame):  # else segmented for its effect on others
                        self.show(result)
                        progress.advance()
        except BrokenPipeError:
            console.close_output()
            self.last = True
            return "interrupted", console.BROKEN_PIPE
        except OutputError:
            raise
        except Exception as error:  # what is written is kept
            if not self.folder.count:
                raise
            console.trace(error)
            self.fail(reason_of(error, self.shown, kind="clip"))
            return "failed", 1
        if self.interruption.requested():
            return self.interrupted()
        if self.stopped() and not is_stream(self.source):  # its window was closed
            return "interrupted", 0
        if not self.folder.count:
            raise InputError(f"{printable(self.shown)}: no frame lies in the part asked for")
        return "complete", 0

    def labeller(self) -> clip_run.Labeller:
        if not self.plan.smooth:
            return clip_run.EachForItself(self.segmenter)
        from ovseg_cli.clips.smoothing import SmoothLabels

        return SmoothLabels(self.segmenter, self.plan.smooth)

    def stopped(self) -> bool:
        closed = self.window is not None and not self.window.is_open
        return self.interruption.requested() or closed

    def expected(self, video: Video) -> int:
        """Frames that will be written, about; 0 where nobody knows."""
        choice = self.plan.choice
        whole = choice.start == 0 and choice.end is None and choice.most is None and choice.hold
        return max(0, (video.info.frames or 0) - self.before) if whole else 0

    def frames(self, video: Video) -> Generator[tuple[Frame, bool], None, None]:
        """Those to be labelled: where a clip goes on a few more, for their effect on the next."""
        choice = self.plan.choice
        frames: Iterable[Frame] = video.frames(choice.start)
        live: Live | None = None
        drop = self.plan.drops(self.source)
        if drop or self.source.startswith(CAMERA):
            frames = live = Live(frames, self.stopped, drop=drop)
        try:
            past = past_frames(islice(self.folder.records(), self.before), self.plan.smooth)
            chosen = clip_run.of_one_size(choice.of(frames))
            for position, (frame, due) in enumerate(chosen):
                if position == 0:
                    height, width = frame.size_hw
                    self.about |= {"width": width, "height": height}
                if position >= self.before or due and frame.index in past:
                    yield frame, due
        finally:
            if live is not None:
                live.close()
                self.dropped = live.dropped

    def show(self, result: clip_run.FrameResult) -> None:
        self.segmented += not result.held
        frame = result.frame
        if self.window is not None:
            if self.overlay is None:
                self.overlay = ClipOverlay(self.segmenter.vocabulary, frame.size_hw)
            title = f"{printable(self.shown)} {frame.seconds:.2f} s"
            self.window.show(self.overlay.draw(frame, result.segmentation), title)
        if self.plan.as_json:
            console.json_line(
                {
                    "clip": self.shown,
                    "frame": frame.index + 1,
                    "seconds": round(frame.seconds, 6),
                    "held": result.held,
                    "classes": areas_record(result.segmentation.areas()),
                }
            )

    def finish(self, video: Video, status: str, origin: Origin) -> None:
        """Put the clip's files together. Raises OutputError."""
        self.about |= {"frames_per_second": round(float(video.info.rate), 6)}
        sound, whole = self.sound(video, origin), status == "complete"
        choice = self.plan.choice
        end = video.end if whole and choice.most is None else None
        cut = math.inf if choice.end is None else choice.end
        end = None if end is None else min(end, cut)
        self.folder.finish(sound, video.zero, video.pixel_aspect, whole=whole, end=end, cut=cut)
        if self.folder.count:
            self.folder.write_report(self.describe(status), origin)
        else:
            self.note_nothing(status, origin)

    def sound(self, video: Video, origin: Origin) -> str | None:
        """The file whose sound goes along: the clip, if it is still the one that was read."""
        wanted = self.plan.audio and OVERLAY in self.plan.saves and video.info.has_audio
        if not wanted:
            return None
        if is_stream(self.source):
            console.note(
                f"{printable(self.shown)}: its sound is left out, for it cannot be read again: to "
                "keep it, name a file"
            )
            return None
        if self.origin() != origin:
            console.warning(
                f"{printable(self.shown)}: it has changed while it was read: its sound is left out"
            )
            return None
        return self.source

    def describe(self, status: str) -> dict[str, Any]:
        """The contents of run.json."""
        plan, seconds = self.plan, time.perf_counter() - self.clock
        head = self.provenance.report(
            status,
            plan.arguments,
            **vars(plan.choice),
            smooth=plan.smooth,
            audio=plan.audio,
            batch_size=plan.batch_size,
        )
        return {
            **head,
            "clip": self.about,
            "timing": {
                "started": moment(self.started),
                "run_seconds": round(seconds, 3),
                "frames_per_second": round(self.segmented / max(seconds, 1e-9), 3),
            },
            "counts": {
                "written": self.folder.count,
                "of_earlier_runs": self.before,
                "segmented": self.segmented,
                "dropped": self.dropped,
            },
            "failure": self.reason or None,
        }

    def fail(self, reason: str) -> None:
        self.reason = reason
        named = reason if printable(self.shown) in reason else f"{self.shown}: {reason}"
        console.error(printable(named))

    def say_end(self, status: str) -> None:
        if self.folder.count:
            self.say_result(status)
        if status == "interrupted":
            console.note(f"interrupted: to go on, {self.remedy}")

    def say_result(self, status: str) -> None:
        seconds = time.perf_counter() - self.clock
        most = self.plan.choice.most
        if status == "complete" and most is not None and self.segmented < most and not self.before:
            console.note(
                f"the clip ended after {self.segmented} of at most {quantity(most, 'frame')}"
            )
        speed = f", {self.segmented / seconds:.1f} a second" if self.segmented else ""
        lost = f", {self.dropped} dropped" if self.dropped else ""
        console.note(
            f"{printable(self.shown)}: {quantity(self.folder.count, 'frame')} in {seconds:.1f} s"
            f"{speed}{lost}: {printable(str(self.plan.out / self.name))}.*"
        )
