"""Where a labelled set in our own layout has its files: images/KEY.* and labels/KEY.png."""

from __future__ import annotations

import os
from pathlib import Path

from ovseg_cli.errors import UsageError

SUFFIXES = (".jpg", ".png", ".jpeg", ".webp")  # of photos, the usual one first
OTHER_SUFFIXES = ", ".join(SUFFIXES[1:])


def own_files(root: Path, key: str) -> tuple[Path, Path]:
    """Photo and label map of a key; raises UsageError where there is no such photo."""
    photo, label_map = places(root, key)
    if not os.path.exists(photo):
        raise UsageError(f"{photo.parent} has no photo named {photo.name} (nor {OTHER_SUFFIXES})")
    return photo, label_map


def places(root: Path, key: str) -> tuple[Path, Path]:
    """The same; where there is no such photo, that of the usual suffix.

    Cameras write suffixes in capitals, too.
    """
    folder = root / "images"
    candidates = [
        folder / f"{key}{change(suffix)}"
        for change in (str.lower, str.upper, str.title)
        for suffix in SUFFIXES
    ]
    # Path.exists raises for names that are too long
    photo = next(filter(os.path.exists, candidates), candidates[0])
    return photo, root / "labels" / f"{key}.png"
