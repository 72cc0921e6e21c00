"""The processor cores and the memory that this process may use."""

import ctypes
import os
from contextlib import suppress


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


def keep_freed_memory() -> None:
    """Let glibc take memory from the system in large pieces; elsewhere nothing happens.

    Each photo's tensors are freed before the next photo's are made. Left alone, glibc gives that
    memory back and takes it again page by page: 900 000 page faults in a run of 200 photos, a
    quarter of that with this.
    """
    m_top_pad = -2  # in <malloc.h>
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").mallopt(m_top_pad, 64 << 20)
