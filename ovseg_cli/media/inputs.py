"""Find the photos that a command line names, and give each the name its results will bear."""

import fnmatch
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.vocabulary import printable

# HEIC cannot be read, yet counts: better to fail by name than to be passed over in silence.
# fmt: off
SUFFIXES = (
    ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
    ".jpg", ".jpx", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)
# fmt: on


@dataclass(frozen=True)
class ImageInput:
    """One photo to read, and the name of its results.

    A file here; `tar_shards.TarMember` and `storage.StoredImage` are photos that are no files.
    """

    path: Path  # of what is no file: where it is, for its name only
    rel: str  # REL: relative, '/' between folders, without '..', unique even where case is ignored

    @property
    def name(self) -> str:
        """As it was named, for messages."""
        return str(self.path)

    @property
    def location(self) -> str:
        """Where it is, whatever the working folder."""
        return os.path.abspath(self.path)

    def absolute(self) -> "ImageInput":
        """The same for a process with another working folder."""
        return replace(self, path=self.path.absolute())

    def version(self) -> tuple[int, int]:
        """Its size in bytes, -1 where it is not there, and a number that changes when it does."""
        try:
            status = self.path.stat()
        except (OSError, ValueError):
            return -1, 0
        return status.st_size, status.st_mtime_ns

    def open(self) -> BinaryIO:
        """Its bytes, to be read at any place; raises InputError and OSError."""
        return open_photo(self.path)


def open_photo(path: str | Path) -> BinaryIO:
    """Open a file that is neither folder, device, pipe nor empty; raises InputError, OSError."""
    status = os.stat(path)  # not opened before it is known: a pipe would block for ever
    if stat.S_ISDIR(status.st_mode):
        raise InputError(
            "a folder, not an image"
            if os.access(path, os.R_OK | os.X_OK)
            else "this folder may not be read"
        )
    if not stat.S_ISREG(status.st_mode):
        raise InputError("a device or pipe, not an image file")
    if status.st_size == 0:
        raise InputError("the file is empty")
    return open(path, "rb")


@dataclass(frozen=True)
class Found:
    """A photo that one of the inputs names."""

    path: Path
    folder: Path  # the folder that was given, or the part of a pattern before its wildcards
    image: ImageInput | None = None  # where it is no file; without its REL

    @property
    def rel(self) -> str:
        path, folder = os.fspath(self.path), os.fspath(self.folder)
        if folder == ".":
            below = path
        else:  # by text: relative_to takes ten times as long, and there may be millions
            assert path.startswith(folder)
            below = path[len(folder) :].lstrip(os.sep)
        parts = below.split(os.sep)
        return "/".join(part for part in parts if part != "..")  # of a pattern such as */../a*


