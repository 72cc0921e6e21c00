"""Joining the parts of a divided run, whose fit is checked before anything is written."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from ovseg_cli.errors import UsageError
from ovseg_cli.links import first_link, refuse_links
from ovseg_cli.printable import printable
from ovseg_cli.run_folder import tables
from ovseg_cli.run_folder.finished_run import fits_classes, read_classes, vocabulary_of
from ovseg_cli.run_folder.journal import Journal
from ovseg_cli.run_folder.journal_entry import Entry
from ovseg_cli.run_folder.layout import STATE
from ovseg_cli.run_folder.merge_checks import (
    assemble,
    check_alike,
    check_complete,
    check_finished,
    check_numbers,
)
from ovseg_cli.run_folder.parts import Part, read_parts
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.whole_files import atomic_path, stays_inside


@dataclass(frozen=True)
class Merged:
    """The parts as one run; iterate over `entries` as often as is needed."""

    parts: Sequence[Part]
    vocabulary: Vocabulary
    names: Sequence[str]  # REL of every input, in the order of the whole run
    owners: Sequence[int]  # position in `parts` of each input's part

    @cached_property
    def journals(self) -> dict[Path, Journal]:
        """Those of all folders, loaded."""
        journals = {part.out: Journal(part.out / STATE) for part in self.parts}
        for journal in journals.values():
            journal.load()
        return journals

    def entries(self) -> Iterator[tuple[Part, Entry]]:
        """What became of each input, in the order of the whole run, as far as journals tell."""
        for rel, owner in zip(self.names, self.owners, strict=True):
            part = self.parts[owner]
            entry = self.journals[part.out].entry(rel)
            if entry is None or entry.run != part.origin.run:
                continue
            if entry.reason or fits_classes(entry, len(self.vocabulary)):
                yield part, entry

    def done(self) -> Iterator[Entry]:
        """The finished inputs."""
        return (entry for _, entry in self.entries() if not entry.reason)

    def report(self, command: str) -> dict[str, Any]:
        """The contents of run.json: sums of the parts', and each part's own."""
        first = self.parts[0].report
        timing = [part.report["timing"] for part in self.parts]
        counts: Counter[str] = Counter()
        for part in self.parts:
            counts.update(part.report["counts"])
        seconds = sum(each["run_seconds"] for each in timing)
        return {
            **first,
            "command": command,
            "device": ", ".join(dict.fromkeys(part.report["device"] for part in self.parts)),
            "options": {**first["options"], "shard": None},
            "timing": {
                "started": min(each["started"] for each in timing),
                "load_seconds": round(sum(each["load_seconds"] for each in timing), 3),
                "run_seconds": round(seconds, 3),  # of all machines together
                "photos_per_second": round(counts["done"] / max(seconds, 1e-9), 3),
            },
            "counts": dict(counts),
            "failures": [failure for part in self.parts for failure in part.report["failures"]],
            "parts": [
                {"part": str(part.shard), "out": str(part.out)}
                | {key: part.report[key] for key in ("device", "timing", "counts")}
                for part in self.parts
            ],
        }


def merge(outs: Sequence[Path]) -> Merged:
    """The parts in these folders as one run.

    Raises UsageError where there are none, one is there twice, missing or unfinished, they were
    made from different inputs or by different models or options, or an input is in none or two.
    """
    parts = []
    for out in {os.path.realpath(out): out for out in outs}.values():
        found = read_parts(out)
        if not found:
            read_classes(out)  # which says it, where this is no output folder at all
            raise UsageError(f"{printable(str(out))} holds no part of a run divided by --shard")
        parts += found
    check_numbers(parts)
    parts.sort(key=lambda part: part.shard.index)
    check_alike(parts)
    check_finished(parts)
    names, owners = assemble(parts)
    merged = Merged(parts, vocabulary_of(read_classes(parts[0].out)), names, owners)
    check_complete(parts, names, owners, merged.entries())
    return merged


def write_tables(merged: Merged, folder: Path) -> Sequence[tables.ClassTotal]:
    """Write stats.csv, summary.csv and parents.csv of all parts; raises OutputError."""
    tables.write_parents(folder, merged.vocabulary, merged.done())
    return tables.write_stats(folder, merged.vocabulary, merged.done())


def write_photos(merged: Merged, folder: Path, *, files: str) -> Iterator[Entry]:
    """Note every input in the journal of another folder; yields each.

    files: "copy" or "link" (hard links) brings the results over, with "none" the journal names
    none. Raises OutputError, and UsageError where a result is not what the part has written.
    """
    journal = Journal(folder / STATE)
    archives: set[str] = set()  # those that are there: each holds many photos
    try:
        for part, entry in merged.entries():
            if files == "none":
                entry = replace(entry, files={})
            for name, size in _files_of(entry):
                if name not in archives:
                    _bring(part, name, size, folder, link=files == "link")
                if "/" not in name:
                    archives.add(name)
            journal.append(entry)
            yield entry
    finally:
        journal.close()


def check_results(merged: Merged) -> None:
    """Raise UsageError where a result is not what its part has written."""
    for part, entry in merged.entries():
        for name, size in _files_of(entry):
            _checked_source(part, name, size)


def _files_of(entry: Entry) -> Iterator[tuple[str, int]]:
    """Names and bytes of what was made of an input."""
    return (pair for kind in entry.files.values() for pair in kind.items())


def _bring(part: Part, name: str, size: int, folder: Path, *, link: bool) -> None:
    path, source = PurePath(name), _checked_source(part, name, size)
    refuse_links(folder, folder / path.parent)
    with atomic_path(folder / path) as temporary:
        if link:
            os.link(source, temporary)
        else:
            shutil.copyfile(source, temporary)


def _checked_source(part: Part, name: str, size: int) -> Path:
    path = PurePath(name)
    source = part.out / path
    outside = not stays_inside(path) or first_link(part.out, source)
    if outside or not os.path.isfile(source) or source.stat().st_size != size:
        raise UsageError(
            f"{part.name}: {printable(name)} is not there as it was written: "
            "run the part again with --resume"
        )
    return source
