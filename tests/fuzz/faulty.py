"""Readers with a fault each, which the fuzzing has to find."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fuzz.readers import Reader


def _faulty(fault: Callable[[Path], object]) -> Reader:
    def prepare(folder: Path) -> Callable[[], None]:
        (folder / "a.txt").write_bytes(b"whole")

        def read() -> None:
            if (folder / "a.txt").read_bytes() != b"whole":
                fault(folder)

        return read

    return Reader(prepare)


def _hang(folder: Path) -> None:
    while True:
        pass


FAULTS = {
    "error": _faulty(lambda folder: {}["missing"]),
    "hang": _faulty(_hang),
    "crash": _faulty(lambda folder: os.abort()),
    "memory": _faulty(lambda folder: np.ones(300_000_000)),  # 2.4 GB
    "outside": _faulty(lambda folder: (folder.parent / "escaped").touch()),
    "none": _faulty(lambda folder: None),
}
