"""Find the photos that a command line names, and give each the name its results will bear.

Paths are texts here: there may be millions, and a `Path` takes ten times as long to make.
"""

import os
import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.media.folders import SUFFIXES, fixed_part, images_below, is_pattern, matching
from ovseg_cli.media.result_names import natural, unique_names
from ovseg_cli.printable import printable


@dataclass(frozen=True, slots=True)
class ImageInput:
    """One photo to read, and the name of its results.

    A file here; `storage.tar_photos.TarMember` and `storage.store.StoredImage` are photos that are
    no files.
    """

    file: str  # its path; of what is no file: where it is, for its name only
    rel: str  # REL: relative, '/' between folders, without '..', unique even where case is ignored

    @property
    def path(self) -> Path:
        """The file, as a path."""
        return Path(self.file)

    @property
    def name(self) -> str:
        """As it was named, for messages."""
        return self.file

    @property
    def location(self) -> str:
        """Where it is, whatever the working folder."""
        return os.path.abspath(self.file)

    def absolute(self) -> "ImageInput":
        """The same for a process with another working folder."""
        return replace(self, file=str(self.path.absolute()))

    def version(self) -> tuple[int, int]:
        """Its size in bytes, -1 where it is not there, and a number that changes when it does."""
        try:
            status = os.stat(self.file)
        except (OSError, ValueError):
            return -1, 0
        return status.st_size, status.st_mtime_ns

    def open(self) -> BinaryIO:
        """Its bytes, to be read at any place; raises InputError and OSError."""
        return open_photo(self.file)


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


def is_gone(path: str) -> bool:
    """Whether no file or folder is there that could be; what none can be called is not gone."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return bool(path)
    except (OSError, ValueError):  # no file can be called so
        return False
    return False


@dataclass(frozen=True)
class InputState:
    """What tells whether an input has changed since it was read."""

    path: str  # absolute; or a URL
    size: int  # bytes
    modified_ns: int  # of an object in a store: a number made of its ETag

    @classmethod
    def of(cls, source: Path | ImageInput) -> "InputState":
        """Look at the input; one that is not there has size -1."""
        image = source if isinstance(source, ImageInput) else ImageInput(str(source), "")
        return cls(image.location, *image.version())


@dataclass(frozen=True)
class Found:
    """A photo that one of the inputs names, and that is no file."""

    image: ImageInput  # without its REL
    folder: str  # that was given, or the part of a pattern before its wildcards


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
    found = _Listing()
    for text in inputs:
        stored = expand(text, recursive)
        if stored is not None:
            for photo in stored:
                found.add(photo.folder, photo.image.file, photo.image)
            continue
        folder, paths = _expand(text, recursive)
        if len(inputs) == 1 and os.path.isdir(text):  # where each photo stands once
            found.paths, found.folders = paths, [folder] * len(paths)
            continue
        for path in paths:
            found.add(folder, path)
    if not found.paths and not absent:
        raise UsageError("no input: name photos, folders or patterns")
    for gone in map(str, map(Path, absent)):
        found.paths.append(gone)
        found.folders.append(os.path.dirname(gone) or ".")
    return found.inputs()


class _Listing:
    """The photos so far, each once; lists of texts, which cost Python's garbage collector less
    than millions of objects.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.folders: list[str] = []  # as in `Found`
        self._images: dict[int, ImageInput] = {}  # by position: what is no file
        self._seen: set[str] = set()  # real paths and URLs
        self._parents: dict[str, str] = {}  # to real ones, which are slow to find: once a folder

    def add(self, folder: str, path: str, image: ImageInput | None = None) -> None:
        """Add a photo, unless it is there already."""
        place = path if image is None else image.location
        real = place if "://" in place else self._real(path)  # to a store a//b is not a/b
        if real not in self._seen:
            self._seen.add(real)
            if image is not None:
                self._images[len(self.paths)] = image
            self.paths.append(path)
            self.folders.append(folder)

    def _real(self, path: str) -> str:
        start = path.rfind(os.sep) + 1
        parent = path[:start]
        if parent not in self._parents:
            self._parents[parent] = os.path.join(os.path.realpath(parent), "")
        return self._parents[parent] + path[start:]

    def inputs(self) -> list[ImageInput]:
        """All of them, with names of their own."""
        rels = unique_names(list(map(below, self.folders, self.paths)), self.folders)
        found = list(map(ImageInput, self.paths, rels))
        for position, image in self._images.items():
            found[position] = replace(image, rel=rels[position])
        return found


def below(folder: str, path: str) -> str:
    """What leads from a folder to a photo, with '/' and without '..'."""
    if folder != ".":
        assert path.startswith(folder)
        path = path[len(folder) :].lstrip(os.sep)
    if ".." in path or os.sep != "/":  # of a pattern such as */../a*
        path = "/".join(part for part in path.split(os.sep) if part != "..")
    return path


def _expand(text: str, recursive: bool) -> tuple[str, list[str]]:
    """The folder, or what of a pattern stands before its wildcards, and the photos there."""
    found: Collection[str]
    if os.path.isdir(text):
        folder = str(Path(text))
        found = images_below(folder, recursive)
        missing = f"{printable(text)}: no photo in this folder"
    elif os.path.lexists(text):
        path = str(Path(text))
        return os.path.dirname(path) or ".", [path]
    elif is_pattern(text):
        folder, parts = fixed_part(text)
        found = set(matching(folder, parts, recursive))
        missing = f"{printable(text)}: this pattern matches no photo"
    else:
        raise UsageError(f"no such file or folder: {printable(text) or 'an empty name'}")
    if not found:
        deeper = "" if recursive else "; -r looks in the folders below, too"
        raise UsageError(f"{missing} (known are {' '.join(SUFFIXES)}){deeper}")
    return folder, sorted(found, key=lambda path: natural(below(folder, path)))
