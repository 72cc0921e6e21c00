"""A line of a journal, and what it says. Quick to read: `--resume` may find millions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ovseg_cli.run_folder.noted_areas import NotedAreas, are_sound
from ovseg_cli.whole_files import is_possible

_DECODER = json.JSONDecoder()
_REAL = (float, int)
LARGEST_SIDE = 1 << 31  # pixels; no format has more
LAST_ORDER = (1 << 63) - 1  # entries of one order count as they follow
_START, _ORDER = b'{"rel":"', b'","order":'


@dataclass  # frozen, it would take twice as long to make, and there may be millions
class Entry:
    """One input that was finished, or failed."""

    rel: str  # REL of the outputs
    path: str  # the input, absolute
    size: int  # of the input file, bytes
    modified_ns: int  # of the input file
    run: str  # fingerprint of the model and options
    width: int = 0
    height: int = 0
    areas: NotedAreas = ()
    # Name in --save -> path below the output folder -> bytes.
    files: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    reason: str = ""  # why it failed; empty = it did not
    order: int = 0  # greater than that of all earlier entries; the latest of an input counts
    finished: float = 0.0  # seconds since 1970, for people: clocks may go backwards


def entry_of(line: bytes) -> Entry | None:
    """None for a line that a crash or power cut left behind."""
    try:
        text = line.decode().strip()
        values, end = _DECODER.raw_decode(text)  # json.loads takes half as long again
        if end < len(text):
            return None
        values["areas"] = tuple(map(tuple, values["areas"]))
        entry = Entry(**values)
        return entry if is_sound(entry) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def head_of(line: bytes) -> tuple[str, int] | None:
    """REL and order, read without the rest where a line begins as this program writes it."""
    if line.startswith(_START) and line.endswith(b"}\n"):
        rel, found, rest = line[len(_START) :].partition(_ORDER)
        number, ends, _ = rest[:19].partition(b",")
        if found and ends and b'"' not in rel and b"\\" not in rel and number.isdigit():
            return rel.decode("ascii", "replace"), int(number)
    entry = entry_of(line)
    return None if entry is None else (entry.rel, entry.order)


def is_sound(entry: Entry) -> bool:
    """Whether the values can be those of a photo: a disk or somebody else may have changed them."""
    if type(entry.width) is not int or type(entry.height) is not int:
        return False  # before they are multiplied: a text by a number is a text of any length
    if not are_sound(entry.areas, entry.width * entry.height):
        return False
    for files in entry.files.values():
        for name, size in files.items():
            if not isinstance(size, int) or not is_possible(name):
                return False
    return bool(
        isinstance(entry.rel, str)
        and is_possible(entry.rel)
        and isinstance(entry.path, str)
        and isinstance(entry.run, str)
        and isinstance(entry.reason, str)
        and isinstance(entry.size, int)
        and isinstance(entry.modified_ns, int)
        and isinstance(entry.finished, _REAL)
        and (entry.reason or 0 < entry.width < LARGEST_SIDE and 0 < entry.height < LARGEST_SIDE)
        and type(entry.order) is int
        and 0 <= entry.order <= LAST_ORDER
    )
