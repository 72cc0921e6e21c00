"""Search folders for photos. Paths are texts: a million `Path` objects would take far longer."""

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

from ovseg_cli.errors import UsageError
from ovseg_cli.printable import printable

# HEIC counts even where the extra that reads it is not installed: better to fail by name than to be
# passed over in silence.
# fmt: off
SUFFIXES = (
    ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
    ".jpg", ".jpx", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)
# fmt: on
_KNOWN = frozenset(SUFFIXES)


def is_image_name(path: str | Path) -> bool:
    """Whether a file counts as a photo when its folder is searched."""
    return _is_image(os.path.basename(path))


def _is_image(name: str) -> bool:
    name = name.lstrip(".")
    return name[name.rfind(".") :].lower() in _KNOWN


def images_below(folder: str, recursive: bool) -> list[str]:
    """The photos in a folder; recursive: and in those below. UsageError if it cannot be read."""
    try:
        return [image for _, images in _walk(folder, recursive) for image in images]
    except OSError as error:
        raise UsageError(f"cannot read {printable(folder)}: {error.strerror}") from error


def _walk(top: str, recursive: bool) -> Iterator[tuple[str, list[str]]]:
    """Each folder once, with its photos. Links come last, so that loops and twins end there."""
    pending = [top]
    links: list[str] = []
    visited = set()
    while pending or links:
        current = pending.pop() if pending else links.pop(0)
        try:
            status = os.stat(current)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            entries = _entries(current)
        except OSError:
            if current == top:
                raise
            yield current, [current]  # reading this "photo" will fail and say why
            continue
        above, images, folders = _above(current), [], []
        for entry in entries:
            is_image = _is_image(entry.name)
            if (is_image or recursive) and _is_folder(entry):
                folders.append(entry)
            elif is_image:
                images.append(above + entry.name)
        if recursive:
            for entry in sorted(folders, key=lambda folder: folder.name):
                (links if entry.is_symlink() else pending).append(above + entry.name)
        yield current, images


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()


def _above(folder: str) -> str:
    """What a name in a folder is put behind, to be a path as `Path` writes it."""
    return "" if folder == "." else os.path.join(folder, "")


def is_pattern(text: str) -> bool:
    """Whether there are wildcards in it."""
    return any(character in text for character in "*?[")


def fixed_part(pattern: str) -> tuple[str, list[str]]:
    """Split a pattern into the folder that exists as written and the rest."""
    parts = list(Path(pattern).parts)
    folder = "."
    while len(parts) > 1 and os.path.isdir(_above(folder) + parts[0]):
        folder = _above(folder) + parts.pop(0)
    return folder, parts


def matching(folder: str, parts: list[str], recursive: bool) -> Iterator[str]:
    """The photos that a pattern matches, and those in folders that it matches."""
    for match, is_folder in _matches(folder, parts):
        if is_folder:
            yield from images_below(match, recursive)
        elif is_image_name(match):
            yield match


def _matches(folder: str, parts: list[str]) -> Iterator[tuple[str, bool]]:
    """Like glob, but safe from loops of links and with literal names before patterns.

    With each path, whether it is a folder.
    """
    if not parts:
        yield folder, os.path.isdir(folder)
        return
    part, rest, above = parts[0], parts[1:], _above(folder)
    try:
        if part == "**":
            for inside, images in _walk(folder, recursive=True):
                if rest:
                    yield from _matches(inside, rest)
                else:
                    yield from ((image, image == inside) for image in images)
        elif os.path.lexists(above + part):
            yield from _matches(above + part, rest)
        else:
            entries = {entry.name: entry for entry in _entries(folder)}
            for name in sorted(fnmatch.filter(entries, part)):
                is_folder = _is_folder(entries[name])
                if not rest:
                    yield above + name, is_folder
                elif is_folder:
                    yield from _matches(above + name, rest)
    except OSError:  # a folder that may not be read matches nothing, as in a shell
        return
