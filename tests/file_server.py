"""A server of the test's own, that behaves well, badly, or as an enemy would."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
            state.answer(self)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
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
    **headers: str,
) -> Answer:
    """The file as a good server gives it; cut: break the connection after so many bytes."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        start = 0
        asked = request.headers.get("Range")
        if asked and ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                request.send_error(416)
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(content) - start))
        request.send_header("ETag", '"v1"')
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content[start : None if cut is None else start + cut])

    return answer


def redirect(target: str, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", target)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()

    return answer
