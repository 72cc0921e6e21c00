"""Who works in an output folder: locks that end with the process that holds them.

A lock is a file in the folder's `.ovseg` that the system keeps locked for its holder (flock, on
Windows a locked byte), so that a crash or kill -9 frees it; the file, which tells who the holder
is, then stays and does not matter. Each holder has a lock of its own and then looks at those that
exclude it: of two that begin at once never both go on.
"""

import errno
import itertools
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from ovseg_cli.errors import OutputError, UsageError
from ovseg_cli.json_files import read_json
from ovseg_cli.links import refuse_links
from ovseg_cli.printable import printable
from ovseg_cli.run_folder.layout import STATE

logger = logging.getLogger(__name__)

WHOLE = "run"  # the lock of a run that is not divided
_ATTEMPTS, _PAUSE = 6, 0.05  # seconds: others hold a lock for a moment to look at it
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_BYTE = 1 << 30  # what Windows locks: beyond the text, which others must be able to read


@contextmanager
def holding(out: Path, name: str, *, wait: bool = False) -> Iterator[None]:
    """Work in `out` while the block runs: as WHOLE, as a part ("2-of-4") or otherwise by name.

    A whole run excludes all parts, parts of different divisions exclude each other, and everyone
    excludes a second of its own name, whose end is awaited with `wait`. Raises UsageError, which
    says who is there, and where the folder cannot be written.
    """
    folder = out / STATE
    own = folder / f"{name}.lock"
    new = [place for place in (out, *out.parents) if not place.exists()]
    with _own_lock(out, own, wait) as stream:
        _sign(stream)
        try:
            _refuse_held(out, _excluding(out, name))
            yield
        finally:
            with suppress(OSError):
                own.unlink()  # Windows leaves it, since it is open
                folder.rmdir()  # if there is nothing else in it
                for place in new:  # a run that ended before it began leaves nothing
                    place.rmdir()


def require_free(out: Path, name: str) -> None:
    """Raise UsageError, which says who is there, where `holding` would find somebody now."""
    _refuse_held(out, [out / STATE / f"{name}.lock", *_excluding(out, name)])


def _excluding(out: Path, name: str) -> list[Path]:
    """The locks of others that exclude one of this name."""
    locks = (out / STATE).glob("*.lock")
    return [lock for lock in locks if lock.stem != name and _exclude(name, lock.stem)]


def _refuse_held(out: Path, locks: Iterable[Path]) -> None:
    for lock in locks:
        if not lock.is_symlink() and _is_held(lock):  # nobody's: a link is refused to its owner
            raise _refusal(out, lock)


def _own_lock(out: Path, own: Path, wait: bool) -> IO[bytes]:
    told = False
    for attempt in itertools.count() if wait else range(_ATTEMPTS):
        try:
            refuse_links(out, own)
            own.parent.mkdir(parents=True, exist_ok=True)
            stream = own.open("a+b")
        except OutputError as error:
            raise UsageError(str(error)) from error
        except FileNotFoundError as error:  # the last holder was just removing the folder
            if attempt + 1 == _ATTEMPTS:
                raise _unwritable(out, error) from error
            continue
        except OSError as error:
            raise _unwritable(out, error) from error
        if not _locked(stream, shared=False):
            stream.close()
            if not wait:
                raise _refusal(out, own)
            if not told:
                told = True
                logger.warning("%s; its end is awaited", _presence(out, own))
            continue
        with suppress(OSError):
            if os.path.samestat(os.fstat(stream.fileno()), own.stat()):
                return stream
        stream.close()  # the last holder has removed the file meanwhile
    raise _refusal(out, own)


def _unwritable(out: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot write to {printable(str(out))}: {error.strerror}")


def _exclude(name: str, other: str) -> bool:
    divisions = [_division(name), _division(other)]
    return WHOLE in (name, other) and any(divisions) or all(divisions) and len({*divisions}) == 2


def _division(name: str) -> str | None:
    """The N of a part's name."""
    part = re.fullmatch(r"\d+-of-(\d+)", name)
    return part and part[1]


def _is_held(file: Path) -> bool:
    try:
        with file.open("r+b") as stream:
            return not _locked(stream, shared=True)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UsageError(
            f"cannot tell whether another run is at work: {printable(str(file))}: {error.strerror}"
        ) from error


def _locked(stream: IO[bytes], *, shared: bool) -> bool:
    """Lock a file until it is closed; False where somebody else has it."""
    for attempt in range(_ATTEMPTS):
        try:
            _lock(stream, shared)
            return True
        except OSError as error:
            if error.errno in _NO_LOCKS:
                logger.warning(
                    "%s: this file system has no locks; see to it that no two runs write here",
                    stream.name,
                )
                return True
            if attempt + 1 < _ATTEMPTS:
                time.sleep(_PAUSE)
    return False


if sys.platform == "win32":
    import msvcrt

    def _lock(stream: IO[bytes], shared: bool) -> None:
        stream.seek(_BYTE)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(stream: IO[bytes], shared: bool) -> None:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(stream.fileno(), kind | fcntl.LOCK_NB)


def _sign(stream: IO[bytes]) -> None:
    """Say who holds the lock; a disk without room for that does not matter."""
    now = datetime.fromtimestamp(time.time(), timezone.utc).isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
    with suppress(OSError):
        stream.seek(0)
        stream.truncate(0)
        stream.write(json.dumps(holder).encode())
        stream.flush()


def _refusal(out: Path, held: Path) -> UsageError:
    return UsageError(f"{_presence(out, held)}; wait for its end, or name another folder with -o")


def _presence(out: Path, held: Path) -> str:
    return f"another run writes to {printable(str(out))}: {_holder(held)}"


def _holder(file: Path) -> str:
    for _ in range(_ATTEMPTS):  # it may be about to sign
        try:
            told = read_json(file)
            since = str(told["since"])
            return printable(f"process {int(told['pid'])} on {told['host']} since {since}")
        except (OSError, ValueError, LookupError, TypeError):
            time.sleep(_PAUSE)
    return f"it holds {printable(str(file))}"
