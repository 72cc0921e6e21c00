"""Work in a process of its own: with memory of its own, and before torch is loaded there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from ovseg_cli.errors import OvsegError

Value = TypeVar("Value")


def in_fresh_process(function: Callable[..., Value], *arguments: Any) -> Value:
    """What the function gives there; raises what it raises, and OvsegError where it is killed."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        try:
            return fresh.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise OvsegError(
                "the measuring process was killed, most likely for want of memory: leave out what "
                "needs most of it (--only)"
            ) from error
