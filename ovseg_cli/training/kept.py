"""Arrays that a stage makes once and keeps beside its checkpoint, for it takes long."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from ovseg_cli.errors import UsageError
from ovseg_cli.whole_files import atomic_path

# What numpy raises for damaged files; an .npy in place of an .npz is an array without names.
_UNREADABLE = (
    *(OSError, ValueError, TypeError, AttributeError, LookupError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)


def keep(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays by name into a .npz file, whole or not at all; raises OutputError."""
    with atomic_path(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # meant for allow_pickle


def kept(path: Path, *names: str) -> list[np.ndarray]:
    """Arrays that `keep` wrote; raises UsageError where the file does not hold them."""
    try:
        with np.load(path) as arrays:
            return [arrays[name] for name in names]
    except _UNREADABLE as error:
        raise UsageError(f"{path} cannot be read: {error}; remove it, or the whole run") from error
