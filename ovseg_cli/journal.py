"""What is finished in an output folder: a JSON line per input, written once its files are there.

`--resume` and the tables of a run are made from it. Several processes may work on one output
folder when each has a journal of its own (`--shard`); everyone reads all of them.
"""

import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from ovseg_cli.errors import OutputError


@dataclass(frozen=True)
class Entry:
    """One input that was finished, or failed."""

    rel: str  # REL of the outputs
    path: str  # the input, absolute
    size: int  # of the input file, bytes
    modified_ns: int  # of the input file
    run: str  # fingerprint of the model and options
    width: int = 0
    height: int = 0
    areas: tuple[tuple[int, int, float], ...] = ()  # class id, pixels, mean confidence
    # Name in --save -> path below the output folder -> bytes.
    files: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    reason: str = ""  # why it failed; empty = it did not
    finished: float = 0.0  # seconds since 1970; the latest entry of an input counts


class Journal:
    """The entries below one output folder; the latest of an input is the one that counts.

    The entries themselves stay on disk: memory holds two numbers an input.
    """

    def __init__(self, folder: Path, part: str = "") -> None:
        self._folder = folder
        self._own = folder / (f"journal-{part}.jsonl" if part else "journal.jsonl")
        self._lock = threading.Lock()
        self._places: dict[str, tuple[Path, int]] = {}  # rel -> file and offset of its entry

    def load(self) -> None:
        """Read what earlier runs, and other parts of this one, have finished."""
        finished: dict[str, float] = {}
        self._places.clear()
        for file in self.files():
            for offset, entry in _entries(file):
                if entry.finished >= finished.get(entry.rel, 0.0):
                    finished[entry.rel] = entry.finished
                    self._places[entry.rel] = (file, offset)

    def files(self) -> list[Path]:
        """The journals of all parts that exist."""
        return sorted(self._folder.glob("journal*.jsonl"))

    def entries(self) -> Iterator[Entry]:
        """Every entry on disk, also those that a later one replaces."""
        for file in self.files():
            for _, entry in _entries(file):
                yield entry

    def entry(self, rel: str) -> Entry | None:
        """The latest entry of an input."""
        place = self._places.get(rel)
        if place is None:
            return None
        file, offset = place
        with file.open("rb") as stream:
            stream.seek(offset)
            return _parse(stream.readline())

    def append(self, entry: Entry) -> None:
        """Add an entry; safe to call from several threads. Raises OutputError (no space)."""
        values = asdict(entry) | {"finished": time.time()}
        line = json.dumps(values, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                with self._own.open("a+b", buffering=0) as stream:
                    offset = _append_line(cast(BinaryIO, stream), line)
            except OSError as error:
                raise OutputError(f"cannot write {self._own}: {error.strerror}") from error
            self._places[entry.rel] = (self._own, offset)


def run_fingerprint(values: Mapping[str, Any]) -> str:
    """A short name for everything beside the input that an output depends on."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _append_line(stream: BinaryIO, line: bytes) -> int:
    """Write a whole line or nothing; returns where it starts."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, end - 1))
    if stream.read(1) not in (b"", b"\n"):
        line = b"\n" + line  # after a line that a crash cut short
    written = stream.write(line)
    if written != len(line):
        stream.truncate(end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return end + (line[:1] == b"\n")


def _entries(file: Path) -> Iterator[tuple[int, Entry]]:
    offset = 0
    with file.open("rb") as stream:
        for line in stream:
            entry = _parse(line)
            if entry is not None:
                yield offset, entry
            offset += len(line)


def _parse(line: bytes) -> Entry | None:
    """None for a line that a crash or power cut left behind."""
    try:
        values = json.loads(line)
        return Entry(**values | {"areas": tuple(map(tuple, values["areas"]))})
    except (ValueError, TypeError, KeyError):
        return None
