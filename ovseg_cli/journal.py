"""What is finished in an output folder: a JSON line per input, written once its files are there.

`--resume` and the tables of a run are made from it. Several processes may work on one output
folder when each has a journal of its own (`--shard`); everyone reads all of them.

What it promises. After a kill: a line names only files that are whole, for they were renamed into
their places before it. After a power cut: what was finished before the last `SYNC_ENTRIES` photos
and the last `SYNC_SECONDS` has its line; later photos are done again. The photos' own files are
left to the file system, so that a line may outlive them: `--resume` looks at each file's size.
"""

import contextlib
import errno
import hashlib
import json
import os
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from ovseg_cli.errors import OutputError
from ovseg_cli.json_files import parse_json

SYNC_ENTRIES = 64  # lines that are written before they are forced to the disk, at most
SYNC_SECONDS = 1.0  # after which the next line forces them
_UNSETTLED = 1 << 16  # new entries that are kept apart from the sorted ones
_OFFSET_BITS = 48  # of a place; above them stands the number of the file
_OPEN_FILES = 64  # journals that are kept open for reading


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
    order: int = 0  # greater than that of all earlier entries; the latest of an input counts
    finished: float = 0.0  # seconds since 1970, for people: clocks may go backwards


class Journal:
    """The entries below one output folder; the latest of an input is the one that counts.

    The entries themselves stay on disk: memory holds 16 bytes an input.
    """

    def __init__(self, folder: Path, part: str = "") -> None:
        self._folder = folder
        self.own = folder / (f"journal-{part}.jsonl" if part else "journal.jsonl")
        self._lock = threading.Lock()
        self._index = _Index()
        self._numbered: list[Path] = []  # the files that places speak of
        self._readers: dict[int, BinaryIO] = {}  # by number of the file
        self._writer: BinaryIO | None = None
        self._next = -1  # order of the next entry; -1 = the earlier ones are not known yet
        self._unsynced = 0
        self._synced = time.monotonic()

    def load(self) -> None:
        """Read what earlier runs, and other parts of this one, have finished."""
        with self._lock:
            self._load()

    def files(self) -> list[Path]:
        """The journals of all parts that exist."""
        return sorted(self._folder.glob("journal*.jsonl"))

    def entries(self, *, own: bool = False) -> Iterator[Entry]:
        """Every entry on disk, or of the own part, also those that a later one replaces."""
        files = self.files()
        for file in [self.own] * (self.own in files) if own else files:
            with file.open("rb") as stream:
                yield from filter(None, map(_parse, stream))

    def entry(self, rel: str) -> Entry | None:
        """The latest entry of an input."""
        with self._lock:
            place = self._index.find(rel)
            line = b"" if place is None else self._line(place)
        entry = _parse(line)
        return entry if entry is not None and entry.rel == rel else None

    def append(self, entry: Entry) -> None:
        """Add an entry; safe to call from several threads. Raises OutputError (no space)."""
        with self._lock:
            try:
                if self._next < 0:
                    self._load()
                values = {"rel": entry.rel, "order": self._next}
                values = values | asdict(entry) | values | {"finished": round(time.time(), 3)}
                line = json.dumps(values, separators=(",", ":")).encode() + b"\n"
                offset = _append_line(self._opened(), line)
            except OSError as error:
                raise OutputError(f"cannot write {self.own}: {error.strerror}") from error
            self._index.put(entry.rel, self._place(self.own, offset))
            self._next += 1
            self._unsynced += 1
            due = self._unsynced >= SYNC_ENTRIES or time.monotonic() - self._synced >= SYNC_SECONDS
        if due:
            self.sync()

    def sync(self) -> None:
        """Force what is written to the disk; raises OutputError."""
        with self._lock:
            writer, self._unsynced, self._synced = self._writer, 0, time.monotonic()
        if writer is not None:  # not under the lock: others go on meanwhile
            _force(writer.fileno(), self.own)

    def close(self) -> None:
        """Force what is written to the disk and let go of the files. Raises OutputError."""
        try:
            self.sync()
        finally:
            with self._lock:
                self._close_files()

    def _load(self) -> None:
        self._close_files()
        self._numbered = self.files()
        keys, orders, places = array("q"), array("q"), array("q")
        for number, file in enumerate(self._numbered):
            offset = number << _OFFSET_BITS
            with file.open("rb") as stream:
                for line in stream:
                    head = _head(line)
                    if head is not None:
                        keys.append(hash(head[0]))
                        orders.append(head[1])
                        places.append(offset)
                    offset += len(line)
        self._index.fill(keys, orders, places)
        self._next = max(orders, default=-1) + 1

    def _place(self, file: Path, offset: int) -> int:
        if file not in self._numbered:
            self._numbered.append(file)
        return self._numbered.index(file) << _OFFSET_BITS | offset

    def _line(self, place: int) -> bytes:
        number, offset = place >> _OFFSET_BITS, place & (1 << _OFFSET_BITS) - 1
        if number not in self._readers:
            if len(self._readers) >= _OPEN_FILES:
                self._close_readers()
            try:
                self._readers[number] = self._numbered[number].open("rb")
            except FileNotFoundError:
                return b""
        self._readers[number].seek(offset)
        return self._readers[number].readline()

    def _opened(self) -> BinaryIO:
        """The own journal, to be written to."""
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = cast(BinaryIO, self.own.open("a+b", buffering=0))
            _force_folder(self._folder)
        return self._writer

    def _close_readers(self) -> None:
        for stream in self._readers.values():
            stream.close()
        self._readers.clear()

    def _close_files(self) -> None:
        self._close_readers()
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _Index:
    """Where the latest entry of each input stands, by a hash of its REL: 16 bytes an input.

    Should two inputs ever have one hash, the place found is of the other one: whoever reads the
    entry there sees that by its REL.
    """

    def __init__(self) -> None:
        self._keys, self._places = array("q"), array("q")  # by key, ascending
        self._new: dict[int, int] = {}  # later ones

    def fill(self, keys: "array[int]", orders: "array[int]", places: "array[int]") -> None:
        """Replace all; of equal keys the one of the greatest order counts, or the last."""
        order = np.lexsort((np.array(orders, np.int64), np.array(keys, np.int64)))  # stable
        sorted_keys = np.array(keys, np.int64)[order]
        last = np.append(sorted_keys[1:] != sorted_keys[:-1], True)[: len(order)]
        self._keys = array("q", sorted_keys[last].tobytes())
        self._places = array("q", np.array(places, np.int64)[order][last].tobytes())
        self._new.clear()

    def put(self, rel: str, place: int) -> None:
        """Note the latest entry of an input."""
        self._new[hash(rel)] = place
        if len(self._new) >= _UNSETTLED:
            keys = self._keys + array("q", self._new)
            places = self._places + array("q", self._new.values())
            self.fill(keys, array("q", bytes(8 * len(keys))), places)

    def find(self, rel: str) -> int | None:
        """The place of an input's latest entry."""
        key = hash(rel)
        if key in self._new:
            return self._new[key]
        position = bisect_left(self._keys, key)
        found = position < len(self._keys) and self._keys[position] == key
        return self._places[position] if found else None


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


