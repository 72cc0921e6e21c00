"""What the results of a clip are called."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ovseg_cli.media.camera import CAMERA
from ovseg_cli.media.result_names import comparable, numbered

_LONGEST, _LARGEST = 120, 230  # characters and bytes of a name; suffixes follow


def is_stream(source: str) -> bool:
    """Whether it is neither a file nor a folder, so that nothing of it can be read again."""
    return source == "-" or source.startswith(CAMERA) or "://" in source


def is_clip_name(name: str) -> bool:
    """Whether results can be called so; "." and ".." lead to other folders."""
    return bool(name.strip(".")) and "/" not in name


def clip_names(sources: Sequence[str]) -> list[str]:
    """One name for each clip: its file's without the suffix, with it where two would be the same.

    Where even that is the same they are counted.
    """
    short = [_name(source, whole=False) for source in sources]
    counts = Counter(map(comparable, short))
    names = [
        name if counts[comparable(name)] == 1 else _name(source, whole=True)
        for name, source in zip(short, sources, strict=True)
    ]
    taken = set(map(comparable, names))
    seen: set[str] = set()
    for position, name in enumerate(names):
        if comparable(name) in seen:
            names[position] = numbered(name, taken, first=2)
            taken.add(comparable(names[position]))
        seen.add(comparable(name))
    return names


def _name(source: str, whole: bool) -> str:
    if source == "-":
        return "stdin"
    if source.startswith(CAMERA):
        return source.replace(":", "-")
    if "://" in source:
        parts = urlsplit(source)
        path = PurePosixPath(unquote(parts.path))
        name = (path.name if whole else path.stem) or parts.hostname or "stream"
        name = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "stream"
    else:
        file = Path(os.path.abspath(source))  # a link keeps its own name
        name = file.name if whole or file.is_dir() else file.stem
    name = name[:_LONGEST]
    if len(os.fsencode(name)) > _LARGEST:
        name = os.fsencode(name)[:_LARGEST].decode(errors="ignore")
    return name if is_clip_name(name) else "clip"
