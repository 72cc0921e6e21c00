"""What is noted of a clip while its results are made, and the parts of its videos.

It lies in OUT/.ovseg/clips/CLIP. From it a run that was interrupted goes on; when the clip has
come to its end it goes.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from ovseg_cli.clips.records import FrameRecord
from ovseg_cli.json_files import read_json
from ovseg_cli.media.video_parts import count_pictures
from ovseg_cli.whole_files import atomic_path, output_errors

NUMBER = "{:06d}"  # of a frame, in file names


@dataclass(frozen=True)
class Origin:
    """What a clip's results were made from; they go on only from the same."""

    source: str
    size: int  # of the file, bytes; -1 where there is none
    modified_ns: int  # of a folder: a number that changes with its pictures
    run: str  # fingerprint of the model and of the options that a frame's labels depend on
    extent: str = ""  # the other options: where the clip ends, what is saved

    def has_the_labels_of(self, told: object) -> bool:
        """Whether a frame has the same labels in the results of another run, if it is in both.

        told: the other run's origin as it was noted; anything else is not the same.
        """
        return isinstance(told, dict) and {**told, "extent": self.extent} == asdict(self)


class ClipState:
    """The folder of one clip."""

    def __init__(self, folder: Path, classes: int) -> None:
        self.folder = folder
        self._classes = classes
        self._origin = folder / "origin.json"
        self._kept = folder / "kept.json"  # names of --save whose files are an earlier run's
        self._journal = folder / "frames.jsonl"
        self._records: TextIO | None = None  # the journal, once it is written to

    @property
    def holds_frames(self) -> bool:
        """Whether an earlier run has noted any."""
        return self._journal.exists() and self._journal.stat().st_size > 0

    @property
    def is_open(self) -> bool:
        """Whether frames can be noted: after `begin` or `go_on`."""
        return self._records is not None

    def origin(self) -> Any:
        """That of what is here, as it was noted; None where it is not."""
        with contextlib.suppress(OSError, ValueError):
            return read_json(self._origin)
        return None

    def kept(self) -> list[str]:
        """The names in --save whose files are still those of an earlier run."""
        with contextlib.suppress(OSError, ValueError):
            kept = read_json(self._kept)
            return kept if isinstance(kept, list) else []
        return []

    def records(self) -> Iterator[FrameRecord]:
        """The frames that are written, in order; raises ValueError where they are damaged."""
        with contextlib.suppress(FileNotFoundError), self._journal.open(encoding="utf-8") as lines:
            for line in lines:
                if not line.endswith("\n"):  # cut off by a kill
                    return
                yield FrameRecord.of(line, self._classes)

    def usable(self, origin: Origin, videos: Collection[str]) -> list[FrameRecord]:
        """Of the frames that a run of the same origin has written those to go on from."""
        with contextlib.suppress(OSError, ValueError):
            if read_json(self._origin) == asdict(origin):
                records = list(self.records())
                counts = [self._written(name) for name in videos]
                return records[: min([len(records), *counts])]
        return []

    def begin(self, origin: Origin, kept: Sequence[str]) -> None:
        """Get ready to note the first frame; see `kept`. Raises OutputError."""
        with output_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._kept.write_text(json.dumps(kept), "utf-8")
            self._origin.write_text(json.dumps(asdict(origin)), "utf-8")
            self._records = self._journal.open("a", encoding="utf-8")

    def go_on(self, records: Sequence[FrameRecord], videos: Collection[str]) -> None:
        """Leave nothing but these frames in the videos' parts and in the journal."""
        for name in videos:
            for first, path in self.parts(name):
                if first >= len(records):
                    path.unlink()
        with (
            atomic_path(self._journal) as temporary,  # a full disk must not cost what is noted
            temporary.open("w", encoding="utf-8") as journal,
        ):
            journal.writelines(record.line() for record in records)
        self._records = self._journal.open("a", encoding="utf-8")

    def note(self, record: FrameRecord) -> None:
        """Add a frame; raises OutputError."""
        assert self._records is not None
        with output_errors(self._journal):
            self._records.write(record.line())
            self._records.flush()

    def close(self) -> None:
        """Let go of the journal."""
        with contextlib.suppress(OSError):  # what could not be flushed was told by `note`
            if self._records is not None:
                self._records.close()

    def part(self, name: str, first: int) -> Path:
        """Where the part of a video goes that begins with the frame of this number."""
        return self.folder / f"{name}-{NUMBER.format(first)}"

    def parts(self, name: str) -> list[tuple[int, Path]]:
        """The number of the first frame of each part that is there, and the part."""
        files = self.folder.glob(f"{name}-*")
        return sorted((int(path.name.rpartition("-")[2]), path) for path in files)

    def _written(self, name: str) -> int:
        """How many frames can be read of a video's parts."""
        parts = self.parts(name)
        if not parts:
            return 0
        first, path = parts[-1]  # the earlier ones were whole up to where the next one begins
        return first + count_pictures(path)

    def discard(self) -> None:
        """Remove it, as far as possible: the clip has come to its end."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # other clips are under way, or photos have results
            self.folder.parent.rmdir()
            self.folder.parent.parent.rmdir()
