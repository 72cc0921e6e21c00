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
    memory back and takes it again, to be cleared each time: on two cores the system took 2.9 s of a
    run of 200 photos, and 1.0 to 2.1 s with this.
    """
    # Names and numbers of <malloc.h>; the threshold of mmap is the largest that it takes.
    m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
    with suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_top_pad, 64 << 20)
        libc.mallopt(m_trim_threshold, 1 << 30)
        libc.mallopt(m_mmap_threshold, 32 << 20)
