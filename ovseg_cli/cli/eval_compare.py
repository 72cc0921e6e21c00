"""`ovseg eval --compare`: which ways of running a model are set against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import click

from ovseg_cli import vocabulary_files
from ovseg_cli.cli.compute import Compute
from ovseg_cli.cli.compute_options import require_windows
from ovseg_cli.errors import UsageError


@dataclass(frozen=True)
class Variant:
    """One way of running a model, and what is peculiar to it."""

    values: dict[str, str]  # option -> value, as typed
    compute: Compute

    @property
    def label(self) -> str:
        """What to call it in messages."""
        return ", ".join(f"{option} {value}" for option, value in self.values.items())


def variants(base: Compute, compared: Sequence[str]) -> list[Variant]:
    """Every combination of the values in texts like "model=mini,clip-vit-b-16".

    Raises UsageError for an option that does not say how a model runs, a value that it refuses, or
    an overlap without windows.
    """
    lists: dict[str, list[str]] = {}
    for text in compared:
        option, _, listed = text.partition("=")
        option = option.strip().removeprefix("--").replace("_", "-")
        values = [value.strip() for value in listed.split(",") if value.strip()]
        if option in lists or not values:
            raise UsageError(f"--compare {text!r} is not OPTION=A,B,... with an option for once")
        lists[option] = list(dict.fromkeys(values))
    found = [
        Variant(chosen, replace(base, **dict(_converted(*pair) for pair in chosen.items())))
        for values in product(*lists.values())
        for chosen in [dict(zip(lists, values, strict=True))]
    ]
    if "overlap" in lists:
        for variant in found:
            require_windows(variant.compute.overlap, variant.compute.tile)
    return found


def require_runnable(chosen: Sequence[Variant]) -> None:
    """Raise UsageError for one whose model or device is not here, before hours of work."""
    from ovseg_cli.loading import choose_device

    for variant in chosen:
        variant.compute.require_model()
        if variant.compute.runtime == Compute.runtime:  # other engines choose for themselves
            choose_device(variant.compute.device)


def _converted(option: str, value: str) -> tuple[str, Any]:
    """The field of `Compute` and its value, checked as the option itself checks it."""
    field = option.replace("-", "_")
    # Exemplars are of single classes: theirs is an option of another name and form.
    known = [entry.name for entry in fields(Compute) if entry.name != "exemplars"]
    if field not in known:
        listed = ", ".join(name.replace("_", "-") for name in known)
        raise UsageError(f"--compare knows no option {option!r}; there are {listed}")
    if field == "templates":
        return field, vocabulary_files.templates(value)
    context = click.get_current_context()
    parameter = next(entry for entry in context.command.params if entry.name == field)
    return field, parameter.type.convert(value, parameter, context)
