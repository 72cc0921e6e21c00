"""A published model's file: fetched, resumable and checked, and made into one of our models."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ovseg_cli import weights
from ovseg_cli.catalogue import Published
from ovseg_cli.errors import CheckpointError, NetworkError, OutputError, UsageError
from ovseg_cli.importing import import_checkpoint
from ovseg_cli.web_answers import Answer, answered, number
from ovseg_cli.whole_files import remove, require_writable

ATTEMPTS = 5  # in a row that brought nothing new
SHA256 = re.compile(r"[0-9a-f]{64}")

Progress = Callable[[int, "int | None"], None]  # bytes that are here, and in all if that is known


@dataclass(frozen=True)
class Remote:
    """What a server says of a file."""

    url: str
    size_bytes: int | None
    sha256: str | None  # as the hub states it
    version: str  # its ETag; a half file of another version is of no use
    tag: str = ""  # the same where it is of the server that sends the bytes, not of a hub before it


def ask(published: Published) -> Remote:
    """Look at the model's file where it is offered, without fetching it.

    Raises UsageError for a model that cannot be downloaded, NetworkError where no server answers.
    """
    if not published.urls:
        raise UsageError(f"{published.name} cannot be downloaded. {published.by_hand}")
    for url in published.urls:
        try:
            return _looked_at(url)
        except NetworkError as error:
            if error.status not in (404, 410) or url == published.urls[-1]:
                raise
    raise AssertionError("the last address either answers or raises")


def obtain(published: Published, remote: Remote, progress: Progress) -> weights.ModelEntry:
    """Download the model's file and import it under its name, whatever is there of that name.

    Raises what `fetch` does, CheckpointError for a file that is not the model it should be,
    OutputError, and UsageError, before it fetches anything, where no model can be written. Of a
    file that is not a model nothing is kept; one that could not be imported for another reason
    stays, and the next call does not fetch it again.
    """
    suffix = Path(urlsplit(remote.url).path).suffix
    place = weights.place_of(published.name)
    require_writable(place.parent)
    file = weights.home() / "downloads" / f"{place.stem}{suffix}"
    fetch(remote, file, published.sha256 or remote.sha256, progress)
    try:
        entry = import_checkpoint(
            file,
            published.name,
            published.options,
            description=published.description,
            licence=published.licence,
        )
    except CheckpointError:
        remove([file, _note(file)])
        raise
    except UsageError as error:  # of the catalogue's options: the user has given none
        remove([file, _note(file)])
        raise CheckpointError(
            f"{remote.url} does not fit what is known of {published.name} ({error}). A file that "
            "came another way becomes a model by `ovseg models import --config`"
        ) from error
    remove([file, _note(file)])
    return entry


def fetch(remote: Remote, target: Path, sha256: str | None, progress: Progress) -> None:
    """Download to `target`, going on with the half file of an earlier call.

    A note of the file's version stays beside it, by which a later call knows it again.

    sha256: hexadecimal, of the content. Raises NetworkError for a server that fails or breaks off
    (the half file is kept for the next call), CheckpointError for other content than it should be,
    OutputError for a disk that is full (of both nothing is kept) or known to be too small.
    """
    partial = target.with_name(f".{target.name}.partial")
    note = _note(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # whole, from a call after which it could not be imported
            os.replace(target, partial)
        version = json.dumps([remote.url, remote.version, remote.size_bytes]).encode()
        if not remote.version or not note.exists() or note.read_bytes() != version:
            partial.unlink(missing_ok=True)
            note.unlink(missing_ok=True)
        _require_room(remote, partial)
        note.write_bytes(version)
        _receive_all(remote, partial, progress)
        if sha256 is not None and weights.file_digest(partial) != sha256:
            raise CheckpointError(
                f"{remote.url} is not the file it should be: its SHA-256 is another; try again "
                "later, and report it where it comes from if it stays so"
            )
        os.replace(partial, target)
    except OSError as error:
        remove([partial, note])
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    except CheckpointError:
        remove([partial, note])
        raise


def _note(target: Path) -> Path:
    """Where it stands which version of a file is here, wholly or in part."""
    return target.with_name(f".{target.name}.version")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _require_room(remote: Remote, partial: Path) -> None:
    """For what is missing of the file, and for the model, which is about as large."""
    free = shutil.disk_usage(partial.parent).free
    if remote.size_bytes is not None and 2 * remote.size_bytes - _size(partial) > free:
        raise OutputError(
            f"{remote.size_bytes / 1e6:.0f} MB, and as much again for the model made of them, do "
            f"not fit into {partial.parent}, where {free / 1e6:.0f} MB are free: make room, or set "
            "OVSEG_HOME to a folder elsewhere"
        )


def _receive_all(remote: Remote, partial: Path, progress: Progress) -> None:
    """Ask for what is missing until nothing is: a connection that breaks is made again."""
    most, idle = _size(partial), 0
    while not _size(partial) or _size(partial) != remote.size_bytes:
        try:
            if _receive(remote, partial, progress):
                return
            trouble = NetworkError(f"{remote.url}: the connection ended too soon")
        except NetworkError as error:
            trouble = error
        if trouble.status == 416:  # the half file is longer than the file
            partial.unlink(missing_ok=True)
        here = _size(partial)
        # Not of what this attempt began with: a server may let us begin anew again and again.
        idle = 0 if here > most else idle + 1
        most = max(most, here)
        refused = trouble.status is not None and trouble.status < 500 and trouble.status != 416
        if refused or idle == ATTEMPTS:
            kept = f"; {here / 1e6:.1f} MB are kept, the same command goes on" if here else ""
            raise NetworkError(f"{trouble}{kept}", trouble.status) from trouble
        time.sleep(0.1 * 4**idle if idle else 0)


def _receive(remote: Remote, partial: Path, progress: Progress) -> bool:
    """Add what one answer brings to the half file; whether that is then whole."""
    here = _size(partial)
    headers = {"Range": f"bytes={here}-"} if here else {}
    tag = remote.tag if remote.sha256 is None else ""  # else the checksum tells versions apart
    if here and tag.startswith('"'):  # a strong one: the same tag, the same bytes
        headers["If-Range"] = tag
    with answered(remote.url, "GET", headers) as answer:
        if answer.status == 200:
            here = 0  # the server knows no ranges, or has another version: it begins anew
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {here}-"):
            raise NetworkError(f"{remote.url}: the server sends another part than was asked for")
        elif tag and answer.headers.get("ETag", tag) != tag:
            raise _replaced(remote, answer)
        size = answer.size_bytes if remote.size_bytes is None else remote.size_bytes
        if answer.size_bytes not in (None, size):
            raise _replaced(remote, answer)
        with partial.open("ab" if here else "wb") as file:
            while data := answer.read():
                here += len(data)
                if size is not None and here > size:
                    raise CheckpointError(f"{remote.url} is longer than its server said")
                file.write(data)
                progress(here, size)
    return size is None or here == size


def _replaced(remote: Remote, answer: Answer) -> NetworkError:
    return NetworkError(
        f"{remote.url}: the server sends another file than it announced; it may have been "
        "replaced meanwhile, or something on the way answers in its place: repeat the command",
        answer.status,
    )


def _looked_at(url: str) -> Remote:
    try:
        with answered(url, "HEAD") as answer:
            return _described(url, answer)
    except NetworkError as error:
        if error.status not in (405, 501):
            raise
    # A server that knows no HEAD: the first byte does as well.
    with answered(url, "GET", {"Range": "bytes=0-0"}) as answer:
        return _described(url, answer)


def _described(url: str, answer: Answer) -> Remote:
    # A hub's own answer names the file behind the address that it sends us to.
    size = number(answer.linked.get("X-Linked-Size"))
    linked = answer.linked.get("X-Linked-ETag", "")
    sha256 = linked.strip('"')
    return Remote(
        url=url,
        size_bytes=answer.size_bytes if size is None else size,
        sha256=sha256 if SHA256.fullmatch(sha256) else None,
        version=linked or answer.headers.get("ETag", ""),
        tag="" if linked else answer.headers.get("ETag", ""),
    )
