"""The folder a run writes: where a file goes, and what is finished."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ovseg_cli.errors import OutputError, UsageError
from ovseg_cli.exports import Writer
from ovseg_cli.frame import Frame
from ovseg_cli.json_files import write_json
from ovseg_cli.links import refuse_links
from ovseg_cli.media.inputs import ImageInput, InputState
from ovseg_cli.printable import printable
from ovseg_cli.run_folder import earlier_results, layout, tables
from ovseg_cli.run_folder.journal import Journal
from ovseg_cli.run_folder.journal_entry import Entry
from ovseg_cli.run_folder.noted_areas import ids_fit, noted
from ovseg_cli.run_folder.run_lock import WHOLE, holding, require_free
from ovseg_cli.run_folder.superseded import Files, is_repeated, outdated, still_good
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.whole_files import remove

_WRITTEN_ANEW = 3  # times, while other parts finish more: they write the tables, too


logger = logging.getLogger(__name__)


class OutputFolder:
    """Where a run writes.

    `check` says early whether the folder may be used, `open` makes it. Then each photo goes
    through `is_done` and `save`, and `write_tables` makes the tables of what is finished.
    """

    def __init__(
        self, root: Path, writers: Sequence[Writer], *, stats: bool = True, part: str = ""
    ) -> None:
        self.root = root
        self._place = os.path.join(root, "")  # the same as text
        self.stage = root  # where files of a photo are written before they are delivered
        self.writers = writers
        self.journal = Journal(root / layout.STATE, part)
        self._part = part  # of a run divided by --shard
        self._wants_stats = stats
        self._run = ""
        self._class_names: Sequence[str] = ()  # of the classes, by id, once `open` or `join` tells
        self._metadata: dict[str, str] = {}
        self._told_of_others = False

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Raise UsageError where the folder cannot be written or holds results already."""
        earlier_results.check(
            self.root, self.journal, self._part, resume=resume, overwrite=overwrite
        )

    def require_free(self) -> None:
        """Raise UsageError, which says who is there, where `hold` would find somebody now."""
        require_free(self.root, self._part or WHOLE)

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Keep other runs out while the block runs; raises UsageError where one is there.

        Parts of one division let each other in.
        """
        return holding(self.root, self._part or WHOLE)

    def holds_results(self) -> bool:
        """Whether an earlier run has written here."""
        return earlier_results.are_there(self.root, self.journal)

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
        self._run, self._metadata, self._class_names = run, metadata, vocabulary.names
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if overwrite:
                self._remove_results()
            elif not self._part:
                earlier_results.remove_half_written(self.root, self.journal)
            self._warn_of_other_classes(vocabulary, overwrite=overwrite)
            tables.note_run(self.root, vocabulary, run)
            tables.write_classes(self.root, vocabulary)
        except OSError as error:
            raise UsageError(f"cannot write to {self.root}: {error.strerror}") from error
        except OutputError as error:
            raise UsageError(str(error)) from error
        self.journal.load()

    def _warn_of_other_classes(self, vocabulary: Vocabulary, *, overwrite: bool) -> None:
        """Where results for other names stay, say so."""
        stays = not overwrite or any(self.root.glob(f"*.{layout.REPORT}"))  # of clips
        if self._part:
            stays = stays or self.journal.files() != self.journal.own_files()
        if stays and tables.holds_other_names(self.root, vocabulary):
            logger.warning(
                "%s was made with other names: results that this run does not replace stay, and "
                "do not fit the new %s",
                printable(str(self.root)),
                layout.CLASSES,
            )

    def join(self, vocabulary: Vocabulary, *, run: str, metadata: dict[str, str]) -> None:
        """Write to a folder that another process of the same run has opened."""
        self._run, self._metadata, self._class_names = run, metadata, vocabulary.names
        self.journal.load()

    def is_done(self, image: ImageInput, state: InputState) -> Entry | None:
        """The entry of an input that needs no work: same file, same run, all outputs in place."""
        entry = self.journal.entry(image.rel)
        version = state.size, state.modified_ns
        return entry if entry and self._is_current(entry, state.path, version) else None

    def finished(self, images: Sequence[ImageInput]) -> Iterator[Entry | None]:
        """Of each input what `is_done` tells."""
        entries = self.journal.latest(image.rel for image in images)
        for image, entry in zip(images, entries, strict=True):
            current = entry and self._is_current(entry, image.location, image.version())
            yield entry if current else None

    def targets(self, rel: str) -> dict[str, str]:
        """What is written for an input: name in --save -> file, or folder of files."""
        return {writer.name: str(writer.target(self.root, rel)) for writer in self.writers}

    def save(
        self, image: ImageInput, state: InputState, frame: Frame, segmentation: Segmentation
    ) -> Entry:
        """Write all files of one photo and note it as finished.

        Either everything is written or nothing new is left. Raises OutputError.
        """
        written: dict[str, list[Path]] = {}
        fresh, earlier = self._entry(image, state), self._earlier(image, state)
        standing = earlier is not None and is_repeated(earlier, fresh)
        if earlier is not None and earlier.files and not standing:
            self._set_aside(earlier)
        try:
            for writer in self.writers:
                target = writer.target(self.stage, image.rel)
                refuse_links(self.stage, target.parent if writer.suffix else target)
                written[writer.name] = writer.write(target, frame, segmentation, self._metadata)
            height, width = frame.size_hw
            entry = replace(
                fresh,
                width=width,
                height=height,
                areas=noted(segmentation.areas()),
                files={
                    name: {file.relative_to(self.stage).as_posix(): _size(file) for file in files}
                    for name, files in written.items()
                },
            )
            if earlier is not None:
                entry = replace(
                    entry, files={**still_good(earlier, entry, self._held), **entry.files}
                )
            self._publish(entry, written)
        except BaseException:
            # What the earlier results had, too, was written again with the same bytes.
            known = earlier.files if earlier is not None and standing else {}
            for kind, files in written.items():
                if kind not in known:
                    remove(files)
            raise
        if earlier is not None:
            self._supersede(earlier, entry.files)
        return entry

    def tidy(self) -> None:
        """Remove what processes of this run have left that died. Raises OutputError."""

    def settle(self) -> None:
        """Make what is finished so far last; raises OutputError."""
        self.journal.sync()

    def close(self) -> None:
        """End the work; raises OutputError."""
        self.journal.close()

    def forget(self, image: ImageInput, state: InputState, reason: str) -> None:
        """Note that an input failed; files that another run made of it, or of another state, go.

        What this very run has made of it stays finished, though more was asked for now.
        """
        if state.size < 0:
            return  # there is no such file, and so nothing to come back to
        failed = replace(self._entry(image, state), reason=reason)
        earlier = self._earlier(image, state)
        if earlier is not None:
            whole = still_good(earlier, failed, self._held)
            self._supersede(earlier, whole)
            if whole:
                if whole == earlier.files:
                    return
                failed = replace(earlier, files=whole)
        self.journal.append(failed)

    def write_tables(
        self, images: Sequence[ImageInput], vocabulary: Vocabulary
    ) -> Sequence[tables.ClassTotal]:
        """Write stats.csv, summary.csv and parents.csv of the finished inputs, in their order.

        Those of an earlier run are written anew though none were asked for: they would tell of
        results that are not there any more.
        """
        if not (self._wants_stats or self._holds_stats()):
            return []
        self.journal.refresh()
        for _ in range(_WRITTEN_ANEW):
            totals = self._write_tables(images, vocabulary)
            if not self.journal.refresh():  # else other parts have finished more meanwhile
                break
        return totals

    def _holds_stats(self) -> bool:
        return (self.root / layout.STATS).exists()

    def _write_tables(
        self, images: Sequence[ImageInput], vocabulary: Vocabulary
    ) -> Sequence[tables.ClassTotal]:
        def entries() -> Iterator[Entry]:
            latest = self.journal.latest(image.rel for image in images)
            for image, entry in zip(images, latest, strict=True):
                if entry is not None and self._is_own(entry, image.location):
                    yield entry

        tables.write_parents(self.root, vocabulary, entries())
        return tables.write_stats(self.root, vocabulary, entries())

    def write_report(self, values: dict[str, object]) -> None:
        """Write run.json; raises OutputError."""
        write_json(self.root / layout.REPORT, values)

    def _is_own(self, entry: Entry, path: str) -> bool:
        """Whether this very run could have made the entry, of the input at that place."""
        if entry.reason or entry.run != self._run or entry.path != path:
            return False
        # The names of a run are in its fingerprint: other ids are damage.
        return ids_fit(entry.areas, len(self._class_names))

    def _is_current(self, entry: Entry, path: str, version: tuple[int, int]) -> bool:
        """Whether the input there is as it was, and all that this run makes of it in place."""
        if not self._is_own(entry, path) or (entry.size, entry.modified_ns) != version:
            return False
        for writer in self.writers:
            if writer.name not in entry.files:
                return False
            for name, size in entry.files[writer.name].items():
                if self._held(name) != size:
                    return False
        return True

    def _publish(self, entry: Entry, written: Mapping[str, list[Path]]) -> None:
        """Note a photo as finished whose files are written to the stage. Raises OutputError."""
        self.journal.append(entry)

    def _held(self, name: str) -> int:
        """The size of a file of the results; -1 where it is not there."""
        try:
            return os.stat(self._place + name).st_size  # as text: there may be millions
        except (OSError, ValueError):
            return -1

    def _entry(self, image: ImageInput, state: InputState) -> Entry:
        """What is known of an input before anything is made of it."""
        return Entry(image.rel, state.path, state.size, state.modified_ns, self._run)

    def _earlier(self, image: ImageInput, state: InputState) -> Entry | None:
        """What is noted of an input, or of another file that bore its name: that is replaced."""
        entry = self.journal.entry(image.rel)
        if entry is not None and entry.path != state.path and not self._told_of_others:
            self._told_of_others = True
            logger.warning(
                "%s holds results of other files under the same names, which are replaced: "
                "%s was made of %s, and is made of %s now",
                printable(str(self.root)),
                printable(image.rel),
                printable(entry.path),
                printable(state.path),
            )
        return entry

    def _set_aside(self, earlier: Entry) -> None:
        """Note, before files of other results are replaced, that those do not count any more.

        Else, after a kill, the new files could pass for the old ones.
        """
        self.journal.append(replace(earlier, reason="it was being made anew"))

    def _supersede(self, earlier: Entry, files: Files) -> None:
        """Remove what an earlier run made of a photo, but for these files, as far as possible."""
        try:
            self._discard(outdated(earlier, files))
        except OutputError as error:  # the new results count all the same
            logger.warning("earlier results of %s stay: %s", printable(earlier.rel), error)

    def _discard(self, entry: Entry) -> None:
        """Remove the files of an entry."""
        remove(earlier_results.files_of(self.root, entry))

    def _remove_results(self) -> None:
        """Remove what earlier runs say they have written here, a part only its own."""
        earlier_results.remove_all(self.root, self.journal, self._part)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1
