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
from ovseg_cli.whole_files import remove, require_writable

CHUNK = 1 << 20  # bytes
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # in a row that brought nothing new
PAUSES = 3  # that a server with too many requests may ask for, ...
PAUSE, LONGEST_PAUSE = 5, 60  # ... of so many seconds where it does not say, and at most
SHA256 = re.compile(r"[0-9a-f]{64}")
NUMBER = re.compile(r"[0-9]{1,15}")
OTHERWISE = "A file that came another way becomes a model by `ovseg models import`"

Progress = Callable[[int, "int | None"], None]  # bytes that are here, and in all if that is known
Hops = list[tuple[str, Message]]  # address and headers of each server that answered, in order


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
            return _looked_at(url)
        except NetworkError as error:
            if error.status not in (404, 410) or url == published.urls[-1]:
                raise
    raise AssertionError("the last address either answers or raises")


def obtain(published: Published, remote: Remote, progress: Progress) -> weights.ModelEntry:
    """Download the model's file and import it under its name, whatever is there of that name.

    Raises what `fetch` and `import_checkpoint` do, and UsageError, before it fetches anything,
    where no model can be written. Of a file that is not a model nothing is kept; one that could
    not be imported for another reason stays, and the next call does not fetch it again.
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
    except (CheckpointError, UsageError):
        remove([file, _note(file)])
        raise
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
        note.write_bytes(version)
        _require_room(remote, partial)
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
    # The hub's tag is not that of the store it sends us to; there the SHA-256 tells versions apart.
    tag = remote.version if remote.sha256 is None else ""
    if here and tag.startswith('"'):  # a strong one: the same tag, the same bytes
        headers["If-Range"] = tag
    with _answer(remote.url, "GET", headers) as answer:
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


def _replaced(remote: Remote, answer: _Answer) -> NetworkError:
    return NetworkError(
        f"{remote.url}: the server sends another file than it announced; it may have been "
        "replaced meanwhile, or something on the way answers in its place: repeat the command",
        answer.status,
    )


class _Answer:
    """A response; what goes wrong while it is read is a NetworkError."""

    def __init__(self, url: str, response: http.client.HTTPResponse, linked: Message) -> None:
        self.url = url
        self.status = response.status
        self.headers = response.headers
        self.linked = linked  # what the asked host says of the file that it sends us on to
        self._response = response

    @property
    def size_bytes(self) -> int | None:
        """Of the whole file, where the server says it."""
        if self.status == 206:
            return _number(self.headers.get("Content-Range", "").rpartition("/")[2])
        return _number(self.headers.get("Content-Length"))

    def read(self) -> bytes:
        """What has come so far: of a connection that breaks then, nothing is lost."""
        with _network(self.url):
            return self._response.read1(CHUNK)


def _number(text: str | None) -> int | None:
    return int(text) if text and NUMBER.fullmatch(text) else None


@contextmanager
def _answer(url: str, method: str, headers: dict[str, str] | None = None) -> Iterator[_Answer]:
    """Ask a server. Proxies are those of the usual variables (HTTPS_PROXY, NO_PROXY, ...)."""
    with _network(url):
        response, hops = _opened(url, method, headers or {})
    with response:
        _require_file(url, response)
        yield _Answer(url, response, _linked(hops))


def _opened(
    url: str, method: str, headers: dict[str, str]
) -> tuple[http.client.HTTPResponse, Hops]:
    """The answer; a server with too many requests is asked again when it says, if that is soon."""
    agent = {"User-Agent": "ovseg", "Accept-Encoding": "identity"}
    pauses = 0
    while True:
        redirects = _Redirects()
        request = urllib.request.Request(url, headers=agent | headers, method=method)
        try:
            response = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT)
            return response, [*redirects.hops, (response.url, response.headers)]
        except urllib.error.HTTPError as error:
            pause = _pause(error)
            if error.code != 429 or pause > LONGEST_PAUSE or pauses == PAUSES:
                raise
            error.close()
        pauses += 1
        time.sleep(pause)


def _pause(error: urllib.error.HTTPError) -> int:
    """Seconds after which a server wants to be asked again."""
    said = _number(error.headers.get("Retry-After"))
    return PAUSE if said is None else said


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to other web addresses, but never from a secure one to one that is not."""

    max_redirections = 5

    def __init__(self) -> None:
        self.hops: Hops = []

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        here, there = urlsplit(req.full_url), urlsplit(newurl)
        opened = (here.scheme, there.scheme) == ("https", "http")
        if there.scheme not in ("http", "https") or opened:
            # Without what may be secret in it: a name with a password, a signature.
            place = f"{there.scheme}://{there.netloc.rpartition('@')[2]}"
            raise urllib.error.URLError(f"it sends us on to {place}, which is not secure")
        self.hops.append((req.full_url, headers))
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            following.method = req.get_method()  # the library would turn HEAD into GET
        return following


def _linked(hops: Hops) -> Message:
    """Headers by which the asked host names the file, before it sends us elsewhere.

    A renamed repository is first sent on to its new name on the same host. The word of another
    host, or of this one once another has led back to it, does not count.
    """
    asked = urlsplit(hops[0][0]).netloc
    for url, headers in hops:
        if urlsplit(url).netloc != asked:
            break
        if "X-Linked-ETag" in headers:
            return headers
    return Message()


def _require_file(url: str, response: http.client.HTTPResponse) -> None:
    """Raise NetworkError for what no server sends that has the file."""
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise NetworkError(
            f"{url}: a web page comes instead of the model, as from a network or site that wants "
            f"you to sign in first: open the address in a browser. {OTHERWISE}",
            response.status,
        )
    packed = response.headers.get("Content-Encoding", "identity")
    if packed != "identity":
        raise NetworkError(
            f"{url}: the server packs the file ({packed}) though it was asked not to. {OTHERWISE}",
            response.status,
        )


def _looked_at(url: str) -> Remote:
    try:
        with _answer(url, "HEAD") as answer:
            return _described(url, answer)
    except NetworkError as error:
        if error.status not in (405, 501):
            raise
    # A server that knows no HEAD: the first byte does as well.
    with _answer(url, "GET", {"Range": "bytes=0-0"}) as answer:
        return _described(url, answer)


def _described(url: str, answer: _Answer) -> Remote:
    # A hub's own answer names the file behind the address that it sends us to.
    size = _number(answer.linked.get("X-Linked-Size"))
    linked = answer.linked.get("X-Linked-ETag", "")
    sha256 = linked.strip('"')
    return Remote(
        url=url,
        size_bytes=answer.size_bytes if size is None else size,
        sha256=sha256 if SHA256.fullmatch(sha256) else None,
        version=linked or answer.headers.get("ETag", ""),
    )


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Failures of the connection and of the server become NetworkError."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise NetworkError(
            f"{url}: the server answers {error.code} {error.reason}{_remedy(error)}",
            error.code,
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise NetworkError(
            f"no connection to {urlsplit(url).netloc or url} ({reason}): are you online, and is "
            f"HTTPS_PROXY set where it is needed? {OTHERWISE}"
        ) from error


def _remedy(error: urllib.error.HTTPError) -> str:
    """What to do where a server has not, or does not give, what is asked for."""
    if not 400 <= error.code < 500 or error.code == 416:
        return ""
    if error.code in (401, 403):
        return (
            "; the file may be for those only who sign in or accept its terms, and ovseg sends no "
            f"token: fetch it with a browser. {OTHERWISE}"
        )
    if error.code == 429:
        return f": too many requests; repeat the command in {_pause(error)} s"
    return f"; `ovseg models show` tells the model's page, where it may have moved. {OTHERWISE}"
