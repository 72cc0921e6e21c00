"""That the parts of a divided run fit together, are finished and leave nothing out.

Every input of the whole list must be in exactly one part, and every part finished, by the same
model, names and options. Each check raises UsageError.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ovseg_cli.errors import UsageError
from ovseg_cli.printable import printable, some_of
from ovseg_cli.run_folder.finished_run import is_end_of, read_classes, recorded_failures
from ovseg_cli.run_folder.journal_entry import Entry
from ovseg_cli.run_folder.parts import Part

_OWN_AFFAIR = ("batch_size", "workers", "shard")  # options that may differ between parts
_SHOWN = 3  # names in a message
_BOUND = 1 << 53  # of photos or seconds; integers below it are floats, too
_MOST_CHARACTERS = 400_000_000  # of the names of all inputs: ten million have fewer


def check_numbers(parts: Sequence[Part]) -> None:
    """Each part of one division is there, once."""
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
            f"{noun} {some_of([str(number) for number in missing], _SHOWN)} of {count} missing: "
            "name the folders of all parts"
        )


def check_alike(parts: Sequence[Part]) -> None:
    """All were made from the same inputs, by the same model, names and options."""
    for other in parts[1:]:
        _check_same(parts[0], other)


def check_finished(parts: Sequence[Part]) -> None:
    """Each has come to its end, and tells what the whole run's record is made of."""
    for part in parts:
        if part.report.get("status") != "complete":
            raise UsageError(
                f"{part.name} is not finished ({part.report.get('status')}): "
                "run it again with --resume"
            )
        if not _is_whole(part.report):
            raise UsageError(f"{part.name}: its record is damaged: run it again with --resume")


def _check_same(one: Part, other: Part) -> None:
    both = f"{one.name} and {other.name}"
    a, b = one.origin, other.origin
    if a.run != b.run or read_classes(one.out) != read_classes(other.out):
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


def assemble(parts: Sequence[Part]) -> tuple[list[str], list[int]]:
    """REL and position in `parts` of every input's part, where each is in exactly one."""
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


def check_complete(
    parts: Sequence[Part],
    names: Iterable[str],
    owners: Iterable[int],
    entries: Iterable[tuple[Part, Entry]],
) -> None:
    """No journal lacks inputs; of files that were never there it needs no line.

    names and owners: as `assemble` gives them; entries: what the journals tell, with their parts.
    """
    told = set()
    unheard = {part.shard.index: _failed_paths(part) for part in parts}
    for part, entry in entries:
        told.add(entry.rel)
        _strike(entry.path, unheard[part.shard.index])
    lacking: dict[int, list[str]] = {}
    for rel, owner in zip(names, owners, strict=True):
        if rel not in told:
            lacking.setdefault(owner, []).append(rel)
    for owner, rels in lacking.items():
        part = parts[owner]
        if len(rels) > sum(map(len, unheard[part.shard.index].values())):
            raise UsageError(
                f"{part.name} has not finished {len(rels)} of its inputs "
                f"({some_of(rels, _SHOWN)}): run it again with --resume"
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
