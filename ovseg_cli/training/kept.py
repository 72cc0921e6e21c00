"""Arrays that a stage makes once and keeps beside its checkpoint, for it takes long."""

from __future__ import annotations

import logging
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovseg_cli.errors import UsageError
from ovseg_cli.whole_files import atomic_path

log = logging.getLogger(__name__)

_ORIGIN = "origin"  # beside the arrays
# What numpy raises for damaged files; an .npy in place of an .npz is an array without names.
_UNREADABLE = (
    *(OSError, ValueError, TypeError, AttributeError, LookupError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class Kept:
    """A .npz file of arrays by name."""

    path: Path
    origin: str  # tells apart what the arrays were made of: of anything else they are of no use

    def write(self, **arrays: np.ndarray) -> None:
        """Write the file, whole or not at all; raises OutputError."""
        arrays |= {_ORIGIN: np.array(self.origin)}
        with atomic_path(self.path) as partial, partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # for allow_pickle

    def read(self, *names: str) -> list[np.ndarray] | None:
        """What `write` wrote; None where it did not yet, or made that of something else.

        Raises UsageError where the file cannot be read.
        """
        if not self.path.exists():
            return None
        try:
            with np.load(self.path) as arrays:
                if _ORIGIN in arrays and str(arrays[_ORIGIN]) == self.origin:
                    return [arrays[name] for name in names]
        except _UNREADABLE as error:
            raise UsageError(
                f"{self.path} cannot be read: {error}; remove it, or the whole run"
            ) from error
        log.warning("%s is of another start, recipe or data: it is made anew", self.path)
        return None
