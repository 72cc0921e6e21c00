"""Joining the parts of a divided run: that they fit together is shown before anything is written.

Every input of the whole list must be in exactly one part, and every part finished, by the same
model, names and options.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from ovseg_cli import tables
from ovseg_cli.errors import UsageError
from ovseg_cli.finished_run import (
    is_end_of,
    is_sound,
    read_classes,
    recorded_failures,
    vocabulary_of,
)
from ovseg_cli.journal import Entry, Journal
from ovseg_cli.layout import STATE
from ovseg_cli.links import first_link, refuse_links
from ovseg_cli.parts import Part, read_parts
from ovseg_cli.printable import printable
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.whole_files import atomic_path, stays_inside

_OWN_AFFAIR = ("batch_size", "workers", "shard")  # options that may differ between parts
_SHOWN = 3  # names in a message
_BOUND = 1 << 53  # of photos or seconds; integers below it are floats, too
_MOST_CHARACTERS = 400_000_000  # of the names of all inputs: ten million have fewer


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
            if entry.reason or is_sound(entry, len(self.vocabulary)):
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
    _check_numbers(parts)
    parts.sort(key=lambda part: part.shard.index)
    for other in parts[1:]:
        _check_same(parts[0], other)
    for part in parts:
        if part.report.get("status") != "complete":
            raise UsageError(
                f"{part.name} is not finished ({part.report.get('status')}): "
                "run it again with --resume"
            )
        if not _is_whole(part.report):
            raise UsageError(f"{part.name}: its record is damaged: run it again with --resume")
    names, owners = _assemble(parts)
    merged = Merged(parts, vocabulary_of(read_classes(parts[0].out)), names, owners)
    _check_complete(merged)
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
    shards: set[str] = set()  # those that are there: each holds many photos
    try:
        for part, entry in merged.entries():
            if files == "none":
                entry = replace(entry, files={})
            for name, size in _files_of(entry):
                if name not in shards:
                    _bring(part, name, size, folder, link=files == "link")
                if "/" not in name:
                    shards.add(name)
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


def _check_numbers(parts: Sequence[Part]) -> None:
    for part in parts:
        if part.shard.count != parts[0].shard.count:
            raise UsageError(f"{parts[0].name} and {part.name} are of different divisions")
    seen: dict[int, Part] = {}
    for part in parts:
        if part.shard.index in seen:
            twice = f"{seen[part.shard.index].name} and {part.name}"
            raise UsageError(f"{twice}: the same part twice; leave one of them out")
        seen[part.shard.index] = part
    count = parts[0].shard.count
    missing = [index for index in range(1, count + 1) if index not in seen]
    if missing:
        noun = "part" if len(missing) == 1 else "parts"
        raise UsageError(
            f"{noun} {_some(map(str, missing), len(missing))} of {count} missing: "
            "name the folders of all parts"
        )


def _check_same(one: Part, other: Part) -> None:
    both = f"{one.name} and {other.name}"
    a, b = one.origin, other.origin
    if a.run != b.run or _classes(one.out) != _classes(other.out):
        raise UsageError(f"{both} do not fit together: {_difference(one, other)}")
    if a.listed != b.listed:
        count = f"{a.inputs} and {b.inputs}" if a.inputs != b.inputs else f"{a.inputs}, not alike"
        raise UsageError(
            f"{both} were made from different lists of inputs ({count}): "
            "run all parts again on one list; with --resume what is done is not done again"
        )
    if a.division != b.division:
        raise UsageError(
            f"{both} were divided at different places, since their inputs differed when they "
            "began: run one of them again with --overwrite"
        )


def _difference(one: Part, other: Part) -> str:
    """What the outputs depend on and is not the same."""
    a, b = one.report, other.report
    pairs = [(key, a.get(key), b.get(key)) for key in ("version", "model", "precision")]
    told = [report.get("options") for report in (a, b)]
    options = [each if isinstance(each, dict) else {} for each in told]
    pairs += [
        (key, options[0].get(key), options[1].get(key))
        for key in {**options[0], **options[1]}
        if key not in _OWN_AFFAIR
    ]
    unlike = [f"{key} is {left} and {right}" for key, left, right in pairs if left != right]
    return printable("; ".join(unlike)) or "their class names differ"


def _is_whole(report: Mapping[str, Any]) -> bool:
    """Whether a part's run.json has what the whole run's is made of."""
    timing, counts = report.get("timing"), report.get("counts")
    return (
        isinstance(timing, dict)
        and all(_is_amount(timing.get(key)) for key in ("load_seconds", "run_seconds"))
        and isinstance(timing.get("started"), str)
        and isinstance(counts, dict)
        and "done" in counts
        and all(isinstance(count, int) and _is_amount(count) for count in counts.values())
        and isinstance(report.get("failures"), list)
        and isinstance(report.get("options"), dict)
        and isinstance(report.get("device"), str)
    )


def _is_amount(value: Any) -> bool:
    """Whether it is a number that can be reckoned with, of photos or seconds."""
    return isinstance(value, int | float) and 0 <= value < _BOUND


def _assemble(parts: Sequence[Part]) -> tuple[list[str], list[int]]:
    """REL and part of every input, by position; raises UsageError for overlaps and gaps."""
    total = parts[0].origin.inputs
    told = _count_inputs(parts, total)
    if told < total:
        raise UsageError(f"{total - told} of {total} inputs are in no part: run the parts again")
    names, owners = [""] * total, [-1] * total
    for number, part in enumerate(parts):
        for position, rel in part.inputs():
            if not 0 <= position < total:
                raise UsageError(f"{part.name}: its list of inputs is damaged; run it again")
            if owners[position] >= 0:
                other = parts[owners[position]]
                raise UsageError(f"{printable(rel)} is in two parts: {other.name} and {part.name}")
            names[position], owners[position] = rel, number
    absent = owners.count(-1)
    if absent:
        raise UsageError(f"{absent} of {total} inputs are in no part: run the parts again")
    return names, owners


def _count_inputs(parts: Sequence[Part], total: int) -> int:
    """How many inputs the parts tell of, as far as their lists ascend, as ours do.

    A packed list of any other kind may be a thousand times as long as its file. What is wrong with
    it is found where it is read again.
    """
    told = characters = 0
    for part in parts:
        latest = -1
        for position, rel in part.inputs():
            characters += len(rel)
            if characters > _MOST_CHARACTERS:
                raise UsageError(f"{part.name}: its list of inputs is damaged; run it again")
            if not latest < position < total:
                break
            latest = position
            told += 1
    return told


def _check_complete(merged: Merged) -> None:
    """Raise UsageError where a journal lacks inputs; files that were never there have no line."""
    told = set()
    unheard = {part.shard.index: _failed_paths(part) for part in merged.parts}
    for part, entry in merged.entries():
        told.add(entry.rel)
        _strike(entry.path, unheard[part.shard.index])
    lacking: dict[int, list[str]] = {}
    for rel, owner in zip(merged.names, merged.owners, strict=True):
        if rel not in told:
            lacking.setdefault(owner, []).append(rel)
    for owner, rels in lacking.items():
        part = merged.parts[owner]
        if len(rels) > sum(map(len, unheard[part.shard.index].values())):
            raise UsageError(
                f"{part.name} has not finished {len(rels)} of its inputs "
                f"({_some(rels, len(rels))}): run it again with --resume"
            )


def _failed_paths(part: Part) -> dict[str, list[str]]:
    """The failures that a part reports, as they were typed, by the last of their names."""
    found: dict[str, list[str]] = {}
    for path, _ in recorded_failures(part.report):
        found.setdefault(PurePath(path).name, []).append(path)
    return found


def _strike(whole: str, failed: dict[str, list[str]]) -> None:
    """Take out of the failures the one, if any, of an input that the journal knows."""
    paths = failed.get(PurePath(whole).name, [])
    struck = next((path for path in paths if is_end_of(path, whole)), None)
    if struck is not None:
        paths.remove(struck)


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


def _classes(out: Path) -> list[Mapping[str, Any]]:
    return [vars(entry) for entry in read_classes(out)]


def _some(names: Iterator[str] | Sequence[str], count: int) -> str:
    shown = [printable(name) for name, _ in zip(names, range(_SHOWN), strict=False)]
    return ", ".join(shown) + (", ..." if count > _SHOWN else "")
