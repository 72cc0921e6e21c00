"""What values of options may be: click types that give a command ready values."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import click

from ovseg_cli.errors import UsageError
from ovseg_cli.run_folder.shard import Shard

_LONGEST_NUMBER = 18  # digits; Python itself refuses thousands of them


class Real(click.FloatRange):
    """A number within bounds; click's own type takes nan, too, which lies in none."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Check what was typed."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


class Place(click.Path):
    """Where results go; not the current folder because a variable is empty."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Check what was typed."""
        option = param.opts[0] if param else "a place"
        if isinstance(value, str) and not value.strip():
            raise UsageError(f"{option}: an empty name; is a variable not set? (. is this folder)")
        if value == "-":
            raise UsageError(
                f"{option}: results are files, standard output holds none; name a place"
            )
        return super().convert(value, param, ctx)


class Named(click.ParamType):
    """A name, not none because a variable is empty."""

    name = "name"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Check what was typed."""
        if not value.strip():
            option = param.opts[0] if param else "a name"
            raise UsageError(f"{option}: an empty name; is a variable not set?")
        return str(value)


class Listed(click.ParamType):
    """Words separated by commas, without repeats; not none because a variable is empty."""

    name = "list"

    def __init__(self, example: str) -> None:
        """example: one of them, for the message."""
        self.example = example

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """Check what was typed."""
        if isinstance(value, tuple):
            return value
        words = tuple(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))
        if not words:
            option = param.opts[0] if param else "a list"
            raise UsageError(f"{option} names nothing: name one, such as {self.example}")
        return words


def counted(text: str) -> int:
    """A number from 1 as it was typed; 0 for anything else and for more digits than 18."""
    digits = text.lstrip("0")
    return int(digits) if digits.isdecimal() and len(digits) <= _LONGEST_NUMBER else 0


class BatchSize(click.ParamType):
    """auto (None) or a number of photos."""

    name = "batch size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | None:
        """Check what was typed."""
        if value is None or isinstance(value, int):
            return value
        if value == "auto":
            return None
        if number := counted(value):
            return number
        self.fail(f"{value[:40]!r} is neither 'auto' nor a number from 1", param, ctx)


class ShardType(click.ParamType):
    """I/N, or slurm, as a Shard."""

    name = "part"

    def convert(self, value: Any, param: Any, ctx: Any) -> Shard:
        """Check what was typed."""
        if isinstance(value, Shard):
            return value
        try:
            return Shard.of_slurm(os.environ) if value == "slurm" else Shard.parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True)
class ErrorLimit:
    """How many failures end a run."""

    number: int
    percent: bool = False  # of the inputs

    def of(self, inputs: int) -> int:
        """The limit of a run of so many inputs, at least 1."""
        return max(1, -(-inputs * self.number // 100)) if self.percent else self.number


class ErrorLimitType(click.ParamType):
    """N or P% as an ErrorLimit."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> ErrorLimit:
        """Check what was typed."""
        if isinstance(value, ErrorLimit):
            return value
        number, percent = counted(value.removesuffix("%").strip()), value.endswith("%")
        if number and not (percent and number > 100):
            return ErrorLimit(number, percent)
        self.fail(f"{value[:40]!r} is neither a number from 1 nor 1% to 100%", param, ctx)
