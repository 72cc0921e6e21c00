"""What earlier runs have left in an output folder: whether it is in the way, and how it goes.

part: which part of a run divided by --shard asks, as its journal is named; empty for a whole run.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from ovseg_cli.errors import OutputError, UsageError
from ovseg_cli.exports import WRITERS
from ovseg_cli.links import first_link, refuse_links
from ovseg_cli.run_folder import layout, parts
from ovseg_cli.run_folder.journal import Journal
from ovseg_cli.run_folder.journal_entry import Entry
from ovseg_cli.whole_files import is_temporary, left_over, remove, require_writable, stays_inside


class ResultsThere(UsageError):
    """What is in an output folder is in the way."""


def check(root: Path, journal: Journal, part: str, *, resume: bool, overwrite: bool) -> None:
    """Raise UsageError where the folder cannot be written, ResultsThere where it holds some."""
    require_writable(root)
    try:
        state = root / layout.STATE
        for path in (*result_folders(root), state, *state.glob("*")):
            refuse_links(root, path)
    except OutputError as error:
        raise UsageError(str(error)) from error
    if part and overwrite and any(_is_foreign(file, part) for file in journal.files()):
        raise UsageError(
            f"{root} holds results of a run that was divided otherwise, which a part does "
            "not overwrite: name another folder with -o"
        )
    if overwrite:
        return
    if not resume and _has_record(root, journal):
        raise ResultsThere(
            f"{root} holds results of an earlier run: --resume continues it, "
            "--overwrite replaces it, -o names another folder"
        )
    if not _has_record(root, journal) and any(map(_has_entries, _photo_folders(root))):
        raise ResultsThere(
            f"{root} holds files where results go, and no record of a run that made "
            "them: -o names another folder, --overwrite replaces those of the same names"
        )


def are_there(root: Path, journal: Journal) -> bool:
    """Whether an earlier run has written to the folder."""
    return _has_record(root, journal) or any(map(_has_entries, _photo_folders(root)))


def result_folders(root: Path) -> list[Path]:
    """The folders that results go to, whether they are there or not."""
    return [*_photo_folders(root), root / layout.PAGE_FILES, root / layout.EXPORTS]


def folders_with_results(root: Path) -> list[Path]:
    """The folders in an output folder that hold no photos to segment.

    Photographers call folders "exports", too: of that only those that an export has noted.
    """
    page = [root / layout.PAGE_FILES] if (root / layout.PAGE).exists() else []
    return [*_photo_folders(root), *page, *exported(root / layout.EXPORTS)]


def exported(folder: Path) -> list[Path]:
    """The folders of formats in this one in which an export has noted what it has written."""
    return sorted(listing.parent for listing in folder.glob(f"*/{layout.EXPORTED}"))


def files_of(root: Path, entry: Entry) -> list[Path]:
    """The files of an entry; a journal from elsewhere cannot name any outside the folder."""
    names = (Path(name) for files in entry.files.values() for name in files)
    inside = (root / name for name in names if stays_inside(name))
    return [path for path in inside if first_link(root, path.parent) is None]


def remove_all(root: Path, journal: Journal, part: str) -> None:
    """Remove what earlier runs say they have written here, a part only its own."""
    journal.close()
    for entry in journal.entries(own=bool(part)):
        remove(files_of(root, entry))
    if part:
        remove(journal.own_files())
        return
    remove([*(root / name for name in layout.RUN_FILES), *parts.records(root)])
    remove([*_half_written(root, journal), *journal.files()])


def remove_half_written(root: Path, journal: Journal) -> None:
    """Remove the temporary files of a run that was killed."""
    remove(_half_written(root, journal))


def _half_written(root: Path, journal: Journal) -> Iterator[Path]:
    if not journal.files():
        return
    for top, _, names in itertools.chain.from_iterable(map(os.walk, _photo_folders(root))):
        yield from (Path(top, name) for name in names if is_temporary(name))
    for folder in (root, root / layout.STATE):
        yield from left_over(folder)


def _has_record(root: Path, journal: Journal) -> bool:
    return any((root / name).exists() for name in layout.RUN_FILES) or any(
        file.stat().st_size for file in journal.files()
    )


def _photo_folders(root: Path) -> list[Path]:
    """Those of each kind of file that is made of a photo."""
    return [root / writer.folder for writer in WRITERS.values()]


def _has_entries(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _is_foreign(journal: Path, part: str) -> bool:
    """Whether a journal is none of this division's parts'."""
    return journal.stem.rpartition("-of-")[2] != part.rpartition("-of-")[2]
