"""The folder a run writes: what is in it already, what is finished, where a file goes."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ovseg_cli import tables
from ovseg_cli.errors import OutputError, UsageError
from ovseg_cli.exports import WRITERS, Writer
from ovseg_cli.frame import Frame
from ovseg_cli.journal import Entry, Journal
from ovseg_cli.media.images import ImageInput
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary

STATS = "stats"  # the name in --save for stats.csv and summary.csv; the others are in WRITERS
REPORT = "run.json"
PAGE_FILES = "report-files"  # where `ovseg report` puts the small pictures of its page
EXPORTS = "exports"  # where formats of other programs go, each into a folder of its name


@dataclass(frozen=True)
class InputState:
    """What tells whether an input has changed since it was read."""

    path: str  # absolute
    size: int  # bytes
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "InputState":
        """Look at the file; one that is not there has size -1."""
        try:
            status = path.stat()
        except (OSError, ValueError):
            return cls(os.path.abspath(path), -1, 0)
        return cls(os.path.abspath(path), status.st_size, status.st_mtime_ns)


class OutputFolder:
    """Where a run writes.

    `check` says early whether the folder may be used, `open` makes it. Then each photo goes
    through `is_done` and `save`, and `write_tables` makes the tables of what is finished.
    """

    def __init__(
        self, root: Path, writers: Sequence[Writer], *, stats: bool = True, part: str = ""
    ) -> None:
        self.root = root
        self.writers = writers
        self.journal = Journal(root / ".ovseg", part)  # part: of a run divided by --shard
        self._wants_stats = stats
        self._run = ""
        self._metadata: dict[str, str] = {}

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Raise UsageError where the folder cannot be written or holds results already."""
        place = self.root
        while not os.path.lexists(place):
            place = place.parent
        if not place.is_dir():
            raise UsageError(f"cannot write to {self.root}: {place} is not a folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise UsageError(f"cannot write to {self.root}: no permission to write in {place}")
        if not resume and not overwrite and self.holds_results():
            raise UsageError(
                f"{self.root} holds results of an earlier run: --resume continues it, "
                "--overwrite replaces it, -o names another folder"
            )

    def holds_results(self) -> bool:
        """Whether an earlier run has written here."""
        own_files = (tables.STATS, tables.SUMMARY, tables.PARENTS, tables.CLASSES, REPORT)
        return (
            any((self.root / name).exists() for name in own_files)
            or any(_has_entries(self.root / writer.folder) for writer in WRITERS.values())
            or any(file.stat().st_size for file in self.journal.files())
        )

    def result_folders(self) -> list[Path]:
        """The folders that hold no photos to segment, whether they are there or not."""
        folders = (writer.folder for writer in WRITERS.values())
        return [self.root / name for name in (*folders, PAGE_FILES, EXPORTS)]

    def open(
        self,
        vocabulary: Vocabulary,
        *,
        run: str,
        metadata: dict[str, str],
        overwrite: bool = False,
    ) -> None:
        """Make the folder ready for a run, or for its continuation.

        run is the fingerprint of the model and options, metadata goes into every label map.
        Raises UsageError where the folder cannot be made.
        """
        self._run, self._metadata = run, metadata
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if overwrite:
                self._remove_results()
            tables.write_classes(self.root, vocabulary)
        except OSError as error:
            raise UsageError(f"cannot write to {self.root}: {error.strerror}") from error
        except OutputError as error:
            raise UsageError(str(error)) from error
        self.journal.load()

    def is_done(self, image: ImageInput, state: InputState) -> Entry | None:
        """The entry of an input that needs no work: same file, same run, all outputs in place."""
        entry = self._entry(image, state.path)
        if entry is None or (entry.size, entry.modified_ns) != (state.size, state.modified_ns):
            return None
        whole = all(
            writer.name in entry.files
            and all(_size(self.root / n) == s for n, s in entry.files[writer.name].items())
            for writer in self.writers
        )
        return entry if whole else None

    def targets(self, rel: str) -> dict[str, Path]:
        """What is written for an input: name in --save -> file, or folder of files."""
        return {writer.name: writer.target(self.root, rel) for writer in self.writers}

    def save(
        self, image: ImageInput, state: InputState, frame: Frame, segmentation: Segmentation
    ) -> Entry:
        """Write all files of one photo and note it as finished.

        Either everything is written or nothing is left. Raises OutputError.
        """
        written: dict[str, list[Path]] = {}
        try:
            for writer in self.writers:
                target = writer.target(self.root, image.rel)
                written[writer.name] = writer.write(target, frame, segmentation, self._metadata)
            height, width = frame.size_hw
            entry = Entry(
                rel=image.rel,
                path=state.path,
                size=state.size,
                modified_ns=state.modified_ns,
                run=self._run,
                width=width,
                height=height,
                areas=tuple(
                    (area.class_id, area.pixels, round(area.mean_confidence, 6))
                    for area in segmentation.areas()
                ),
                files={
                    name: {file.relative_to(self.root).as_posix(): _size(file) for file in files}
                    for name, files in written.items()
                },
            )
            self.journal.append(entry)
        except BaseException:
            for files in written.values():
                _remove(files)
            raise
        return entry

    def forget(self, image: ImageInput, state: InputState, reason: str) -> None:
        """Note that an input failed; files that an earlier run made of it go."""
        if state.size < 0:
            return  # there is no such file, and so nothing to come back to
        earlier = self.journal.entry(image.rel)
        if earlier is not None and earlier.path == state.path:
            _remove(self._recorded(earlier))
        self.journal.append(
            Entry(image.rel, state.path, state.size, state.modified_ns, self._run, reason=reason)
        )

    def write_tables(
        self, images: Sequence[ImageInput], vocabulary: Vocabulary
    ) -> Sequence[tables.ClassTotal]:
        """Write stats.csv, summary.csv and parents.csv of the finished inputs, in their order."""
        if not self._wants_stats:
            return []
        self.journal.load()  # other parts may have finished more

        def entries() -> Iterator[Entry]:
            found = (self._entry(image, os.path.abspath(image.path)) for image in images)
            return (entry for entry in found if entry is not None)

        tables.write_parents(self.root, vocabulary, entries())
        return tables.write_stats(self.root, vocabulary, entries())

    def write_report(self, values: dict[str, object]) -> None:
        """Write run.json; raises OutputError."""
        tables.write_json(self.root / REPORT, values)

    def _entry(self, image: ImageInput, path: str) -> Entry | None:
        """The latest entry of an input, if this very run could have made it."""
        entry = self.journal.entry(image.rel)
        if entry is None or entry.reason or entry.run != self._run or entry.path != path:
            return None
        return entry

    def _recorded(self, entry: Entry) -> list[Path]:
        """The files of an entry; a journal from elsewhere cannot name any outside the folder."""
        names = (Path(name) for files in entry.files.values() for name in files)
        return [self.root / n for n in names if not n.is_absolute() and ".." not in n.parts]

    def _remove_results(self) -> None:
        """Remove what earlier runs say they have written here, and nothing else."""
        for entry in self.journal.entries():
            _remove(self._recorded(entry))
        own_files = (tables.STATS, tables.SUMMARY, tables.PARENTS, tables.CLASSES, REPORT)
        _remove([*(self.root / name for name in own_files), *self.journal.files()])


def _has_entries(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1
