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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from ovseg_cli.run_folder.journal_entry import LAST_ORDER, Entry, entry_of, head_of
from ovseg_cli.whole_files import output_errors

SYNC_ENTRIES = 64  # lines that are written before they are forced to the disk, at most
SYNC_SECONDS = 1.0  # after which the next line forces them
_UNSETTLED = 1 << 16  # new entries that are kept apart from the sorted ones
_OFFSET_BITS = 48  # of a place; above them stands the number of the file
_TOGETHER = 256  # inputs that are looked up at a time
_LONGEST_LINE = 1 << 26  # bytes; an entry with the areas of 100 000 classes has fewer
_OPEN_FILES = 64  # journals that are kept open for reading


class Journal:
    """The entries below one output folder; the latest of an input is the one that counts.

    The entries themselves stay on disk: memory holds 16 bytes an input.
    """

    def __init__(self, folder: Path, part: str = "") -> None:
        self._folder = folder
        self._ending = f"-{part}.jsonl" if part else ".jsonl"  # of its actors' files, too
        self.own = folder / f"journal{self._ending}"
        self._lock = threading.Lock()
        self._index = _Index()
        self._numbered: list[Path] = []  # the files that places speak of
        self._readers: dict[int, BinaryIO] = {}  # by number of the file
        self._writer: BinaryIO | None = None
        self._next = -1  # order of the next entry; -1 = the earlier ones are not known yet
        self._others: dict[Path, int] = {}  # journals of other parts -> bytes when it was loaded
        self._unsynced = 0
        self._synced = time.monotonic()

    def load(self) -> None:
        """Read what earlier runs, and other parts of this one, have finished."""
        with self._lock:
            self._load()

    def refresh(self) -> bool:
        """Read it again where others have written since it was loaded; returns whether they had."""
        with self._lock:
            changed = self._next < 0 or self._others != self._sizes_of_others()
            if changed:
                self._load()
            return changed

    def files(self) -> list[Path]:
        """The journals of all parts that exist."""
        return sorted(file for file in self._folder.glob("journal*.jsonl") if file.is_file())

    def own_files(self) -> list[Path]:
        """Those of the own part: of this process, and of Ray actors that have worked for it."""
        return [file for file in self.files() if file.name.endswith(self._ending)]

    def entries(self, *, own: bool = False) -> Iterator[Entry]:
        """Every entry on disk, or of the own part, also those that a later one replaces."""
        for file in self.own_files() if own else self.files():
            with file.open("rb") as stream:
                yield from filter(None, map(entry_of, _lines(stream)))

    def entry(self, rel: str) -> Entry | None:
        """The latest entry of an input."""
        return next(self.latest([rel]))

    def latest(self, rels: Iterable[str]) -> Iterator[Entry | None]:
        """The latest entry of each input: for many much quicker than `entry`."""
        rels = iter(rels)
        while portion := list(islice(rels, _TOGETHER)):
            with self._lock:
                lines = [self._line(place) for place in self._index.find(portion)]
            for rel, line in zip(portion, lines, strict=True):
                entry = entry_of(line) if line else None
                yield entry if entry is not None and entry.rel == rel else None

    def append(self, entry: Entry) -> None:
        """Add an entry; safe to call from several threads. Raises OutputError (no space)."""
        with self._lock:
            with output_errors(self.own):
                if self._next < 0:
                    self._load()
                values = {"rel": entry.rel, "order": self._next}
                values = values | asdict(entry) | values | {"finished": round(time.time(), 3)}
                line = json.dumps(values, separators=(",", ":")).encode() + b"\n"
                offset = _append_line(self._opened(), line)
            self._index.put(entry.rel, self._place(self.own, offset))
            self._next = min(self._next + 1, LAST_ORDER)
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
        self._others = self._sizes_of_others()
        self._numbered = self.files()
        keys, orders, places = array("q"), array("q"), array("q")
        for number, file in enumerate(self._numbered):
            offset = number << _OFFSET_BITS
            with file.open("rb") as stream:
                for line in _lines(stream):
                    head = head_of(line)
                    if head is not None:
                        keys.append(hash(head[0]))
                        orders.append(head[1])
                        places.append(offset)
                    offset += len(line)
        self._index.fill(*(np.array(each, np.int64) for each in (keys, orders, places)))
        self._next = min(max(orders, default=-1) + 1, LAST_ORDER)

    def _sizes_of_others(self) -> dict[Path, int]:
        return {file: file.stat().st_size for file in self.files() if file != self.own}

    def _place(self, file: Path, offset: int) -> int:
        if file not in self._numbered:
            self._numbered.append(file)
        return self._numbered.index(file) << _OFFSET_BITS | offset

    def _line(self, place: int) -> bytes:
        """What stands at a place; nothing where there is none."""
        if place < 0:
            return b""
        number, offset = place >> _OFFSET_BITS, place & (1 << _OFFSET_BITS) - 1
        if number not in self._readers:
            if len(self._readers) >= _OPEN_FILES:
                self._close_readers()
            try:
                self._readers[number] = self._numbered[number].open("rb")
            except FileNotFoundError:
                return b""
        self._readers[number].seek(offset)
        return self._readers[number].readline(_LONGEST_LINE)

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
        self._keys = self._places = np.empty(0, np.int64)  # by key, ascending
        self._new: dict[int, int] = {}  # later ones

    def fill(self, keys: np.ndarray, orders: np.ndarray, places: np.ndarray) -> None:
        """Replace all; of equal keys the one of the greatest order counts, or the last."""
        order = np.lexsort((orders, keys))  # stable
        keys = keys[order]
        last = np.append(keys[1:] != keys[:-1], True)[: len(order)]
        self._keys, self._places = keys[last], places[order][last]
        self._new.clear()

    def put(self, rel: str, place: int) -> None:
        """Note the latest entry of an input."""
        self._new[hash(rel)] = place
        if len(self._new) >= _UNSETTLED:
            keys = np.append(self._keys, np.fromiter(self._new, np.int64))
            places = np.append(self._places, np.fromiter(self._new.values(), np.int64))
            self.fill(keys, np.zeros_like(keys), places)

    def find(self, rels: Sequence[str]) -> list[int]:
        """The places of the latest entries of inputs; -1 where there is none."""
        hashes = [hash(rel) for rel in rels]
        places = [-1] * len(hashes)
        if len(self._keys):
            keys = np.array(hashes, np.int64)
            positions = np.minimum(self._keys.searchsorted(keys), len(self._keys) - 1)
            found = self._keys[positions] == keys
            places = np.where(found, self._places[positions], -1).tolist()
        return [self._new.get(key, place) for key, place in zip(hashes, places, strict=True)]


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


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a journal; one that no entry is as long as comes in pieces, which are none."""
    return iter(partial(stream.readline, _LONGEST_LINE), b"")


def _force(descriptor: int, file: Path) -> None:
    with output_errors(file):
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # no disk, or closed
                raise


def _force_folder(folder: Path) -> None:
    """So that a new file's name survives a power cut; Windows has no such thing."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
