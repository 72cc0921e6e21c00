"""Removing what runs have written of a clip, by its names; files of others beside it stay."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Container, Iterator
from pathlib import Path

from ovseg_cli.errors import OutputError
from ovseg_cli.exports import is_mask
from ovseg_cli.whole_files import is_temporary

_FRAME = re.compile(r"\d{6,}", re.ASCII)  # as NUMBER in state.py makes it


def is_folder(path: Path) -> bool:
    """Whether it is one itself, not a link to one."""
    return path.is_dir() and not path.is_symlink()


def remove_file(path: Path) -> None:
    """Remove a file or link, if it is there. Raises OutputError."""
    with _errors():
        path.unlink(missing_ok=True)


def remove_whole(folder: Path) -> None:
    """Remove a folder that nobody else writes to, if it is there. Raises OutputError."""
    with _errors(), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def remove_frames(folder: Path, suffix: str, keep: Container[str] = ()) -> None:
    """Remove results of frames, half written ones, too; and the folder if nothing else is in it.

    suffix: of a frame's file; "" where each has a folder of masks. keep: numbers of the frames that
    stay. Raises OutputError.
    """

    def is_frame(name: str) -> bool:
        number = name.removesuffix(suffix)
        ours = name.endswith(suffix) and _FRAME.fullmatch(number)
        return bool(ours) and number not in keep

    if not suffix:
        for path in _listed(folder):
            if is_frame(path.name) and is_folder(path):
                _clear(path, is_mask)
    _clear(folder, is_frame)


def _clear(folder: Path, is_own: Callable[[str], bool]) -> None:
    """Remove a folder's files of such names, and the folder if nothing else is in it."""
    for path in _listed(folder):
        if (is_own(path.name) or is_temporary(path.name)) and not is_folder(path):
            remove_file(path)
    with contextlib.suppress(OSError):  # files of others are in it
        folder.rmdir()


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, before anything of it goes."""
    with _errors():
        return list(folder.iterdir())


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """What a block cannot remove becomes an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot remove {error.filename}: {error.strerror}") from error
