"""The folder of a run in an object store: files are made here and uploaded whole.

Nothing can be appended to an object, so the journal is uploaded in pieces that are never changed:
every `PIECE_ENTRIES` photos or `PIECE_SECONDS`, and when the run ends or is interrupted. After a
kill the photos since the last piece are done again, with the same bytes. There is no lock: stores
have none that would end with its holder, so it is for the user not to run twice into one place.
"""

import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from ovseg_cli.errors import OutputError, UsageError
from ovseg_cli.exports import WRITERS, Writer
from ovseg_cli.media.inputs import ImageInput
from ovseg_cli.run_folder import layout, tables
from ovseg_cli.run_folder.earlier_results import files_of
from ovseg_cli.run_folder.journal_entry import Entry
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.storage.store import Store
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.whole_files import output_errors

PIECE_ENTRIES = 256
PIECE_SECONDS = 30.0
_LISTINGS = 64  # folders of the store whose listings are kept


class StoreFolder(OutputFolder):
    """As `OutputFolder`; `root` is a temporary folder of this machine, where the journals of all
    processes are kept and files stay until they are uploaded.
    """

    def __init__(
        self, url: str, writers: Sequence[Writer], *, stats: bool = True, part: str = ""
    ) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="ovseg-", ignore_cleanup_errors=True)
        own = "-".join(filter(None, (part, secrets.token_hex(6))))  # of this process alone
        super().__init__(Path(self._scratch.name), writers, stats=stats, part=own)
        self.store = Store(url)
        self._pieces = 0
        self._uploaded = 0  # bytes of the own journal
        self._waiting = 0  # entries that are not uploaded
        self._last = time.monotonic()
        self._uploading = threading.Lock()
        self._sizes = lru_cache(maxsize=_LISTINGS)(self.store.sizes)

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Raise UsageError where the place cannot be read or holds results already."""
        with _before_a_run(), self.store.errors(OutputError, f"cannot use {self.store.url}"):
            holds = self.holds_results()
        if holds and not resume and not overwrite:
            raise UsageError(
                f"{self.store.url} holds results of an earlier run: --resume continues it, "
                "--overwrite replaces it, -o names another place"
            )

    def holds_results(self) -> bool:
        """Whether an earlier run has written there."""
        folders = (layout.STATE, *(writer.folder for writer in WRITERS.values()))
        return bool(set(layout.RUN_FILES) & self.store.sizes("").keys()) or any(
            self.store.fs.exists(self.store.full(folder)) and self.store.fs.ls(
                self.store.full(folder), detail=False
            )
            for folder in folders
        )  # fmt: skip

    def open(
        self,
        vocabulary: Vocabulary,
        *,
        run: str,
        metadata: dict[str, str],
        overwrite: bool = False,
    ) -> None:
        """Make the place ready for a run, or for its continuation. Raises UsageError."""
        with _before_a_run():
            self._fetch_journals()
            notes = (layout.CLASSES, layout.RUNS_OF_CLASSES)
            for name in notes:
                if self.store.size(name) >= 0:
                    self.store.get(name, self.root / name)
            super().open(vocabulary, run=run, metadata=metadata, overwrite=overwrite)
            self._upload(notes)

    def join(self, vocabulary: Vocabulary, *, run: str, metadata: dict[str, str]) -> None:
        """Write to a place that another process of the same run has opened. Raises UsageError."""
        with _before_a_run():
            self._fetch_journals()
        super().join(vocabulary, run=run, metadata=metadata)

    def targets(self, rel: str) -> dict[str, str]:
        """What is written for an input: name in --save -> URL."""
        return {
            writer.name: f"{self.store.url}/{writer.target(Path(), rel).as_posix()}"
            for writer in self.writers
        }

    def settle(self) -> None:
        """Upload what is new in the journal; raises OutputError."""
        super().settle()
        self._upload_journal()

    def close(self) -> None:
        """End the work; raises OutputError."""
        try:
            self.settle()
        finally:
            super().close()
            self._scratch.cleanup()

    def write_tables(
        self, images: Sequence[ImageInput], vocabulary: Vocabulary
    ) -> Sequence[tables.ClassTotal]:
        """Write and upload the tables of the finished inputs; raises OutputError."""
        self.settle()
        self._fetch_journals()
        totals = super().write_tables(images, vocabulary)
        self._upload([layout.STATS, layout.SUMMARY, layout.PARENTS])
        stale = not (self.root / layout.PARENTS).exists()  # names were kinds of something before
        if stale and self.store.size(layout.PARENTS) >= 0:  # not every store lets objects go
            self.store.remove(layout.PARENTS)
        return totals

    def write_report(self, values: dict[str, object]) -> None:
        """Write and upload run.json; raises OutputError."""
        super().write_report(values)
        self._upload([layout.REPORT])

    def _publish(self, entry: Entry, written: Mapping[str, list[Path]]) -> None:
        for files in written.values():
            for file in files:
                self.store.put(file, file.relative_to(self.stage).as_posix())
        for files in written.values():
            for file in files:
                file.unlink()
        super()._publish(entry, written)
        self._waiting += 1
        if self._waiting >= PIECE_ENTRIES or time.monotonic() - self._last >= PIECE_SECONDS:
            self._upload_journal()

    def _holds_stats(self) -> bool:
        return self.store.size(layout.STATS) >= 0

    def _set_aside(self, earlier: Entry) -> None:
        super()._set_aside(earlier)
        self._upload_journal()

    def _held(self, name: str) -> int:
        folder, _, last = name.rpartition("/")
        return self._sizes(folder).get(last, -1)

    def _discard(self, entry: Entry) -> None:
        for path in files_of(self.root, entry):
            self.store.remove(path.relative_to(self.root).as_posix())

    def _remove_results(self) -> None:
        for entry in self.journal.entries():
            self._discard(entry)
        for file in self.journal.files():
            file.unlink()
        (self.root / layout.RUNS_OF_CLASSES).unlink(missing_ok=True)
        for name in (*layout.RUN_FILES, *self._journals_there()):
            self.store.remove(name)

    def _journals_there(self) -> list[str]:
        names = self.store.sizes(layout.STATE)
        return [f"{layout.STATE}/{n}" for n in names if n.startswith("journal")]

    def _fetch_journals(self) -> None:
        """Copy here what other processes have uploaded and is not here yet."""
        folder = self.root / layout.STATE
        folder.mkdir(exist_ok=True)
        own = f"{self.journal.own.stem}-"
        for name in self._journals_there():
            file = self.root / name
            if not file.name.startswith(own) and not file.exists():
                self.store.get(name, file)

    def _upload_journal(self) -> None:
        """Upload the lines of the own journal that are new, as a piece of their own."""
        with self._uploading:
            file = self.journal.own
            if not file.exists():
                return
            with file.open("rb") as stream:
                stream.seek(self._uploaded)
                lines = stream.read()
            lines = lines[: lines.rfind(b"\n") + 1]
            if not lines:
                return
            piece = self.root / "piece"
            with output_errors(piece):
                piece.write_bytes(lines)
            self.store.put(piece, f"{layout.STATE}/{file.stem}-{self._pieces:06}.jsonl")
            self._pieces += 1
            self._uploaded += len(lines)
            self._waiting, self._last = 0, time.monotonic()

    def _upload(self, names: Sequence[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                if (self.root / name).exists():
                    self.store.put(self.root / name, name)


@contextmanager
def _before_a_run() -> Iterator[None]:
    """What a store refuses before a run begins is for the user to mend: a UsageError."""
    try:
        yield
    except OutputError as error:
        raise UsageError(str(error)) from error
