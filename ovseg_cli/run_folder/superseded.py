"""What of a photo's earlier results stays, and what goes, when the photo is done again."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePath

from ovseg_cli.exports import WRITERS
from ovseg_cli.run_folder.journal_entry import Entry

Files = Mapping[str, Mapping[str, int]]  # name in --save -> path in the output folder -> bytes


def still_good(earlier: Entry, entry: Entry, held: Callable[[str], int]) -> Files:
    """What the same run made of the same photo, of the kinds that are wholly there as written.

    held: the size of a file of the results; -1 where it is not there.
    """
    if not is_repeated(earlier, entry):
        return {}
    return {
        kind: files
        for kind, files in earlier.files.items()
        if all(held(name) == size for name, size in files.items())
    }


def is_repeated(earlier: Entry, entry: Entry) -> bool:
    """Whether the earlier entry tells of results of this very run and photo."""
    made_from = [(e.run, e.path, e.size, e.modified_ns) for e in (earlier, entry)]
    return made_from[0] == made_from[1] and not earlier.reason


def outdated(earlier: Entry, files: Files) -> Entry:
    """The earlier entry with those files alone that are not among the new ones and may go.

    What holds other photos, too, as an archive does, is none of them.
    """
    new = {name for names in files.values() for name in names}
    left = {}
    for kind in WRITERS.keys() & earlier.files.keys():
        target = WRITERS[kind].target(Path(), earlier.rel)
        inside_too = not WRITERS[kind].suffix  # a folder
        left[kind] = {
            name: size
            for name, size in earlier.files[kind].items()
            for path in [PurePath(name)]
            if path == target or inside_too and target in path.parents
            if name not in new
        }
    return replace(earlier, files=left)
