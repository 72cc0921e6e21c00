"""What the parts of a divided run leave in their folders, so that they fit and can be joined.

In OUT/.ovseg: `division-of-4.json`, where the inputs were cut, which the first part to begin
writes and the others go by; `part-2-of-4.json`, the run.json of a part and what it was made from;
and `part-2-of-4.inputs.gz`, a line of position and REL for each input that the part was to do.
"""

import gzip
import json
import os
import re
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ovseg_cli.errors import UsageError
from ovseg_cli.json_files import open_regular, parse_json, read_json, write_json
from ovseg_cli.media.inputs import ImageInput
from ovseg_cli.printable import printable
from ovseg_cli.run_folder import layout
from ovseg_cli.run_folder.shard import Division, Shard, divide
from ovseg_cli.whole_files import atomic_path, output_errors

_LONGEST_LINE = 1 << 20  # characters; a name has fewer
BEGUN = "begun"  # the status of a part that has not come to an end


@dataclass(frozen=True)
class Origin:
    """What a part was made from; parts that are joined agree in all of it."""

    division: Division
    inputs: int  # of all parts
    listed: str  # a hash of the names of all inputs, in their order
    run: str  # fingerprint of the model and options


@dataclass(frozen=True)
class Part:
    """A part that a run has left in a folder."""

    out: Path
    shard: Shard
    origin: Origin
    report: Mapping[str, Any]  # as run.json

    @property
    def name(self) -> str:
        """As messages call it."""
        return f"part {self.shard.index} of {self.shard.count} ({printable(str(self.out))})"

    def inputs(self) -> Iterator[tuple[int, str]]:
        """Position in the whole run and REL of each input; raises UsageError."""
        file = _inputs(self.out, self.shard)
        try:
            with (
                open_regular(file) as packed,
                gzip.open(packed, "rt", encoding="ascii") as lines,
            ):
                while line := lines.readline(_LONGEST_LINE):
                    position, rel = parse_json(line)
                    yield int(position), str(rel)
        except (OSError, EOFError, ValueError, TypeError, OverflowError, zlib.error) as error:
            raise UsageError(
                f"{self.name}: its list of inputs cannot be read ({error}); "
                "run it again with --resume"
            ) from error


def division_of(
    out: Path, shard: Shard, images: Sequence[ImageInput], *, anew: bool = False
) -> Division:
    """How the inputs are divided: as by an earlier part in this folder, else evenly by bytes.

    anew: what this part has left does not count. Raises UsageError where the folder holds parts of
    another number.
    """
    for file in (out / layout.STATE).glob("part-*-of-*.json"):
        if file.stem.rpartition("-")[2] != str(shard.count):
            raise UsageError(
                f"{printable(str(out))} holds {_said(file.stem)}, so that a part of {shard.count} "
                "does not fit in: give the same N, or name another folder with -o"
            )
    earlier = None if anew and _is_alone(out, shard) else _stored(out, shard.count)
    sizes = (image.version()[0] for image in images)
    return earlier or divide((image.rel for image in images), sizes, shard.count)


def agree(out: Path, shard: Shard, division: Division, *, anew: bool = False) -> Division:
    """Make a division that of the folder, unless another part was quicker; returns what counts.

    Raises OutputError.
    """
    target = _division(out, shard.count)
    if anew and _is_alone(out, shard):
        with output_errors(target):
            target.unlink(missing_ok=True)
    mine = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        write_json(mine, [str(border) for border in division.borders])
        with output_errors(target):
            _put(mine, target)
    finally:
        mine.unlink(missing_ok=True)
    return _stored(out, shard.count) or division


def listed(images: Iterable[ImageInput]) -> str:
    """A hash of the names of inputs, in their order."""
    names = sha256()
    for image in images:
        names.update(json.dumps(image.rel).encode() + b"\n")
    return names.hexdigest()[:32]


def write_inputs(out: Path, shard: Shard, inputs: Iterable[tuple[int, str]]) -> None:
    """Write position and REL of each input of a part; raises OutputError."""
    target = _inputs(out, shard)
    with (
        atomic_path(target) as temporary,
        gzip.open(temporary, "wt", compresslevel=1, encoding="ascii") as lines,
    ):
        for position, rel in inputs:
            lines.write(json.dumps([position, rel]) + "\n")


def write_part(part: Part) -> None:
    """Write what a part was made from and its run.json; raises OutputError."""
    origin = part.origin
    values = {
        "borders": [str(border) for border in origin.division.borders],
        "inputs": origin.inputs,
        "listed": origin.listed,
        "run": origin.run,
        "report": part.report,
    }
    write_json(_record(part.out, part.shard), values)


def read_parts(out: Path) -> list[Part]:
    """The parts in a folder, in their order; raises UsageError where one cannot be read."""
    files = sorted((out / layout.STATE).glob("part-*-of-*.json"))
    return sorted(map(_read, files), key=lambda part: (part.shard.count, part.shard.index))


def records(out: Path) -> Iterator[Path]:
    """The files that parts have left in a folder."""
    for pattern in ("part-*-of-*.json", "part-*-of-*.inputs.gz", "division-of-*.json"):
        yield from (out / layout.STATE).glob(pattern)


def _read(file: Path) -> Part:
    try:
        values = read_json(file)
        borders = tuple(int(border) for border in values["borders"])
        shard = Shard.parse("/".join(re.findall(r"\d+", file.stem)))
        origin = Origin(
            Division(borders), int(values["inputs"]), str(values["listed"]), str(values["run"])
        )
        if shard.count != origin.division.count or not isinstance(values["report"], dict):
            raise ValueError("not of one piece")
    except (OSError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise UsageError(
            f"{printable(str(file))} cannot be read ({error}); "
            f"run {_said(file.stem)} again with --resume"
        ) from error
    return Part(file.parent.parent, shard, origin, values["report"])


def _is_alone(out: Path, shard: Shard) -> bool:
    """Whether no other part has left anything in a folder."""
    names = (file.name for file in (out / layout.STATE).glob("*-of-*.json*"))
    return all(f"-{shard}." in name or name.startswith("division-") for name in names)


def _stored(out: Path, count: int) -> Division | None:
    file = _division(out, count)
    try:
        borders = tuple(int(border) for border in read_json(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"{printable(str(file))} cannot be read ({error})") from error
    if len(borders) != count - 1 or list(borders) != sorted(borders):
        raise UsageError(f"{printable(str(file))} is no division into {count} parts")
    return Division(borders)


def _put(file: Path, target: Path) -> None:
    """Copy a file to where nothing must be; where something is, it stays."""
    try:
        os.link(file, target)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not target.exists():
            os.replace(file, target)


def _said(stem: str) -> str:
    return stem.replace("-", " ")


def _division(out: Path, count: int) -> Path:
    return out / layout.STATE / f"division-of-{count}.json"


def _record(out: Path, shard: Shard) -> Path:
    return out / layout.STATE / f"part-{shard}.json"


def _inputs(out: Path, shard: Shard) -> Path:
    return out / layout.STATE / f"part-{shard}.inputs.gz"
