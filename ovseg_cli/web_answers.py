"""What a web server answers: through redirects that are safe, and with what goes wrong said."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from ovseg_cli.errors import NetworkError

CHUNK = 1 << 20  # bytes
TIMEOUT = 30.0  # seconds without a byte
PAUSES = 3  # that a server with too many requests may ask for, ...
PAUSE, LONGEST_PAUSE = 5, 60  # ... of so many seconds where it does not say, and at most
NUMBER = re.compile(r"[0-9]{1,15}")
PACKINGS = ("gzip", "x-gzip", "deflate", "br", "zstd", "compress")  # others change no bytes
OTHERWISE = "A file that came another way becomes a model by `ovseg models import`"

Hops = list[tuple[str, Message]]  # address and headers of each server that answered, in order


class Answer:
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
            return number(self.headers.get("Content-Range", "").rpartition("/")[2])
        return number(self.headers.get("Content-Length"))

    def read(self) -> bytes:
        """What has come so far: of a connection that breaks then, nothing is lost."""
        with _network(self.url):
            return self._response.read1(CHUNK)


def number(text: str | None) -> int | None:
    """A whole number as headers have it; None for anything else."""
    return int(text) if text and NUMBER.fullmatch(text) else None


@contextmanager
def answered(url: str, method: str, headers: dict[str, str] | None = None) -> Iterator[Answer]:
    """Ask a server. Proxies are those of the usual variables (HTTPS_PROXY, NO_PROXY, ...)."""
    with _network(url):
        response, hops = _opened(url, method, headers or {})
    with response:
        _require_file(url, response)
        yield Answer(url, response, _linked(hops))


def _opened(
    url: str, method: str, headers: dict[str, str]
) -> tuple[http.client.HTTPResponse, Hops]:
    """The answer; a server with too many requests is asked again when it says, if that is soon."""
    agent = {"User-Agent": "ovseg", "Accept-Encoding": "identity"}
    pauses = 0
    while True:
        redirects = Redirects()
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
    said = number(error.headers.get("Retry-After"))
    return PAUSE if said is None else said


class Redirects(urllib.request.HTTPRedirectHandler):
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
    packed = response.headers.get("Content-Encoding", "").strip().lower()
    if packed in PACKINGS:
        raise NetworkError(
            f"{url}: the server packs the file ({packed}) though it was asked not to. {OTHERWISE}",
            response.status,
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
