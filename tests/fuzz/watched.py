"""Runs `fuzz.worker` in a process of its own, and says how that ended.

The worker ends itself where one input takes too long, whatever holds the interpreter; what it has
tried last lies in a file, so that a crash has its cause.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Outcome:
    """What became of one reader's inputs."""

    tried: int
    read: int  # without an error
    refused: int  # by an OvsegError
    peak_mb: float  # resident memory beyond what the imports take
    findings: tuple[str, ...]


def fuzz(
    reader: str, folder: Path, *, examples: int = 0, seconds: float = 0.0, longest: float = 10.0
) -> Outcome:
    """Feed a reader so many inputs, or for so long; longest: seconds that one of them may take."""
    folder.mkdir(parents=True, exist_ok=True)
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "fuzz.worker", reader, str(folder)),
            *(str(examples), str(seconds), str(longest)),
        ],
        cwd=TESTS,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
            "OVSEG_HOME": str(folder / "out" / "home"),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        errors="backslashreplace",
    )
    lines = ran.stdout.strip().splitlines()
    try:
        told = json.loads(lines[-1])
    except (IndexError, ValueError):
        told = {"tried": 0, "read": 0, "refused": 0, "peak_mb": 0.0, "findings": []}
    findings = list(told["findings"])
    if ran.returncode:
        findings.append(
            f"ended with {ran.returncode} at {folder / 'current'}: {ran.stderr[-3000:]}"
        )
    return Outcome(told["tried"], told["read"], told["refused"], told["peak_mb"], tuple(findings))
