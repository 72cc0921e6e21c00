"""The processor cores that this process may use."""

import os


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share_cores(streams: int) -> None:
    """Let each of so many passes on the CPU use its share of the cores.

    To be called before torch is loaded: OpenMP looks only then. What the user set stays.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // streams)))