def is_image_name(path: str | Path) -> bool:
    """Whether a file counts as a photo when its folder is searched."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def find_images(
    inputs: Sequence[str],
    recursive: bool = False,
    absent: Sequence[str] = (),
    expand: Callable[[str, bool], list[Found] | None] = lambda text, recursive: None,
) -> list[ImageInput]:
    """The photos named by files, folders and patterns, each once, in a stable order.

    The inputs keep their order; within a folder or pattern the order is natural (2 before 10).
    A file named outright is taken whatever its suffix. Hidden files and folders are passed over.
    absent: files that are not there, which come last; should they appear, their results have names
    like all others. expand is asked first for each input: None is for what it does not know, which
    is looked for among the files here. Raises UsageError for an input that does not exist or holds
    no photo.
    """
    found: dict[tuple[str, str], Found] = {}
    parents: dict[str, str] = {}  # real paths are slow to find: once a folder
    for text in inputs:
        expanded = expand(text, recursive)
        for entry in _expand(text, recursive) if expanded is None else expanded:
            parent, name = os.path.split(entry.path)
            if parent not in parents:
                parents[parent] = os.path.realpath(parent)
            found.setdefault((parents[parent], name), entry)
    if not found and not absent:
        raise UsageError("no input: name photos, folders or patterns")
    gone = map(Path, absent)
    entries = [*found.values(), *(Found(path, Path(path.anchor)) for path in gone)]
    return [
        ImageInput(entry.path, rel) if entry.image is None else replace(entry.image, rel=rel)
        for entry, rel in zip(entries, _unique(entries), strict=True)
    ]


def _expand(text: str, recursive: bool) -> list[Found]:
    if os.path.isdir(text):
        folder = Path(text)
        paths = _images_below(folder, recursive)
        missing = f"{printable(text)}: no photo in this folder"
    elif os.path.lexists(text):
        return [Found(Path(text), Path(text).parent)]
    elif any(character in text for character in "*?["):
        folder, parts = _fixed_part(text)
        paths = set()
        for match in _matches(folder, parts):
            if os.path.isdir(match):
                paths |= _images_below(match, recursive)
            elif is_image_name(match):
                paths.add(match)
        missing = f"{printable(text)}: this pattern matches no photo"
    else:
        raise UsageError(f"no such file or folder: {printable(text) or 'an empty name'}")
    if not paths:
        deeper = "" if recursive else "; -r looks in the folders below, too"
        raise UsageError(f"{missing} (known are {' '.join(SUFFIXES)}){deeper}")
    return sorted((Found(path, folder) for path in paths), key=lambda found: natural(found.rel))


def _images_below(folder: Path, recursive: bool) -> set[Path]:
    try:
        return {image for _, images in _walk(folder, recursive) for image in images}
    except OSError as error:
        raise UsageError(f"cannot read {printable(str(folder))}: {error.strerror}") from error


def _walk(top: Path, recursive: bool) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder once, with its photos. Links come last, so that loops and twins end there."""
    pending = [top]
    links: list[Path] = []
    visited = set()
    while pending or links:
        current = pending.pop() if pending else links.pop(0)
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            entries = _entries(current)
        except OSError:
            if current == top:
                raise
            yield current, [current]  # reading this "photo" will fail and say why
            continue
        if recursive:
            for entry in entries:
                if _is_folder(entry):
                    (links if entry.is_symlink() else pending).append(current / entry.name)
        yield (
            current,
            [current / e.name for e in entries if is_image_name(e.name) and not _is_folder(e)],
        )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    return sorted(visible, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()


def _fixed_part(pattern: str) -> tuple[Path, list[str]]:
    """Split a pattern into the folder that exists as written and the rest."""
    parts = list(Path(pattern).parts)
    folder = Path()
    while len(parts) > 1 and (folder / parts[0]).is_dir():
        folder /= parts.pop(0)
    return folder, parts


def _matches(folder: Path, parts: list[str]) -> Iterator[Path]:
    """Like glob, but safe from loops of links and with literal names before patterns."""
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    try:
        if part == "**":
            for below, images in _walk(folder, recursive=True):
                yield from _matches(below, rest) if rest else images
        elif os.path.lexists(folder / part):
            yield from _matches(folder / part, rest)
        else:
            for entry in _entries(folder):
                if fnmatch.fnmatch(entry.name, part) and (not rest or _is_folder(entry)):
                    yield from _matches(folder / entry.name, rest)
    except OSError:  # a folder that may not be read matches nothing, as in a shell
        return


def _unique(entries: list[Found]) -> list[str]:
    """Names of the results: the path without suffix, and more of it where two would meet."""
    full = [entry.rel for entry in entries]
    rels = [os.path.splitext(rel)[0] for rel in full]
    while meeting := [i for i in _repeated(rels) if rels[i] != full[i]]:
        for i in meeting:
            rels[i] = full[i]
    for i in _repeated(rels):
        folder = os.path.basename(os.path.abspath(entries[i].folder))
        rels[i] = f"{folder}/{rels[i]}" if folder else rels[i]
    taken = {_comparable(rel) for rel in rels}
    for i in _repeated(rels):
        number = 1
        while _comparable(f"{rels[i]}-{number}") in taken:
            number += 1
        rels[i] = f"{rels[i]}-{number}"
        taken.add(_comparable(rels[i]))
    return rels


def _repeated(rels: list[str]) -> list[int]:
    keys = [_comparable(rel) for rel in rels]
    counts = Counter(keys)
    return [i for i, key in enumerate(keys) if counts[key] > 1]


def _comparable(rel: str) -> str:
    """Equal for names that are one file on some file system."""
    return unicodedata.normalize("NFC", rel).casefold()


def natural(rel: str) -> tuple[list[list[str | int]], str]:
    """Sort key: folder by folder, numbers by value, case only where all else is equal."""
    pieces = [re.split("([0-9]+)", part) for part in rel.casefold().split("/")]
    key = [[int(p) if i % 2 else p for i, p in enumerate(piece)] for piece in pieces]
    return key, rel
