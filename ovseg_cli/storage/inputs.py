"""Photos that a command line names by URL, or in tar shards."""

import fnmatch
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from ovseg_cli.errors import UsageError
from ovseg_cli.media.folders import is_image_name, is_pattern
from ovseg_cli.media.inputs import Found, below
from ovseg_cli.media.result_names import natural
from ovseg_cli.printable import printable
from ovseg_cli.storage.store import Store, StoredImage, is_url, stamp_of
from ovseg_cli.storage.tar_photos import is_tar_name, tar_photos

_BRACES = re.compile(r"\{([^{}]*)\}")
_MOST = 1_000_000  # names that braces may stand for


def expand(text: str, recursive: bool) -> list[Found] | None:
    """The photos of a URL or of tar shards; None for what is neither.

    Braces are expanded as shells do it, {000..099} and {a,b}, so that they can be quoted, too.
    Raises UsageError for what does not exist or holds no photo.
    """
    if not is_stored(text):
        return None
    if not is_url(text) and os.path.lexists(text):
        return _photos(text, [text], recursive, literal=True)
    return _photos(text, expand_braces(text), recursive)


def expand_listed(text: str, recursive: bool) -> list[Found] | None:
    """As `expand`, of a list: its names are no patterns, and it may be old, so that an object that
    is gone fails when it is read.
    """
    if not is_stored(text):
        return None
    try:
        return _photos(text, [text], recursive, literal=True)
    except UsageError as error:
        if not is_url(text) or not isinstance(error.__cause__, FileNotFoundError):
            raise
    return [_found(text, {"size": -1}, text.rpartition("/")[0])]


def is_stored(text: str) -> bool:
    """Whether it is a URL, or names tar shards, and no file or folder here."""
    return is_url(text) or (is_tar_name(text) and not os.path.isdir(text))


def _photos(
    text: str, names: Iterable[str], recursive: bool, *, literal: bool = False
) -> list[Found]:
    """The photos of the names that a text stands for; literal: none of them is a pattern."""
    found: list[Found] = []
    for name in names:
        if not is_tar_name(name):
            found += _stored(name, recursive, literal)
            continue
        for tar in [name] if literal else _tars(name):
            folder = str(Path(tar).parent)
            found += (Found(photo, folder) for photo in tar_photos(tar))
    if not found:
        raise UsageError(f"{printable(text)}: no photo in it")
    return found


def expand_braces(text: str) -> Iterator[str]:
    """shards-{000..002}.tar -> shards-000.tar, ...; raises UsageError where it is too many."""
    pieces = _BRACES.split(text)  # text and contents of braces take turns
    choices = [[piece] if i % 2 == 0 else _choices(piece) for i, piece in enumerate(pieces)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > _MOST:
        raise UsageError(f"{printable(text)} stands for {count} names")
    return map("".join, product(*choices))


def _choices(content: str) -> list[str]:
    first, dots, last = content.partition("..")
    if dots and first.isdecimal() and last.isdecimal():
        if abs(int(last) - int(first)) >= _MOST:
            raise UsageError(f"{{{content}}} stands for too many names")
        step = 1 if int(first) <= int(last) else -1
        led = any(number[0] == "0" and number != "0" for number in (first, last))  # by zeros
        padded = max(len(first), len(last)) if led else 0
        return [str(n).zfill(padded) for n in range(int(first), int(last) + step, step)]
    return content.split(",") if "," in content else [f"{{{content}}}"]


def _tars(name: str) -> list[str]:
    """The archive of that name, or those that it matches as a pattern."""
    if not is_pattern(name):
        return [name]
    if is_url(name):
        store = Store(name)
        with store.errors(UsageError, f"cannot list {name}"):
            if store.fs.exists(store.path):
                return [name]
            found = sorted(map(_urls(name), store.fs.glob(store.path)))
    else:
        found = [name] if os.path.lexists(name) else sorted(glob.glob(name, recursive=True))
    if not found:
        raise UsageError(f"{printable(name)}: this pattern matches no archive")
    return found


def _stored(url: str, recursive: bool, literal: bool) -> list[Found]:
    """The photos that a URL names: an object, a folder or, unless it is literal, a pattern."""
    store = Store(url)
    folder = store.url
    with store.errors(UsageError, f"cannot list {url}"):
        try:
            info = store.fs.info(store.path)
        except FileNotFoundError:
            folder = _fixed(store.url)
            if literal or folder == store.url:
                raise
            listed = store.fs.glob(store.path, detail=True)
        else:
            if info["type"] != "directory":
                return [_found(store.url, info, store.url.rpartition("/")[0])]
            listed = store.fs.find(store.path, maxdepth=None if recursive else 1, detail=True)
    url_of = _urls(store.url)
    files = ((url_of(name), info) for name, info in listed.items() if info["type"] == "file")
    found = [
        _found(url, info, folder)
        for url, info in files
        if is_image_name(url) and not _is_hidden(url[len(folder) :])
    ]
    return sorted(found, key=lambda photo: natural(below(photo.folder, photo.image.file)))


def _fixed(url: str) -> str:
    """What is above the wildcards of a URL; the URL itself where it has none."""
    before, *rest = re.split(r"[*?\[]", url, maxsplit=1)
    return before.rpartition("/")[0] if rest else url


def _urls(url: str) -> Callable[[str], str]:
    """What turns a name, as the store's client gives it, into a URL like this one."""
    folder = _fixed(url)
    above = len(Store(folder).path)
    return lambda name: folder + name[above:]


def _is_hidden(name: str) -> bool:
    return any(fnmatch.fnmatch(part, ".*") for part in name.split("/"))


def _found(url: str, info: dict[str, Any], folder: str) -> Found:
    image = StoredImage(str(Path(url)), "", url, int(info["size"] or 0), stamp_of(info))
    return Found(image, str(Path(folder)))
