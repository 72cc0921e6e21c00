"""Common nouns: what names may have been meant, and what a photo may show."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def common_nouns() -> tuple[str, ...]:
    """Some 2300 nouns for things that can be seen, sorted; from WordNet (see LICENSE.txt)."""
    text = (resources.files("ovseg_cli.names.nouns") / "nouns.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))
