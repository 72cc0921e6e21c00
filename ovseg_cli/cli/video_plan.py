"""What `ovseg video` was asked for, and whether that can be done."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ovseg_cli.cli import console
from ovseg_cli.cli.compute import Compute
from ovseg_cli.clips.choice import Choice
from ovseg_cli.clips.folder import ClipFolder
from ovseg_cli.clips.names import clip_names, is_clip_name, is_stream
from ovseg_cli.errors import UsageError
from ovseg_cli.media.camera import CAMERA
from ovseg_cli.media.inputs import is_gone
from ovseg_cli.media.video import check_source
from ovseg_cli.media.video_source import without_credentials
from ovseg_cli.printable import printable, some_of
from ovseg_cli.run_folder.journal import Journal
from ovseg_cli.run_folder.layout import CLASSES, CLIPS, REPORT, STATE
from ovseg_cli.run_folder.tables import holds_other_names
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.whole_files import require_writable


@dataclass(frozen=True)
class Plan:
    """All that a run was asked for."""

    clips: Sequence[str]
    vocabulary: Vocabulary  # without `other`
    other: str | None
    threshold: float | None
    out: Path
    saves: Sequence[str]
    choice: Choice
    smooth: float  # strength; 0 = each frame for itself
    audio: bool
    live: str | None  # "drop" or "wait"; None = by source
    resume: bool
    overwrite: bool
    compute: Compute
    batch_size: int | None  # None = by device
    as_json: bool
    show: bool
    arguments: tuple[str, ...]  # of the command line

    def drops(self, source: str) -> bool:
        """Whether frames for which there is no time are dropped."""
        return self.live == "drop" or self.live is None and source.startswith(CAMERA)

    @property
    def labelled(self) -> Vocabulary:
        """The names and, if asked for, what is none of them."""
        return self.vocabulary if self.other is None else self.vocabulary.with_class(self.other)

    def folder(self, name: str) -> ClipFolder:
        """Where the results of a clip go."""
        return ClipFolder(self.out, name, self.saves, self.labelled)


def there_of(clips: Sequence[str]) -> list[str]:
    """The clips that are there; of the others a warning tells, for they will fail by name.

    Raises UsageError for what can be no video, and where no clip is there.
    """
    if clips.count("-") > 1:
        raise UsageError("- (a video on standard input) can be given once")
    there = list(filter(_is_there, clips))
    gone = list(itertools.filterfalse(_is_there, clips))
    for source in there or clips:
        check_source(source)
    if gone:  # as a file that vanishes after the shell has listed it: the others are not lost
        console.warning(f"not there, so that they will fail: {some_of(gone)}")
    return there


def _is_there(source: str) -> bool:
    """Whether a clip can be begun, as far as its file tells."""
    return is_stream(source) or not is_gone(source)


def check(plan: Plan) -> None:
    """Before anything is loaded. Raises UsageError."""
    for source in plan.clips:
        if plan.resume and is_stream(source):
            shown = printable(without_credentials(source))
            raise UsageError(f"--resume cannot go on with {shown}: it is over")
        if plan.live is not None and not is_stream(source):
            raise UsageError(f"--live is for cameras and streams, not {printable(source)}")
    require_writable(plan.out)
    _check_names(plan)
    _check_inputs(plan)
    for source, name in zip(plan.clips, clip_names(plan.clips), strict=True):
        if not plan.overwrite and plan.folder(name).holds_results():
            _check_earlier(plan, source, name)


def _check_inputs(plan: Plan) -> None:
    """Raise UsageError where an input lies where results go, which would replace it.

    Or where it is a folder of pictures that results would go into: the next run takes them for its.
    """
    inputs: dict[tuple[int, int], str] = {}  # by what they are and lie in
    out = _identity(plan.out) if plan.out.exists() else None
    for source in itertools.filterfalse(is_stream, plan.clips):
        if os.path.isdir(source) and _identity(Path(source)) == out:
            raise UsageError(
                f"{printable(source)} is an input, and results would lie among its pictures: "
                "-o names another folder"
            )
        for way in (Path(source).absolute(), Path(source).resolve()):
            there = filter(Path.exists, (way, *way.parents))
            inputs |= {_identity(place): source for place in there}
    for name in clip_names(plan.clips):
        for place in filter(Path.exists, plan.folder(name).places()):
            if _identity(place) in inputs:
                raise UsageError(
                    f"{printable(inputs[_identity(place)])} is an input, and results of "
                    f"{printable(name)} go to {printable(str(place))}: -o names another folder"
                )


def _identity(path: Path) -> tuple[int, int]:
    """The same however a path is spelled."""
    state = path.stat()
    return state.st_dev, state.st_ino


def _check_earlier(plan: Plan, source: str, name: str) -> None:
    """Raise UsageError unless the results that are there may be gone on with, or replaced."""
    found = plan.folder(name).source()
    if found is None:
        raise UsageError(
            f"{plan.out} holds results named {printable(name)}, and nothing tells of a run that "
            "wrote them: -o names another folder, --overwrite replaces them"
        )
    stream = is_stream(source)
    if found != (without_credentials(source) if stream else os.path.abspath(source)):
        raise UsageError(
            f"{plan.out} holds results of another clip named {printable(name)}, "
            f"{printable(found)}: -o names another folder, --overwrite replaces them"
        )
    if not plan.resume:
        goes_on = "" if stream else "--resume goes on with it, "
        raise UsageError(
            f"{plan.out} holds results of an earlier run for {printable(name)}: {goes_on}"
            "--overwrite replaces it, -o names another folder"
        )


def _check_names(plan: Plan) -> None:
    """Raise UsageError where classes.json is of other results, and would not fit them any more."""
    if not holds_other_names(plan.out, plan.labelled):
        return
    found = {path.name.removesuffix(f".{REPORT}") for path in plan.out.glob(f"*.{REPORT}")}
    found |= {path.name for path in (plan.out / CLIPS).glob("*") if path.is_dir()}
    # Of a clip that is gone nothing can be made anew: its results are to stay, too.
    named = zip(clip_names(plan.clips), map(_is_there, plan.clips), strict=True)
    others = set(filter(is_clip_name, found)).difference(name for name, there in named if there)
    clips = [name for name in others if plan.folder(name).holds_results()]
    journals = Journal(plan.out / STATE).files()
    photos = (plan.out / REPORT).exists() or any(file.stat().st_size for file in journals)
    if clips or photos:
        told = f"the clip {printable(min(clips))}" if clips else "photos"
        raise UsageError(
            f"{plan.out} holds results of {told} for other names, which {CLASSES} would not fit "
            "any more: -o names another folder"
        )
