"""Results in tar archives, as WebDataset reads them: KEY.overlay.jpg, KEY.labels.png, KEY.json.

An archive (users know it as a shard; in code that is a part of --shard) is filled out of sight and
appears whole; only then do its photos count as finished. A marker is there from an archive's
beginning until the journal knows its photos: an archive whose marker is found again was left by a
process that died, and goes, so that no photo is in two of them.
"""

import json
import logging
import os
import re
import shutil
import tarfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ovseg_cli.errors import OutputError
from ovseg_cli.exports import Writer
from ovseg_cli.frame import Frame
from ovseg_cli.media.inputs import ImageInput, InputState
from ovseg_cli.printable import printable
from ovseg_cli.run_folder import layout, tables
from ovseg_cli.run_folder.journal_entry import Entry
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.segmentation import Segmentation, class_name
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.whole_files import atomic_path, output_errors

logger = logging.getLogger(__name__)

_MARKER = "filling-"  # before an archive's name
_STEM = "ovseg"  # before its number, with the part of a divided run between
_ARCHIVE_NAME = re.compile(rf"{_STEM}(-.+)?-[0-9]{{6,}}\.tar")


class PackedFolder(OutputFolder):
    """As `OutputFolder`, with archives ovseg-000000.tar, ... of about `tar_bytes`."""

    def __init__(
        self,
        root: Any,
        writers: Sequence[Writer],
        *,
        tar_bytes: int,
        stats: bool = True,
        part: str = "",
    ) -> None:
        super().__init__(root, writers, stats=stats, part=part)
        self._stem = "-".join(filter(None, (_STEM, part)))
        self._ending = f"-{part}" if part else ""  # of its stem and of those of its Ray actors
        self.stage = self.root / layout.STATE / f"stage-{self._stem}"
        self._tar_bytes = tar_bytes
        self._packing = threading.Lock()
        self._archive: _Archive | None = None
        self._number = 0
        self._packed: list[Entry] = []  # what is in the open archive

    def open(
        self,
        vocabulary: Vocabulary,
        *,
        run: str,
        metadata: dict[str, str],
        overwrite: bool = False,
    ) -> None:
        """Make the folder ready for a run, or for its continuation. Raises UsageError."""
        super().open(vocabulary, run=run, metadata=metadata, overwrite=overwrite)
        self.tidy()

    def tidy(self) -> None:
        """Remove the archives that processes have left which died; raises OutputError.

        Of a divided run only those of this part: others may be at work here.
        """
        for name in self._names(layout.STATE):
            if name.startswith(_MARKER) and name.rpartition("-")[0].endswith(self._ending):
                self._remove(name.removeprefix(_MARKER))
                self._remove(f"{layout.STATE}/{name}")
        for folder in (self.root / layout.STATE).glob(f"stage-*{self._ending}"):
            shutil.rmtree(folder, ignore_errors=True)

    def targets(self, rel: str) -> dict[str, str]:
        """What is written for an input: name in --save -> member of an archive."""
        return {w.name: f"{self._where}/{key_of(rel)}.{extension(w)}" for w in self.writers}

    def save(
        self, image: ImageInput, state: InputState, frame: Frame, segmentation: Segmentation
    ) -> Entry:
        """Put all files of one photo into the open archive; raises OutputError."""
        earlier = self.journal.entry(image.rel)
        if earlier is not None and self._in_archives(earlier):
            names = ", ".join(sorted({name for files in earlier.files.values() for name in files}))
            raise OutputError(
                f"its results are in {printable(names)} already, made from another state of it or "
                "with other options, and a shard is not altered: --overwrite begins anew"
            )
        return super().save(image, state, frame, segmentation)

    def forget(self, image: ImageInput, state: InputState, reason: str) -> None:
        """Note that an input failed, unless an archive holds an earlier result of it."""
        earlier = self.journal.entry(image.rel)
        if earlier is None or not self._in_archives(earlier):
            super().forget(image, state, reason)

    def settle(self) -> None:
        """End the open archive, so that its photos count; raises OutputError."""
        with self._packing:
            self._end_archive()
        super().settle()

    def close(self) -> None:
        """End the work; raises OutputError."""
        try:
            self.settle()
        finally:
            # An archive that could not appear is given up: its file goes, and a store, which
            # settles once more, would miss that instead of saying what was wrong.
            self._archive, self._packed = None, []
            shutil.rmtree(self.stage, ignore_errors=True)
            super().close()

    def write_tables(
        self, images: Sequence[ImageInput], vocabulary: Vocabulary
    ) -> Sequence[tables.ClassTotal]:
        """Write the tables of what is in archives; raises OutputError."""
        self.settle()
        return super().write_tables(images, vocabulary)

    @property
    def _where(self) -> str:
        return str(self.root)

    def _in_archives(self, entry: Entry) -> bool:
        sizes = [(name, size) for files in entry.files.values() for name, size in files.items()]
        return bool(sizes) and all(self._held(name) == size for name, size in sizes)

    def _publish(self, entry: Entry, written: Mapping[str, list[Path]]) -> None:
        key = key_of(entry.rel)
        with self._packing:
            if self._is_full():  # it could not be delivered when it became so
                self._end_archive()
            archive = self._archive or self._begin_archive()
            with output_errors(archive.file):
                members = [_member(f"{key}.json", self._record(entry))]
                for writer in self.writers:
                    for file in written[writer.name]:
                        members.append(_member(_member_name(key, writer, file), file.read_bytes()))
                archive.add(b"".join(members))
            self._packed.append(entry)
            if self._is_full():
                try:
                    self._end_archive()
                except OutputError as error:  # of no photo alone: the next one tries again
                    logger.warning("%s; it is tried again", error)
        for writer in self.writers:
            for file in written[writer.name]:
                file.unlink()

    def _record(self, entry: Entry) -> bytes:
        """KEY.json: the photo's name, its size, and the areas of its classes."""
        classes = [
            {
                "id": class_id,
                "name": class_name(class_id, self._class_names),
                "pixels": pixels,
                "mean_confidence": confidence,
            }
            for class_id, pixels, confidence in entry.areas
        ]
        record = {
            "image": tables.image_name(entry.rel, entry.path),
            "width": entry.width,
            "height": entry.height,
            "classes": classes,
        }
        return json.dumps(record).encode()

    def _begin_archive(self) -> "_Archive":
        taken = self._names("")
        while f"{self._stem}-{self._number:06}.tar" in taken:
            self._number += 1
        name = f"{self._stem}-{self._number:06}.tar"
        self._mark(f"{layout.STATE}/{_MARKER}{name}")
        file = self.stage / name
        with output_errors(file):
            self.stage.mkdir(parents=True, exist_ok=True)
            self._archive = _Archive(file)
        return self._archive

    def _is_full(self) -> bool:
        return self._archive is not None and self._archive.size >= self._tar_bytes

    def _end_archive(self) -> None:
        """Let the open archive appear and note its photos as finished.

        Raises OutputError where it cannot appear; it then stays open, and may be ended again.
        """
        archive, packed = self._archive, self._packed
        if archive is None:
            return
        file = archive.file
        with output_errors(file):
            archive.end()
            self._deliver(file, file.name)
        self._archive, self._packed = None, []
        for entry in packed:
            files = {writer.name: {file.name: archive.size} for writer in self.writers}
            self.journal.append(replace(entry, files=files))
        super().settle()
        self._remove(f"{layout.STATE}/{_MARKER}{file.name}")
        self._number += 1

    def _names(self, folder: str) -> set[str]:
        """What is in a folder of the results."""
        with suppress(OSError):
            return set(os.listdir(self.root / folder))
        return set()

    def _mark(self, name: str) -> None:
        with atomic_path(self.root / name) as temporary:
            temporary.touch()

    def _remove(self, name: str) -> None:
        with suppress(OSError):
            (self.root / name).unlink()

    def _deliver(self, file: Path, name: str) -> None:
        os.replace(file, self.root / name)


