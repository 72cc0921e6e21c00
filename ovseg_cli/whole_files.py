"""Files that appear whole or not at all, whatever happens while they are written."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from ovseg_cli.errors import OutputError, UsageError
from ovseg_cli.printable import printable


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A path to write to, beside the target, which takes the target's place in the end.

    Where the body raises, nothing is left. An OSError (no space, no permission, name too long)
    becomes OutputError with that as its cause. Folders above the target are made.
    """
    # Short, so that the longest name that the target may have is not made too long, and without
    # the target's suffix, so that what a kill leaves behind is not taken for a result.
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    with output_errors(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, target)
        except BaseException:
            remove([temporary])
            raise


def require_writable(folder: Path) -> None:
    """Raise UsageError where a folder, or the first above it that is there, is not for writing."""
    place = folder
    while not os.path.lexists(place):
        place = place.parent
    shown = f"cannot write to {printable(str(folder))}"
    if not place.is_dir():
        raise UsageError(f"{shown}: {printable(str(place))} is not a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(
            f"{shown}: no permission to write in {printable(str(place))}, or its disk is read-only"
        )


def is_possible(name: str) -> bool:
    """Whether a file can have a name at all; those from elsewhere may hold what none does."""
    if name.isascii():  # quickly: there may be millions
        return "\0" not in name
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False


def stays_inside(path: PurePath) -> bool:
    """Whether a name from elsewhere, put below a folder, leads to a place below it."""
    return not path.anchor and ".." not in path.parts  # on Windows C:x and \\x are not absolute


def is_temporary(name: str) -> bool:
    """Whether a file is one that `atomic_path` gave out: after a kill, some are left."""
    return name[:1] == "." and re.fullmatch(r"\.[0-9a-f]{16}\.tmp", name) is not None


def left_over(folder: Path) -> Iterator[Path]:
    """The temporary files that are in a folder."""
    return (file for file in folder.glob(".*.tmp") if is_temporary(file.name))


@contextlib.contextmanager
def output_errors(target: Path) -> Iterator[None]:
    """Turn the OSError of a block that writes the target into an OutputError that names it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write {printable(str(target))}: {reason}") from error


def remove(files: Iterable[Path]) -> None:
    """Remove files as far as that is possible."""
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink()
