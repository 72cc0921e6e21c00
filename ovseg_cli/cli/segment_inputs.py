"""The photos of `ovseg segment`: those that are named, but none of its own results."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ovseg_cli.cli import console
from ovseg_cli.errors import UsageError
from ovseg_cli.printable import some_of

if TYPE_CHECKING:
    from ovseg_cli.media.inputs import ImageInput


def find(
    inputs: tuple[str, ...],
    recursive: bool,
    null: bool,
    results: Sequence[Path],
    *,
    in_parts: bool = False,
) -> list[ImageInput]:
    """The photos that a command line names, or standard input where it names "-".

    recursive: also those in folders within folders; null: paths on standard input end in a zero
    byte; results: folders and shards in the output folder, whose files are no photos; in_parts:
    what is named must all be there, for the parts of a run are cut from one list. Raises UsageError
    where there is none.
    """
    from ovseg_cli.media.inputs import find_images
    from ovseg_cli.storage.inputs import expand, expand_listed
    from ovseg_cli.storage.store import is_url

    if "-" not in inputs:
        if null:
            raise UsageError("-0 says how paths on standard input end: give - as the INPUT")
        gone = [] if in_parts else [text for text in inputs if _is_gone(text)]
        named = _without(inputs, gone)
        if not named:  # which is told as any other input of which nothing is there
            gone, named = [], list(inputs)
        if gone:  # as a file that vanishes after the shell has listed it: the others are not lost
            console.warning(f"not there, so that they will fail: {some_of(gone)}")
        # Before they get names: those of photos are not to depend on what lies in OUT.
        kept = _without_own(named, results)
        _say_left_out(len(named) - len(kept), len(named))
        found = find_images(kept, recursive, gone, expand)
        return _without_results(found, kept, results)
    if len(inputs) > 1:
        raise UsageError("- (a list of paths on standard input) cannot be mixed with other inputs")
    listed = _listed_paths(null)
    if not listed:
        raise UsageError("no input: the list on standard input is empty")
    kept = _without_own(listed, results)
    _say_left_out(len(listed) - len(kept), len(listed))
    # The list may be hours old: what is gone by now fails by name when it is read.
    gone = [text for text in kept if not is_url(text) and not _exists(text)]
    there = _without(kept, gone)
    found = find_images(there, recursive, gone, expand_listed)
    return _without_results(found, there, results)


def _without(texts: Iterable[str], gone: Iterable[str]) -> list[str]:
    """Those that are there, of which there may be a million."""
    missing = set(gone)
    return [text for text in texts if text not in missing]


def _without_own(texts: list[str], results: Sequence[Path]) -> list[str]:
    """Those that are no files in folders of results; of folders and patterns nothing is known."""
    inside = _within(results, map(os.path.dirname, texts))
    return [text for text in texts if os.path.dirname(text) not in inside]


def _listed_paths(null: bool) -> list[str]:
    from ovseg_cli.media.pipe import check_standard_input

    check_standard_input()
    data = sys.stdin.buffer.read()
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as PowerShell writes
            data = os.fsencode(data.decode("utf-16"))
        data = data.removeprefix(codecs.BOM_UTF8)
        lines = data.split(b"\0") if null else [line.rstrip(b"\r") for line in data.split(b"\n")]
        listed = list(dict.fromkeys(os.fsdecode(line) for line in lines if line.strip()))
    except UnicodeError as error:  # cut off, or of letters that paths cannot have here
        raise UsageError(f"the list of inputs cannot be read as paths: {error}") from error
    if (b"\0" in data) != null and not any(map(_exists, listed)):
        _refuse_ends(data, null)
    return listed


def _refuse_ends(data: bytes, null: bool) -> None:
    """Raise UsageError for a list without a single path whose paths end otherwise than is said."""
    if not null:
        raise UsageError(
            "there are zero bytes on standard input: where paths end in them, as after find "
            "-print0, give -0; a picture itself cannot be read from there"
        )
    if b"\n" in data:
        raise UsageError(
            "-0 says that paths on standard input end in zero bytes, but there are none: leave it "
            "out where each path has a line of its own"
        )


def _is_gone(text: str) -> bool:
    """Whether an input is the name of a file or folder that is not there, and nothing else."""
    from ovseg_cli.media.folders import is_pattern
    from ovseg_cli.media.inputs import is_gone
    from ovseg_cli.storage.inputs import is_stored

    return not is_stored(text) and not is_pattern(text) and is_gone(text)


def _exists(text: str) -> bool:
    try:
        return os.path.lexists(text)
    except ValueError:  # a zero byte
        return False


def _without_results(
    images: list[ImageInput], texts: Iterable[str], own: Sequence[Path]
) -> list[ImageInput]:
    """The inputs that no run of ovseg has made: neither this one, whose results lie in the folders
    `own`, nor another, whose overlays and label maps a search through folders meets, too. Whoever
    names those, or their folder, means them.

    Raises UsageError where no photo is left.
    """
    from ovseg_cli.storage.store import on_disk

    parents = [os.path.dirname(on_disk(image.name) or image.file) for image in images]
    places = set(parents)  # far fewer
    in_own = _within(own, places)
    in_others = _made_by_others(places - in_own, texts)
    if not in_own and not in_others:
        return images
    if in_others:
        count = sum(parent in in_others for parent in parents)
        console.note(
            f"{count} inputs left out: earlier runs of ovseg made them; whoever "
            "wants them segmented names their folder itself"
        )
        if count == len(images):
            raise UsageError("no input: all photos found are results of earlier runs of ovseg")
    made = in_own | in_others
    kept = [image for image, parent in zip(images, parents, strict=True) if parent not in made]
    count = sum(parent in in_own for parent in parents)
    _say_left_out(count, count + len(kept))
    return kept


def _made_by_others(places: Iterable[str], texts: Iterable[str]) -> set[str]:
    """Which folders of photos lie in results of a run, unless one of the inputs leads there."""
    from ovseg_cli.run_folder.earlier_results import folders_with_results, result_folders
    from ovseg_cli.run_folder.layout import STATE

    @cache  # many of the places may lie in one folder of results
    def own(root: Path) -> list[Path]:
        return folders_with_results(root) if (root / STATE).is_dir() else []

    def is_made(place: Path, root: Path) -> bool:
        return any(place.is_relative_to(folder) for folder in own(root))

    names = {folder.name for folder in result_folders(Path())}
    made: dict[str, list[Path]] = {}
    for text in places:
        place = _resolved(text)
        if place is None or names.isdisjoint(place.parts):
            continue
        folders = [folder for folder in (place, *place.parents) if folder.name in names]
        made[text] = [folder for folder in folders if is_made(place, folder.parent)]
    if not any(made.values()):
        return set()  # without a look at the inputs, which may be a million
    meant = {Path(_named_place(text)).resolve() for text in texts}
    return {
        text
        for text, folders in made.items()
        if not all(any(named.is_relative_to(folder) for named in meant) for folder in folders)
    }


def _named_place(text: str) -> str:
    """The folder that an input names, or that of the file or pattern."""
    from ovseg_cli.media.folders import fixed_part
    from ovseg_cli.storage.store import on_disk

    text = on_disk(text) or text
    if os.path.isdir(text):
        return text
    return os.path.dirname(text) if _exists(text) else fixed_part(text)[0]


def _within(folders: Sequence[Path], parents: Iterable[str]) -> set[str]:
    """Which of some folders' paths lie in, or are, one of `folders`."""
    own = tuple(folder.resolve() for folder in folders if folder.exists())

    def is_within(parent: str) -> bool:
        place = _resolved(parent)
        return place is not None and any(place.is_relative_to(folder) for folder in own)

    return set(filter(is_within, set(parents))) if own else set()


def _resolved(text: str) -> Path | None:
    """Where a path leads; None for what is no path."""
    try:
        return Path(text).resolve()
    except (OSError, ValueError):  # a zero byte
        return None


def _say_left_out(count: int, total: int) -> None:
    if count:
        console.note(f"{count} inputs left out: they are results of ovseg in OUT")
    if count == total:
        raise UsageError("no input: all photos found are results of ovseg in the output folder")