def is_own_archive(name: str) -> bool:
    """Whether an archive of this name is one that a run makes."""
    return _ARCHIVE_NAME.fullmatch(name) is not None


def key_of(rel: str) -> str:
    """The key of a photo: its REL, with what WebDataset takes for the start of a suffix escaped."""
    folder, slash, base = rel.rpartition("/")
    return folder + slash + base.replace("%", "%25").replace(".", "%2E")


def extension(writer: Writer) -> str:
    """What comes after the key: labels.png, npz."""
    return writer.name + (writer.suffix if writer.suffix != f".{writer.name}" else "")


def _member_name(key: str, writer: Writer, file: Path) -> str:
    """Of a folder's files each has its own name: KEY.masks.0-sky.png."""
    last = extension(writer) if writer.suffix else f"{writer.name}.{file.name}"
    return f"{key}.{last}"


def _member(name: str, data: bytes) -> bytes:
    """A file as an archive has it: header, content, zeros to a whole number of blocks."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return header + data + bytes(-len(data) % tarfile.BLOCKSIZE)


class _Archive:
    """An archive that is being filled, a photo at a time: with all its members or none."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.size = 0
        self._stream = file.open("wb", buffering=0)

    def add(self, data: bytes) -> None:
        """Append; raises OSError, and then leaves the archive as it was."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
        except OSError:
            self._stream.truncate(self.size)
            self._stream.seek(self.size)
            raise
        self.size += len(data)

    def end(self) -> None:
        """Write the end of the archive, and all of it to the disk; raises OSError.

        May be called again, after an error as well as without one.
        """
        if self._stream.closed:
            return
        self.add(bytes(2 * tarfile.BLOCKSIZE))
        os.fsync(self._stream.fileno())
        self._stream.close()
