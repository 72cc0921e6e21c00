"""Ways of computing the same thing: their median time, and the peak of memory of each.

Ways are timed in turn, for the speed of a machine drifts. Peaks are those of a fresh process each.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ovseg_cli.benchmark.fresh import in_fresh_process
from ovseg_cli.cores import keep_freed_memory

Way = Callable[[], object]
Prepare = Callable[[Any], Way]  # what is measured -> a way, ready to run; goes to other processes


@dataclass(frozen=True)
class Cost:
    """Of one way, once."""

    seconds: float
    peak_bytes: float  # of the whole process, or of the GPU; 0 where the system does not tell


def costs(prepare: Prepare, points: Sequence[Any], runs: int) -> list[Cost]:
    """The cost of prepare(point) for each point: medians of `runs`, after one unmeasured turn."""
    return [
        Cost(seconds, once(prepare, point).peak_bytes)
        for seconds, point in zip(times(prepare, points, runs), points, strict=True)
    ]


def times(prepare: Prepare, points: Sequence[Any], runs: int) -> list[float]:
    """The seconds alone, all in one process."""
    return in_fresh_process(_times, prepare, points, runs)


def once(prepare: Prepare, point: Any) -> Cost:
    """The cost of a single run in a process of its own."""
    return in_fresh_process(_once, prepare, point)


@torch.inference_mode()
def medians(ways: Mapping[str, Way], runs: int) -> dict[str, float]:
    """Median seconds of each, after one unmeasured turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(runs + (runs > 1)):
        for name, way in ways.items():
            taken = _seconds(way)
            if turn or runs == 1:
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _times(prepare: Prepare, points: Sequence[Any], runs: int) -> list[float]:
    keep_freed_memory()  # as the commands do
    ways = {str(number): prepare(point) for number, point in enumerate(points)}
    return list(medians(ways, runs).values())


@torch.inference_mode()
def _once(prepare: Prepare, point: Any) -> Cost:
    keep_freed_memory()
    seconds = _seconds(prepare(point))
    return Cost(seconds, _peak_bytes())


def _seconds(way: Way) -> float:
    _wait()
    started = time.perf_counter()
    way()
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _peak_bytes() -> float:
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    # Not from getrusage: there a process begins with the peak of the one that started it.
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text("utf-8", "replace").splitlines()
        return next((1024.0 * int(x.split()[1]) for x in lines if x.startswith("VmHWM")), 0.0)
    if os.name == "posix":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024)
    return 0.0
