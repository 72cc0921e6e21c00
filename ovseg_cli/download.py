"""A published model's file: fetched, resumable and checked, and made into one of our models."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ovseg_cli import weights
from ovseg_cli.catalogue import Published
from ovseg_cli.errors import CheckpointError, NetworkError, OutputError, UsageError
from ovseg_cli.importing import import_checkpoint

CHUNK = 1 << 20  # bytes
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # in a row that brought nothing new
SHA256 = re.compile(r"[0-9a-f]{64}")
OTHERWISE = "A file that came another way becomes a model by `ovseg models import`"

Progress = Callable[[int, "int | None"], None]  # bytes that are here, and in all if that is known


@dataclass(frozen=True)
class Remote:
    """What a server says of a file."""

    url: str
    size_bytes: int | None
    sha256: str | None  # as the hub states it
    version: str  # its ETag; a half file of another version is of no use


def ask(published: Published) -> Remote:
    """Look at the model's file where it is offered, without fetching it.

    Raises UsageError for a model that cannot be downloaded, NetworkError where no server answers.
    """
    if not published.urls:
        raise UsageError(f"{published.name} cannot be downloaded. {published.by_hand}")
    for url in published.urls:
        try:
            with _answer(url, "HEAD") as answer:
                return _described(url, answer)
        except NetworkError as error:
            if error.status not in (404, 410) or url == published.urls[-1]:
                raise
    raise AssertionError("the last address either answers or raises")


def obtain(published: Published, remote: Remote, progress: Progress) -> weights.ModelEntry:
    """Download the model's file and import it under its name.

    Raises what `fetch` and `import_checkpoint` do; of a file that is not a model nothing
    is kept.
    """
    suffix = Path(urlsplit(remote.url).path).suffix
    place = weights.place_of(published.name)
    file = weights.home() / "downloads" / f"{place.stem}{suffix}"
    fetch(remote, file, published.sha256 or remote.sha256, progress)
    try:
        return import_checkpoint(
            file,
            published.name,
            published.options,
            description=published.description,
            licence=published.licence,
        )
    finally:
        file.unlink(missing_ok=True)


def fetch(remote: Remote, target: Path, sha256: str | None, progress: Progress) -> None:
    """Download to `target`, going on with the half file of an earlier call.

    sha256: hexadecimal, of the content. Raises NetworkError for a server that fails or breaks off
    (the half file is kept for the next call), CheckpointError for other content than it should be,
    OutputError for a disk that is full (of both nothing is kept).
    """
    partial = target.with_name(f".{target.name}.partial")
    note = target.with_name(f".{target.name}.version")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        version = json.dumps([remote.url, remote.version, remote.size_bytes])
        if not remote.version or not note.exists() or note.read_text("utf-8") != version:
            partial.unlink(missing_ok=True)
        note.write_text(version, "utf-8")
        _require_room(remote, partial)
        _receive_all(remote, partial, progress)
        if sha256 is not None and weights.file_digest(partial) != sha256:
            raise CheckpointError(
                f"{remote.url} is not the file it should be: its SHA-256 is another; try again "
                "later, and report it where it comes from if it stays so"
            )
        os.replace(partial, target)
    except OSError as error:
        _remove(partial, note)
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    except CheckpointError:
        _remove(partial, note)
        raise
    note.unlink()


def _remove(*files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _require_room(remote: Remote, partial: Path) -> None:
    free = shutil.disk_usage(partial.parent).free
    if remote.size_bytes is not None and remote.size_bytes - _size(partial) > free:
        raise OutputError(
            f"{remote.size_bytes / 1e6:.0f} MB do not fit into {partial.parent}, where "
            f"{free / 1e6:.0f} MB are free: make room, or set OVSEG_HOME to a folder elsewhere"
        )


def _receive_all(remote: Remote, partial: Path, progress: Progress) -> None:
    """Ask for what is missing until nothing is: a connection that breaks is made again."""
    idle = 0
    while True:
        here = _size(partial)
        if here and here == remote.size_bytes:
            return
        try:
            _receive(remote, partial, progress)
            if remote.size_bytes is None or _size(partial) == remote.size_bytes:
                return
            trouble = NetworkError(f"{remote.url}: the connection ended too soon")
        except NetworkError as error:
            if error.status == 416:  # the half file is longer than the file
                partial.unlink(missing_ok=True)
            elif error.status is not None and error.status < 500:
                raise
            trouble = error
        idle = 0 if _size(partial) > here else idle + 1
        if idle == ATTEMPTS:
            kept = f"; {here / 1e6:.1f} MB are kept, the same command goes on" if here else ""
            raise NetworkError(f"{trouble}{kept}") from trouble
        time.sleep(0.1 * 4**idle if idle else 0)


def _receive(remote: Remote, partial: Path, progress: Progress) -> None:
    """Add what one answer brings to the half file."""
    here = _size(partial)
    headers = {"Range": f"bytes={here}-"} if here else {}
    with _answer(remote.url, "GET", headers) as answer:
        if answer.status == 200:
            here = 0  # a server that knows no ranges begins anew
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {here}-"):
            raise NetworkError(f"{remote.url}: the server sends another part than was asked for")
        with partial.open("ab" if here else "wb") as file:
            while data := answer.read():
                here += len(data)
                if remote.size_bytes is not None and here > remote.size_bytes:
                    raise CheckpointError(f"{remote.url} is longer than its server said")
                file.write(data)
                progress(here, remote.size_bytes)


class _Answer:
    """A response; what goes wrong while it is read is a NetworkError."""

    def __init__(self, url: str, response: http.client.HTTPResponse, first: Message) -> None:
        self.url = url
        self.status = response.status
        self.headers = response.headers
        self.first = first  # headers of the server that was asked, before it sent us elsewhere
        self._response = response

    def read(self) -> bytes:
        with _network(self.url):
            return self._response.read(CHUNK)


@contextmanager
def _answer(url: str, method: str, headers: dict[str, str] | None = None) -> Iterator[_Answer]:
    """Ask a server. Proxies are those of the usual variables (HTTPS_PROXY, NO_PROXY, ...)."""
    redirects = _Redirects()
    agent = {"User-Agent": "ovseg", "Accept-Encoding": "identity"}
    with _network(url):
        request = urllib.request.Request(url, headers=agent | (headers or {}), method=method)
        response = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT)
    with response:
        yield _Answer(url, response, redirects.first or response.headers)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to other web addresses, but never from a secure one to one that is not."""

    max_redirections = 5

    def __init__(self) -> None:
        self.first: Message | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        schemes = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
            raise urllib.error.URLError(f"it sends us on to {newurl}, which is not secure")
        if self.first is None:
            self.first = headers
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            following.method = req.get_method()  # the library would turn HEAD into GET
        return following


def _described(url: str, answer: _Answer) -> Remote:
    # A hub's own answer names the file behind the address that it sends us to.
    size = answer.first.get("X-Linked-Size") or answer.headers.get("Content-Length") or ""
    tag = answer.first.get("X-Linked-ETag") or answer.headers.get("ETag") or ""
    linked = (answer.first.get("X-Linked-ETag") or "").strip('"')
    return Remote(
        url=url,
        size_bytes=int(size) if size.isdecimal() else None,
        sha256=linked if SHA256.fullmatch(linked) else None,
        version=tag,
    )


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Failures of the connection and of the server become NetworkError."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise NetworkError(
            f"{url}: the server answers {error.code} {error.reason}{_remedy(error.code)}",
            error.code,
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise NetworkError(
            f"no connection to {urlsplit(url).netloc or url} ({reason}): are you online, and is "
            f"HTTPS_PROXY set where it is needed? {OTHERWISE}"
        ) from error


def _remedy(status: int) -> str:
    """What to do where a server has not, or does not give, what is asked for."""
    if not 400 <= status < 500 or status == 416:
        return ""
    return f"; `ovseg models show` tells the model's page, where it may have moved. {OTHERWISE}"
