"""A server of the test's own, that behaves well, badly, or as an enemy would."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def running(answer: Answer) -> Iterator[SimpleNamespace]:
    """Does what `server.answer(request)` does; `server.seen` lists method, path and range."""
    state = SimpleNamespace(answer=answer, seen=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.seen.append((self.command, self.path, self.headers.get("Range")))
            with suppress(ConnectionError):  # who asks need not wait for the end
                state.answer(self)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))  # seconds
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def serve(
    content: bytes,
    *,
    cut: int | None = None,
    ranges: bool = True,
    tag: str = '"v1"',
    heeds_tag: bool = True,
    **headers: str,
) -> Answer:
    """The file as a good server gives it; cut: break the connection after so many bytes.

    heeds_tag: send the part that is asked for only if it is still of that version (If-Range).
    """

    def answer(request: BaseHTTPRequestHandler) -> None:
        start, end = 0, len(content)
        asked = request.headers.get("Range")
        current = not heeds_tag or request.headers.get("If-Range", tag) == tag
        if asked and ranges and current:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1 if last else end
            if start >= len(content):
                request.send_error(416)
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(end - start))
        request.send_header("ETag", tag)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content[start : end if cut is None else min(start + cut, end)])

    return answer


def plain(status: int, **headers: str) -> Answer:
    """Nothing but this status and these headers."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()

    return answer


def redirect(target: str, status: int = 302, **headers: str) -> Answer:
    return plain(status, Location=target, **headers)
