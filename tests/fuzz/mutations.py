"""Valid bytes made wrong: what hypothesis draws, and can shrink, for `fuzz.worker`."""

import json
import math
import struct
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Mutation = Callable[[st.DrawFn, bytes], bytes]

# Sizes and counts that readers stumble over, in both byte orders.
_NUMBERS = [0, 1, 2, 127, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1]
_TEXTS = [
    *("\0", "\x1b[2J", "\u202e", "\ufeff", "\udced", "\r", "\n", "\t", " ", "#", ":", ",", "|"),
    *(
        "-",
        "=",
        "[",
        "]",
        "{",
        "}",
        '"',
        "'",
        "{}",
        "&a ",
        "*a",
        "<<: *a",
        "!!python/name:os.system ",
    ),
    *("..", "/", "../../x", "*", "**/", "nan", "inf", "1e999", "-1", "é", "x" * 300, "9" * 5000),
    *("\n[[a]]\n", "\n[a.b.c]\n", "[" * 3000, "{a: " * 3000, "- " * 3000, "a.b." * 3000),
]
_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308),
    *(math.nan, math.inf, -math.inf, "", "x", "\0", "\x1b[2J", "\ud800", "../../x", "/etc/passwd"),
    *([], {}, [[]], [None], ["a"], [-1], [10**30], {"": None}, {"a": {"b": []}}, [[0, 1, 2]]),
    "9" * 400,
]


def of_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Edits anywhere, more often near the beginning, where headers are."""
    changed = bytearray(data)
    for _ in range(draw(st.sampled_from((1, 1, 2, 4, 8)))):
        near = draw(st.sampled_from((32, 256, 10**9)))
        at = draw(st.integers(0, max(0, min(len(changed), near) - 1)))
        match draw(st.sampled_from(("byte", "number", "cut", "drop", "repeat", "insert"))):
            case "byte":
                changed[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "number":
                form = draw(st.sampled_from(("<H", ">H", "<I", ">I", "<Q", ">Q")))
                size = struct.calcsize(form)
                number = draw(st.sampled_from(_NUMBERS)) % 256**size
                changed[at : at + size] = struct.pack(form, number)
            case "cut":
                del changed[at:]
            case "drop":
                del changed[at : at + draw(st.integers(1, 64))]
            case "repeat":
                changed[at:at] = changed[at : at + draw(st.integers(1, 300))]
            case "insert":
                changed[at:at] = draw(st.binary(min_size=1, max_size=16))
    return bytes(changed)


def of_text(draw: st.DrawFn, data: bytes) -> bytes:
    """Odd words put in, lines left out, doubled, or indented; sometimes bytes that are no text."""
    if draw(st.integers(0, 9)) == 0:
        return of_bytes(draw, data)
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    for _ in range(draw(st.sampled_from((1, 1, 2, 4)))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(("put", "replace", "drop", "repeat", "indent"))):
            case "put":
                where = draw(st.integers(0, min(len(lines[at]), 200)))
                word = draw(
                    st.sampled_from(_TEXTS) | st.text(st.characters(codec="utf-8"), max_size=8)
                )
                lines[at] = lines[at][:where] + word + lines[at][where:]
            case "replace":
                lines[at] = draw(st.sampled_from(_TEXTS))
            case "drop":
                lines[at : at + 1] = lines[at : at + 1] * (len(lines) == 1)
            case "repeat":
                lines[at:at] = [lines[at]]
            case "indent":
                lines[at] = " " * draw(st.integers(1, 9)) + lines[at]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def of_json(draw: st.DrawFn, data: bytes) -> bytes:
    """A value somewhere in a JSON text, or in one line of JSON lines, becomes another."""
    if draw(st.integers(0, 4)) == 0:
        return of_text(draw, data)
    try:
        return _changed_json(draw, data)
    except ValueError:
        pass
    lines = data.split(b"\n")
    at = draw(st.integers(0, len(lines) - 1))
    try:
        lines[at] = _changed_json(draw, lines[at])
    except ValueError:
        return of_text(draw, data)
    return b"\n".join(lines)


def of_safetensors(draw: st.DrawFn, data: bytes) -> bytes:
    """The JSON in a safetensors header, or the JSON in a text of it, or bytes anywhere."""
    if draw(st.integers(0, 2)) == 0:
        return of_bytes(draw, data)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    texts = header.get("__metadata__", {})
    of_json_texts = sorted(key for key, text in texts.items() if text.startswith("{"))
    if of_json_texts and draw(st.booleans()):
        key = draw(st.sampled_from(of_json_texts))
        texts[key] = _changed_json(draw, texts[key].encode()).decode("utf-8", "replace")
        changed = json.dumps(header).encode()
    else:
        changed = _changed_json(draw, json.dumps(header).encode())
    return struct.pack("<Q", len(changed)) + changed + data[8 + length :]


def _changed_json(draw: st.DrawFn, data: bytes) -> bytes:
    root = [json.loads(data)]
    places: list[tuple[Any, Any]] = []  # container, key
    pending: list[Any] = [root]
    while pending:
        inner = pending.pop()
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        for key in keys:
            places.append((inner, key))
            if isinstance(inner[key], (dict, list)):
                pending.append(inner[key])
    for _ in range(draw(st.sampled_from((1, 1, 2)))):
        container, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(("value", "value", "drop", "deep", "add"))):
            case "drop" if isinstance(container, dict):
                container.pop(key, None)
            case "deep":
                container[key] = "DEEP"
            case "add" if isinstance(container, dict):
                container[draw(st.sampled_from(("", "x", "__class__", "\x1b")))] = None
            case _:
                container[key] = draw(st.sampled_from(_VALUES))
    text = json.dumps(root[0])
    return text.replace('"DEEP"', "[" * 5000 + "]" * 5000).encode()
