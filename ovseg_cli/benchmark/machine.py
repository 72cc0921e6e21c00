"""What machine figures were measured on."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from typing import Any

import torch

from ovseg_cli import __version__
from ovseg_cli.cores import available_cores


def machine() -> dict[str, Any]:
    """Processor, cores, threads of a pass, memory, device, versions and the date."""
    return {
        "cpu": _processor(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "memory_gb": _memory_gb(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "ovseg": __version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def one_line(facts: dict[str, Any]) -> str:
    """The same for people."""
    gpu = f", {facts['gpu']}" if facts["gpu"] else ""
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads a pass{gpu}, "
        f"{facts['system']}, torch {facts['torch']}, ovseg {facts['ovseg']}, {facts['date'][:10]}"
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):  # not Linux, or a processor that is not named there
        return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, OSError, ValueError):  # Windows
        return None
