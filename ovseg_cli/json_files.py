"""JSON files: ours, and those from anywhere. No file is opened here that has no end."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ovseg_cli.whole_files import atomic_path

# Of a JSON file: a million and a half failures in run.json, or three million names of exported
# files, are less. Most of what it takes in memory are lists and objects, if there are many.
MOST_BYTES = 200_000_000
MOST_PARTS = 4_000_000  # lists and objects
DEEPEST = 100  # lists and objects within each other; ours are up to five


def open_regular(path: Path) -> BinaryIO:
    """Open a file; raises OSError, and ValueError for a device or pipe: these may have no end."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # not opened before: a pipe would block for ever
        raise ValueError("it is not a regular file")
    return open(path, "rb")


def read_bounded(path: Path, most: int) -> bytes:
    """A file of so many bytes at most. Raises OSError, and ValueError for more, or as above."""
    with open_regular(path) as stream:
        content = stream.read(most + 1)  # some files of the system do not tell their size
    if len(content) > most:
        raise ValueError(f"it is larger than {most // 10**6} MB")
    return content


ReadObject = Callable[[list[tuple[str, Any]]], dict[str, Any]]


def read_json(path: Path, read_object: ReadObject = dict) -> Any:
    """What a file holds, as `parse_json`. Raises OSError, and ValueError for whatever is wrong."""
    return parse_json(read_bounded(path, MOST_BYTES), read_object)


def parse_json(text: str | bytes, read_object: ReadObject = dict) -> Any:
    """What a text holds; raises ValueError, also for one that holds too much or too deeply.

    read_object: makes an object of its names and values, in order.
    """
    opened = _opened(text)
    if opened > MOST_PARTS:
        raise ValueError(f"it holds more than {MOST_PARTS} lists and objects")
    try:
        values = json.loads(text, object_pairs_hook=None if read_object is dict else read_object)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if opened <= DEEPEST:  # of short lines, of which there are many
        return values
    level = [values]
    for _ in range(DEEPEST):
        level = [part for whole in level for part in _parts(whole)]
        if not level:
            return values
    raise ValueError("it is nested too deeply")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A `read_object` that refuses a name that stands there twice: only the last would count."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(
                f"{name!r:.60} stands there again; put all that belongs to it in one place"
            )
        found[name] = value
    return found


def write_json(target: Path, values: object) -> None:
    """Write a JSON file for people and programs; raises OutputError."""
    with atomic_path(target) as temporary:
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _opened(text: str | bytes) -> int:
    """How many lists and objects begin in a text, at most: a string may hold brackets, too."""
    if isinstance(text, str):
        return text.count("[") + text.count("{")
    return text.count(b"[") + text.count(b"{")


def _parts(value: Any) -> list[Any]:
    """The lists and objects within one of them, and nothing else."""
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [part for part in within if isinstance(part, dict | list)]
