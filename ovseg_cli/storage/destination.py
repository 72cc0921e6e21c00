"""Where a run writes, as something that can be sent to another process."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ovseg_cli.errors import OutputError
from ovseg_cli.exports import WRITERS, Writer
from ovseg_cli.media.inputs import ImageInput
from ovseg_cli.run_folder.earlier_results import folders_with_results
from ovseg_cli.run_folder.layout import STATE
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.storage.packed_folder import PackedFolder, is_own_archive
from ovseg_cli.storage.packed_store import PackedStore
from ovseg_cli.storage.store import Store, is_url, on_disk
from ovseg_cli.storage.store_folder import StoreFolder
from ovseg_cli.whole_files import output_errors

Image = TypeVar("Image", bound=ImageInput)


@dataclass(frozen=True)
class Destination:
    """A place for results, which any number of processes may open."""

    where: str  # a folder, or the URL of a place in an object store
    tar_bytes: int | None = None  # about the size of an archive; None = a file for each result

    @property
    def is_store(self) -> bool:
        """Whether it is in an object store."""
        return is_url(self.where)

    def absolute(self) -> "Destination":
        """The same for a process with another working folder."""
        return self if self.is_store else replace(self, where=str(Path(self.where).absolute()))

    def folder(self, writers: Sequence[Writer], *, stats: bool, part: str = "") -> OutputFolder:
        """What photos are saved to; part names its journal, see `OutputFolder`.

        Raises UsageError where a store cannot be spoken to.
        """
        place = self.where if self.is_store else Path(self.where)
        if self.tar_bytes is not None:
            packed = PackedStore if self.is_store else PackedFolder
            return packed(place, writers, tar_bytes=self.tar_bytes, stats=stats, part=part)
        if self.is_store:
            return StoreFolder(self.where, writers, stats=stats, part=part)
        return OutputFolder(Path(self.where), writers, stats=stats, part=part)

    def without_results(self, images: Sequence[Image]) -> list[Image]:
        """The photos that are not themselves results in this place, if it is in a store."""
        if not self.is_store:
            return list(images)
        above = f"{self.where.rstrip('/')}/"
        own = {writer.folder for writer in WRITERS.values()}

        def is_result(place: str) -> bool:
            first = place.removeprefix(above).partition("/")[0]
            return place.startswith(above) and (first in own or is_own_archive(first))

        return [image for image in images if not is_result(image.location)]

    def results_on_disk(self) -> list[Path]:
        """The folders and archives in it that hold no photos to segment, if it is on a disk."""
        place = on_disk(self.where)
        if place is None:
            return []
        root = Path(place)
        archives = [path for path in root.glob("*.tar") if is_own_archive(path.name)]
        return folders_with_results(root) + archives

    def post(self, ticket: str) -> None:
        """Leave an empty file of this name for other processes; raises OutputError."""
        if self.is_store:
            Store(self.where).post(f"{STATE}/{ticket}")
            return
        file = self._ticket(ticket)
        with output_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()

    def is_posted(self, ticket: str) -> bool:
        """Whether the file is there."""
        if self.is_store:
            return Store(self.where).size(f"{STATE}/{ticket}") >= 0
        return self._ticket(ticket).exists()

    def withdraw(self, ticket: str) -> None:
        """Remove the file, if it is there."""
        with contextlib.suppress(OSError, OutputError):
            if self.is_store:
                Store(self.where).remove(f"{STATE}/{ticket}")
            else:
                self._ticket(ticket).unlink()

    def _ticket(self, ticket: str) -> Path:
        return Path(self.where) / STATE / ticket
