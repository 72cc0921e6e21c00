"""The names that the results of inputs bear, and their order. Quick: there may be millions."""

import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence, Set
from functools import lru_cache

_NUMBERS = re.compile("([0-9]+)")
RESULT_SUFFIXES = (".jpg", ".png", ".npz", ".txt", ".svg", ".tif", ".geojson")  # after REL


def unique_names(paths: Sequence[str], folders: Sequence[str]) -> list[str]:
    """REL of each input: its path without suffix, and more of it where two would meet.

    x.jpg meets with x.png/y.jpg, too: its label map would be x.png, where a folder must be.
    paths: of the inputs, with '/', below the folders that were given.
    """
    names = [os.path.splitext(path)[0] for path in paths]
    keys = list(map(comparable, names))
    of_folders = _called_like_results(names)
    counts = Counter([*keys, *of_folders])
    if len(counts) == len(keys) + len(of_folders):
        return names

    def meeting() -> list[int]:
        return [i for i, key in enumerate(keys) if counts[key] > 1]

    def rename(i: int, name: str) -> None:
        counts[keys[i]] -= 1
        names[i], keys[i] = name, comparable(name)
        counts[keys[i]] += 1

    while shortened := [i for i in meeting() if names[i] != paths[i]]:
        for i in shortened:
            rename(i, paths[i])
    for i in meeting():
        folder = os.path.basename(os.path.abspath(folders[i]))
        rename(i, f"{folder}/{names[i]}" if folder else names[i])
    taken = {*keys, *of_folders}
    for i in meeting():
        rename(i, numbered(names[i], taken))
        taken.add(keys[i])
    return names


def _called_like_results(names: Sequence[str]) -> set[str]:
    """The RELs, comparable, of which a result would be called as a folder above one of these is."""
    found: set[str] = set()
    folders = {name.rpartition("/")[0] for name in names}
    while folders := folders - {""}:
        stems = map(os.path.splitext, map(comparable, folders))
        found.update(stem for stem, suffix in stems if suffix in RESULT_SUFFIXES)
        folders = {folder.rpartition("/")[0] for folder in folders}
    return found


def numbered(name: str, taken: Set[str], first: int = 1) -> str:
    """The name with the first number that is free; taken: what `comparable` gives of others."""
    numbers = itertools.count(first)
    return next(new for n in numbers if comparable(new := f"{name}-{n}") not in taken)


def comparable(name: str) -> str:
    """Equal for names that are one file on some file system."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def natural(path: str) -> str:
    """Sort key: folder by folder, numbers by value, case only where all else is equal.

    One text, since lists of texts and numbers take long to compare. After each piece stands a zero
    character, which no name holds, and what follows: 0 nothing, 1 a further part, else a number.
    """
    above, slash, name = path.rpartition("/")
    return f"{_folder_key(above) if slash else ''}{_part_key(name)}\0\0{path}"


@lru_cache(maxsize=1024)
def _folder_key(path: str) -> str:
    return "".join(f"{_part_key(part)}\0\1" for part in path.split("/"))


def _part_key(part: str) -> str:
    pieces = _NUMBERS.split(part.casefold())  # texts and numbers take turns
    for i in range(1, len(pieces), 2):
        digits = pieces[i].lstrip("0")
        pieces[i] = f"\0{chr(2 + len(digits))}{digits}"  # the one with more digits is greater
    return "".join(pieces)
