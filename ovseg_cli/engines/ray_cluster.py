"""A Ray cluster: the one that was named, or one of this machine alone for the length of a run."""

import io
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from ovseg_cli.cores import available_cores
from ovseg_cli.errors import UsageError

_CORES = 4  # of an actor: more streams than that share out the memory bandwidth of one processor
_ANSWER_SECONDS = 10.0  # in which a cluster takes a connection
_STORE_BYTES = 200_000_000  # shared memory of a cluster of our own; only rows of results lie there
# Ray looks at these when it is imported. What the user set stays.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to Ray's makers
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # no warnings of its C++ parts among our messages
    "RAY_worker_niceness": "0",  # of a cluster of our own; 15 would starve beside other work
}
# How both sides of HTTP/2, which clusters speak, begin: here the client's, with a frame of no
# SETTINGS (RFC 9113, 3.4). A frame's fourth byte is its type.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_FRAME_BYTES, _SETTINGS_FRAME = 9, 4


@dataclass(frozen=True)
class Pool:
    """How many actors there are, and what each holds of the cluster."""

    actors: int
    cores: float  # of each; less than one where there are more actors than cores
    gpus: float  # of each


def load_ray() -> Any:
    """Ray with Ray Data; raises UsageError where it is not installed."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if _has_token():  # Ray itself shows it to a cluster that it finds, not to one at an address
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'ovseg-cli[ray]'") from error
    return ray


def _has_token() -> bool:
    """Whether there is, where Ray looks for it, what some clusters want to be shown."""
    named = any(map(os.environ.get, ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")))
    return named or os.path.isfile(os.path.expanduser("~/.ray/auth_token"))


@contextmanager
def connected(ray: Any, address: str | None) -> Iterator[None]:
    """A cluster while the block runs; raises UsageError where there is none at the address.

    Without an address, and without RAY_ADDRESS, a cluster of this machine is started. One to which
    this process is connected already is used and left as it is.
    """
    if address is not None and not address.strip():
        raise UsageError(
            "an empty address of a Ray cluster: name HOST:PORT or 'auto', or leave --address out"
        )
    output: Any = _OwnOutput()
    if ray.is_initialized():
        with redirect_stdout(output):
            yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {}
    if address == "local":
        own = {
            "num_cpus": available_cores(),
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
        }
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        _require_answer(address)
        with _kept_signal_handler(), redirect_stdout(sys.stderr):
            ray.init(address=address, **quiet, **own)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"no Ray cluster at {address} ({str(error).strip().splitlines()[0]}): 'ray start "
            "--head' starts one; without --address this machine alone is used"
        ) from error
    try:
        with redirect_stdout(output):
            yield
    finally:
        with redirect_stdout(sys.stderr):
            ray.shutdown()


class _OwnOutput:
    """Standard output of the thread that makes it; what others write goes to standard error.

    Ray prints what happens to a cluster's processes from a thread of its own, whatever it is told
    of logs, and standard output is for data.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._output = sys.stdout or io.StringIO()  # closed: what is printed goes nowhere

    def __getattr__(self, name: str) -> Any:
        own = threading.get_ident() == self._thread
        return getattr(self._output if own else sys.stderr, name)


def _require_answer(address: str) -> None:
    """Raise OSError where nothing at HOST:PORT is a cluster: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    place = host.strip("[]"), int(port)
    with socket.create_connection(place, timeout=_ANSWER_SECONDS) as line:
        if os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true"):
            return
        line.sendall(_GREETING)
        with line.makefile("rb") as answer:
            if answer.read(_FRAME_BYTES)[3:4] != bytes([_SETTINGS_FRAME]):
                raise OSError("something else answers there")


@contextmanager
def _kept_signal_handler() -> Iterator[None]:
    """Ray puts a handler of its own on SIGTERM, which would end a run without its tables."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def alive(ray: Any) -> list[Mapping[str, float]]:
    """The resources of each node that is there."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def plan_pool(nodes: Sequence[Mapping[str, float]], wanted: int | None, device: str) -> Pool:
    """Divide a cluster among actors.

    Each has a GPU where there are any (`device` may rule that out), else as many cores as the
    smallest node can give, at most four. With `wanted` actors each has its share instead. Raises
    UsageError where the nodes have no cores for us.
    """
    cores = [node.get("CPU", 0.0) for node in nodes if node.get("CPU", 0.0) >= 1]
    if not cores:
        raise UsageError("the Ray cluster has no cores to compute with")
    gpus = 0.0 if device in ("cpu", "mps") else sum(node.get("GPU", 0.0) for node in nodes)
    each = min(_CORES, min(cores))
    actors = wanted or int(gpus) or int(sum(had // each for had in cores))
    share = sum(cores) / actors
    return Pool(
        actors=actors,
        cores=min(each, int(share) if share >= 1 else share),
        gpus=min(1.0, gpus / actors),
    )
