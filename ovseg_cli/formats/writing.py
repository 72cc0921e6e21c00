"""Texts that are written as they come, and names as some formats allow them."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from ovseg_cli.errors import InputError
from ovseg_cli.printable import printable
from ovseg_cli.whole_files import atomic_path

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_text(target: Path, parts: Iterable[str]) -> Path:
    """Write a UTF-8 file piece by piece; returns its path. Raises OutputError."""
    with (
        atomic_path(target) as temporary,
        # A lone surrogate (of a file name) becomes \\udc.., which JSON reads as the same again.
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream,
    ):
        stream.writelines(parts)
    return target


def json_text(value: object) -> str:
    """The value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_list(values: Iterable[object]) -> Iterator[str]:
    """The pieces of a JSON list, a value a line."""
    yield "["
    for number, value in enumerate(values):
        yield (",\n" if number else "\n") + json_text(value)
    yield "\n]"


def yaml_text(text: str) -> str:
    """The text as a YAML scalar in double quotes, with whatever is not printable escaped."""
    kept = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08X}" for c in text)
    return f'"{"".join(kept)}"'


def xml_attribute(text: str) -> str:
    """The text as a quoted attribute of XML."""
    return quoteattr(xml_characters(text), {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def xml_characters(text: str) -> str:
    """The text with U+FFFD for characters that XML 1.0 does not allow in any form."""
    return _NOT_IN_XML.sub("\ufffd", text)


def distinct(names: Sequence[str], allowed: Callable[[str], str]) -> list[str]:
    """The names as a format allows them, those that would become equal told apart by a number."""
    found: dict[str, None] = {}
    for name in names:
        plain = text = allowed(name)
        number = 1
        while text in found:
            number += 1
            text = f"{plain} ({number})"
        found[text] = None
    return list(found)


def line(text: str) -> str:
    """A photo's name as a line of a list; raises InputError for one that cannot be a line."""
    if text != text.strip() or printable(text) != text or text.startswith("#"):
        raise InputError(
            f"{printable(text)}: this name cannot stand in the list of photos that the format "
            "has: rename the photo"
        )
    return text