def _force(descriptor: int, file: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # no disk, or closed
            raise OutputError(f"cannot write {file}: {error.strerror}") from error


def _force_folder(folder: Path) -> None:
    """So that a new file's name survives a power cut; Windows has no such thing."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_START, _ORDER = b'{"rel":"', b'","order":'


def _head(line: bytes) -> tuple[str, int] | None:
    """REL and order, read without the rest where a line begins as this program writes it."""
    if line.startswith(_START) and line.endswith(b"}\n"):
        rel, found, rest = line[len(_START) :].partition(_ORDER)
        number, ends, _ = rest[:19].partition(b",")
        if found and ends and b'"' not in rel and b"\\" not in rel and number.isdigit():
            return rel.decode("ascii", "replace"), int(number)
    entry = _parse(line)
    return None if entry is None else (entry.rel, entry.order)


def _parse(line: bytes) -> Entry | None:
    """None for a line that a crash or power cut left behind."""
    try:
        values = parse_json(line)
        entry = Entry(**values | {"areas": tuple(map(tuple, values["areas"]))})
        return entry if _is_sound(entry) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _is_sound(entry: Entry) -> bool:
    """Whether the values are of the kinds that they should be: others may have written the line."""
    numbers = entry.size, entry.modified_ns, entry.width, entry.height, entry.order
    sizes = (size for files in entry.files.values() for size in files.values())
    return (
        all(isinstance(text, str) for text in (entry.rel, entry.path, entry.run, entry.reason))
        and all(isinstance(number, int) for number in (*numbers, *sizes))
        and all(
            isinstance(class_id, int) and isinstance(pixels, int) and isinstance(mean, float | int)
            for class_id, pixels, mean in entry.areas
        )
        and 0 <= entry.order < 1 << 63
    )
