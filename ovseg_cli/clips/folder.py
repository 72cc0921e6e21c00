"""The files of one clip: written in parts that survive a kill, put together in the end."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from ovseg_cli.clips.names import is_clip_name
from ovseg_cli.clips.records import FrameRecord, write_tables
from ovseg_cli.clips.removal import is_folder, remove_file, remove_frames, remove_whole
from ovseg_cli.clips.state import NUMBER, ClipState, Origin
from ovseg_cli.clips.timeline import draw_timeline
from ovseg_cli.clips.videos import LABELS_VIDEO, ClipVideos
from ovseg_cli.errors import UsageError
from ovseg_cli.exports import LABELS, OVERLAY, UNLABELED_16, WRITERS, write_png
from ovseg_cli.frame import Frame
from ovseg_cli.json_files import read_json, write_json
from ovseg_cli.links import refuse_links
from ovseg_cli.media.video_parts import Sound
from ovseg_cli.printable import printable
from ovseg_cli.run_folder.layout import CLIPS, PARENTS, REPORT
from ovseg_cli.run_folder.layout import STATS as STATS_FILE
from ovseg_cli.run_folder.noted_areas import noted
from ovseg_cli.run_folder.tables import STATS
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.whole_files import output_errors

TIMELINE = "timeline"  # name in --save
SAVES = (OVERLAY, LABELS, LABELS_VIDEO, STATS, TIMELINE, "palette", "masks", "confidence")
_SUFFIXES = {
    OVERLAY: "overlay.mp4",
    LABELS_VIDEO: "labels.mkv",
    STATS: STATS_FILE,
    TIMELINE: "timeline.png",
}  # of others: their name, a folder with a result of each frame


def check_saves(names: Sequence[str], vocabulary: Vocabulary) -> None:
    """Raise UsageError for what cannot be written."""
    for name in names:
        if name not in SAVES:
            known = ", ".join(SAVES)
            raise UsageError(f"--save does not know '{printable(name)}'; there are: {known}")
        if name in WRITERS:
            WRITERS[name].check(vocabulary)
    if LABELS in names and LABELS_VIDEO in names:
        raise UsageError(f"{LABELS} and {LABELS_VIDEO} exclude each other")
    if LABELS_VIDEO in names and len(vocabulary) > UNLABELED_16:
        raise UsageError(f"--save {LABELS_VIDEO} holds at most {UNLABELED_16} classes")


class ClipFolder:
    """Where the results of the clip CLIP go: OUT/CLIP.*."""

    def __init__(self, out: Path, clip: str, saves: Sequence[str], vocabulary: Vocabulary) -> None:
        assert is_clip_name(clip)  # what is removed is below OUT
        self.out = out
        self.clip = clip
        self.saves = tuple(saves)
        self.vocabulary = vocabulary
        self.count = 0  # frames that are written
        self._state = ClipState(out / CLIPS / clip, len(vocabulary))
        self._videos = ClipVideos(saves, vocabulary, self._state, self._target)
        self._origin: Origin | None = None
        self._rate = Fraction(0)
        self._metadata: dict[str, str] = {}
        self._begin = 0.0  # seconds of the first frame that is written
        self._earlier = -1  # index of the last frame that an earlier run has written
        self._anew = False  # whether results of an earlier run go, whatever they are

    @property
    def report(self) -> Path:
        """Where run.json of the clip goes."""
        return self._file(REPORT)

    def targets(self) -> dict[str, Path]:
        """What is written: name in --save -> file or folder."""
        return {name: self._target(name) for name in self.saves}

    def _target(self, name: str) -> Path:
        return self._file(_SUFFIXES.get(name, name))

    def _file(self, suffix: str) -> Path:
        return self.out / f"{self.clip}.{suffix}"

    def places(self) -> list[Path]:
        """All files and folders that a run may write or remove."""
        return [*map(self._target, SAVES), self._file(PARENTS), self.report, self._state.folder]

    def holds_results(self) -> bool:
        """Whether an earlier run has written frames here; one that failed before has not."""
        targets = [self._target(name) for name in SAVES]
        return self._state.holds_frames or any(path.exists() for path in targets)

    def finished(self, origin: Origin, *, audio: bool) -> bool:
        """Whether an earlier run with the same origin has come to the clip's end.

        audio: whether the sound goes along, which frames do not depend on.
        """
        try:
            told = read_json(self.report)
        except (OSError, ValueError):
            return False
        told = told if isinstance(told, dict) else {}
        options = told.get("options")
        return (
            told.get("status") == "complete"
            and told.get("origin") == asdict(origin)
            and told.get("outputs") == self._outputs()
            and self._has_parents_of(told)
            and isinstance(options, dict)
            and options.get("audio") == audio
        )

    def _outputs(self) -> dict[str, int]:
        """What there is of each target: bytes of a file, of all files in a folder; -1 for none."""
        return {name: _bytes(target) for name, target in self.targets().items()}

    def _has_parents_of(self, told: dict[str, Any]) -> bool:
        """Whether the table of kinds is right; runs that noted none of them have one or not."""
        if "parents" in told:
            return told["parents"] == self._parents()
        return bool(self._parents()) == self._file(PARENTS).exists()

    def _parents(self) -> list[list[str]]:
        """What classes are kinds of, by id, where a table tells; frames do not depend on that."""
        parents = self.vocabulary.parents
        return list(map(list, parents)) if STATS in self.saves and any(parents) else []

    def remove(self) -> None:
        """Remove what an earlier run has written of this clip, nothing else. Raises OutputError."""
        refuse_links(self.out, self._state.folder)
        # First what tells of the rest: after a kill here nobody must go on from what is gone.
        self._forget()
        for name in SAVES:
            target = self._target(name)
            if name not in _SUFFIXES and is_folder(target):
                remove_frames(target, WRITERS[name].suffix)
            else:
                remove_file(target)
        remove_file(self._file(PARENTS))

    def _forget(self) -> None:
        """Remove what is noted of an earlier run, but not its results. Raises OutputError."""
        remove_file(self.report)
        remove_whole(self._state.folder)

    def open(
        self, origin: Origin, metadata: dict[str, str], rate: Fraction, *, anew: bool = False
    ) -> int:
        """Get ready to begin, or to go on where a run of the same origin was interrupted.

        metadata goes into every label map; rate: pictures a second in the videos, about; anew: do
        not go on. Returns how many frames are written already: as many as can be read in all of
        the parts. What else an earlier run has left stays until the first frame is written. Raises
        OutputError.
        """
        self._metadata, self._rate, self._origin = metadata, rate, origin
        self._anew = anew
        # Where all is begun anew even a link in the place of a folder of frames is removed.
        framed = () if anew else set(self.saves).difference(_SUFFIXES)
        folders = map(self._target, framed)
        state = self._state.folder
        for path in (*folders, state, *state.glob("*")):
            refuse_links(self.out, path)
        with output_errors(state):
            state.mkdir(parents=True, exist_ok=True)
            records = [] if anew else self._state.usable(origin, self._videos.names)
            if records:
                self._state.go_on(records, self._videos.names)
                self.count = len(records)
                self._begin, self._earlier = records[0].seconds, records[-1].index
        return self.count

    def _begin_anew(self) -> None:
        """Make place for the first frame, which is there now. Raises OutputError.

        Results of the same labels, of more or fewer frames or in other forms, stay until this run
        has its own to put there.
        """
        assert self._origin is not None
        stays = not self._anew and self._origin.has_the_labels_of(self._told_origin())
        kept = [name for name in self.saves if self._target(name).is_file()] if stays else []
        if stays:
            self._forget()
        else:
            self.remove()
        self._state.begin(self._origin, kept)

    def _told_origin(self) -> Any:
        """The origin of what an earlier run has left, as it was noted; None where it is not."""
        noted = self._state.origin()
        if noted is not None:
            return noted
        with contextlib.suppress(OSError, ValueError):
            told = read_json(self.report)
            return told.get("origin") if isinstance(told, dict) else None
        return None

    def source(self) -> str | None:
        """The clip of an earlier run, as that noted it; None where nothing tells of one."""
        told = self._told_origin()
        source = told.get("source") if isinstance(told, dict) else None
        return source if isinstance(source, str) else None

    def why_anew(self, origin: Origin) -> str:
        """Why there is nothing to go on from, though an earlier run has left results."""
        if self._told_origin() != asdict(origin):
            return "the clip, the model or an option has changed"
        if self._state.holds_frames:
            return "nothing of what was done can be read back"
        return f"its results are not what was left in {self.out}"

    def records(self) -> Iterator[FrameRecord]:
        """The frames that are written, in order."""
        return self._state.records()

    def has(self, frame: Frame) -> bool:
        """Whether an earlier run has written a frame."""
        return frame.index <= self._earlier

    def write(self, frame: Frame, segmentation: Segmentation, held: bool) -> None:
        """Add a frame, unless an earlier run has written it. Raises OutputError.

        held: the labels are those of an earlier frame.
        """
        if self.has(frame):
            return
        if not self._state.is_open:
            self._begin_anew()
        if self.count == 0:
            self._begin = frame.seconds
        self._videos.write(self.count, self._rate, frame, segmentation)
        number = NUMBER.format(frame.index + 1)
        for name in self.saves:
            if name in WRITERS and name not in self._videos.names:
                writer = WRITERS[name]
                target = self._target(name) / f"{number}{writer.suffix}"
                writer.write(target, frame, segmentation, self._metadata)
        areas = None if held else noted(segmentation.areas())
        self._state.note(FrameRecord(frame.index, frame.seconds, segmentation.labels.size, areas))
        self.count += 1

    def close(self) -> None:
        """End the parts. Raises OutputError."""
        self._state.close()
        self._videos.close()

    def finish(
        self,
        sound: str | None = None,
        zero: float = 0.0,
        pixel_aspect: Fraction = Fraction(1),
        *,
        whole: bool = True,
        end: float | None = None,
        cut: float = math.inf,
    ) -> None:
        """Put together what is written so far; of no frames there is nothing.

        sound: the video whose sound goes along; zero: what its time stamps are at the clip's first
        frame, seconds; pixel_aspect: width to height of its pixels; whole: whether the clip came to
        its end. Where it did not, files of an earlier run with the same labels stay as they are.
        end: seconds in the clip until which its last picture is shown, its sound as long as it
        goes on, but not beyond `cut`; None = one frame at the usual rate, the sound with it. Raises
        OutputError.
        """
        self.close()
        if not self.count:
            return
        names = [name for name in self.saves if whole or name not in self._state.kept()]
        videos = [name for name in self._videos.names if name in names]
        self._join(videos, sound, zero, pixel_aspect, end, cut)
        if STATS in names:
            write_tables(self._target(STATS), self._file(PARENTS), self.records, self.vocabulary)
        if TIMELINE in names:
            picture = draw_timeline(self.records, self.vocabulary)
            write_png(self._target(TIMELINE), Image.fromarray(picture), self._metadata)
        if whole:
            self._remove_other_frames()

    def _remove_other_frames(self) -> None:
        """Remove what is not of this run's frames, or was half written when it was killed.

        Raises OutputError.
        """
        numbers = {NUMBER.format(record.index + 1) for record in self.records()}
        for name in set(self.saves).difference(_SUFFIXES):
            if is_folder(self._target(name)):
                remove_frames(self._target(name), WRITERS[name].suffix, numbers)

    def _join(
        self,
        names: Sequence[str],
        sound: str | None,
        zero: float,
        pixel_aspect: Fraction,
        end: float | None,
        cut: float,
    ) -> None:
        written = itertools.islice(self.records(), self.count)
        seconds = [record.seconds - self._begin for record in written]
        length = None if end is None else end - self._begin
        heard = None
        if sound is not None:
            usual = self._begin + seconds[-1] + float(1 / self._rate)
            heard = Sound(sound, zero, self._begin, usual if end is None else cut)
        for name in names:
            self._videos.join(name, seconds, length, heard, pixel_aspect)

    def write_report(self, values: dict[str, Any], origin: Origin) -> None:
        """Write run.json; where its "status" is "complete" the parts go. Raises OutputError."""
        made = {"outputs": self._outputs(), "parents": self._parents(), "origin": asdict(origin)}
        write_json(self.report, {**values, **made})
        if values["status"] == "complete":
            self._state.discard()


def _bytes(target: Path) -> int:
    try:
        if target.is_dir():
            return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        return target.stat().st_size
    except OSError:
        return -1
