"""Dividing the inputs among machines: which part an input belongs to.

Each input has a place on a row of 2^64, by a hash of its name. The row is cut where the bytes of
the inputs on it are divided evenly: part I holds what lies between border I-1 and border I. So
the parts are disjoint and complete whatever the inputs, those that come later included; their
bytes differ from an even share by less than the largest input on either side; and since
neighbours on the row have nothing in common, each part is a mixture of everything.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from ovseg_cli.errors import UsageError

SLURM_INDEX = "SLURM_ARRAY_TASK_ID"
_SLURM_COUNT, _SLURM_MIN = "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"
_SLURM_MAX, _SLURM_STEP = "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP"
_LONGEST_COUNT = 6  # digits of the number of parts
_LONGEST_ROW = 1 << 64


@dataclass(frozen=True)
class Shard:
    """The index-th of count disjoint parts of the inputs, for several machines at once."""

    index: int  # 1..count
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read "2/4"; raises UsageError."""
        first, _, second = text.partition("/")
        numbers = first.lstrip("0"), second.lstrip("0")
        if all(map(str.isdecimal, numbers)) and len(numbers[1]) > _LONGEST_COUNT:
            raise UsageError(f"--shard {text[:40]}: at most {10**_LONGEST_COUNT - 1} parts")
        if all(number.isdecimal() and len(number) <= _LONGEST_COUNT for number in numbers):
            index, count = map(int, numbers)
            if index <= count:
                return cls(index, count)
        raise UsageError(
            f"a part is given as I/N with I from 1 to N, such as 2/4, not {text[:40]!r}"
        )

    @classmethod
    def of_slurm(cls, environment: Mapping[str, str]) -> "Shard":
        """The part of this task of a Slurm array job, whatever its first number and its step.

        Raises UsageError outside of an array job, and in one with gaps (--array=1,3,7), where
        nobody can tell how many parts there are.
        """
        try:
            index, count = int(environment[SLURM_INDEX]), int(environment[_SLURM_COUNT])
            first = int(environment.get(_SLURM_MIN, 1))
            step = int(environment.get(_SLURM_STEP, 1))
            last = int(environment.get(_SLURM_MAX, first + (count - 1) * step))
        except KeyError as error:
            raise UsageError(
                f"--shard slurm: {error.args[0]} is not set, so this is no task of a Slurm array "
                "job; give the part as --shard I/N"
            ) from error
        except ValueError as error:
            raise UsageError(f"--shard slurm: the task's numbers cannot be read: {error}") from None
        position, rest = divmod(index - first, max(step, 1))
        if rest or not 0 <= position < count or (last - first) // max(step, 1) + 1 != count:
            raise UsageError(
                f"--shard slurm: the array's numbers, {count} from {first} to {last}, have gaps; "
                "give the part as --shard I/N"
            )
        return cls(position + 1, count)

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"


@dataclass(frozen=True)
class Division:
    """Where the row of all inputs is cut into parts."""

    borders: tuple[int, ...]  # ascending, one fewer than parts; in 0..2^64

    @property
    def count(self) -> int:
        """Of parts."""
        return len(self.borders) + 1

    def part_of(self, rel: str) -> int:
        """The index of the part that an input belongs to, from 1."""
        return bisect_right(self.borders, place(rel)) + 1


def place(rel: str) -> int:
    """Where an input stands on the row, 0 .. 2^64 - 1."""
    return int.from_bytes(sha256(rel.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def divide(rels: Iterable[str], sizes: Iterable[int], count: int) -> Division:
    """Cut the row so that the parts hold equally many bytes, to within an input.

    sizes: of the inputs, bytes; less than 1 counts as 1, so that what cannot be read is
    distributed, too.
    """
    import numpy as np

    places = np.fromiter(map(place, rels), np.uint64)
    weights = np.maximum(np.fromiter(sizes, np.int64), 1)
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(weights[order])
    middles = ends - weights[order] / 2
    total = float(ends[-1]) if len(ends) else 0.0
    first = np.searchsorted(middles, [total * index / count for index in range(1, count)])
    row = [*places[order].tolist(), _LONGEST_ROW]
    return Division(tuple(row[position] for position in first.tolist()))
