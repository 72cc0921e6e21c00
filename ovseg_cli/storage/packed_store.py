"""Tar archives in an object store: filled here, uploaded whole."""

from pathlib import Path

from ovseg_cli.storage.packed_folder import PackedFolder
from ovseg_cli.storage.store_folder import StoreFolder


class PackedStore(PackedFolder, StoreFolder):
    """A `PackedFolder` whose archives, markers and journal are objects."""

    @property
    def _where(self) -> str:
        return self.store.url

    def _names(self, folder: str) -> set[str]:
        return set(self.store.sizes(folder))

    def _mark(self, name: str) -> None:
        self.store.post(name)

    def _remove(self, name: str) -> None:
        self.store.remove(name)

    def _deliver(self, file: Path, name: str) -> None:
        self.store.put(file, name)
        file.unlink()
