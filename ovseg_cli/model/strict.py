"""Strict conversion of foreign checkpoints: every tensor is accounted for by name and shape.

The order of work is the reverse of a usual conversion: sizes follow from the tensors, a model of
these sizes says which tensors there must be, and the file has to hold exactly those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.model.build import config_from_dict, skeleton
from ovseg_cli.model.config import ModelConfig
from ovseg_cli.model.shapes import Shapes
from ovseg_cli.printable import some_of


def shapes_of(state_dict: Mapping[str, Any], kind: str) -> Shapes:
    """The shapes of a file's tensors; raises CheckpointError for anything else in it."""
    strangers = sorted(key for key, value in state_dict.items() if not isinstance(value, Tensor))
    if strangers:
        raise CheckpointError(f"entries that are no tensors: {some_of(strangers)}")
    return Shapes({key: tuple(value.shape) for key, value in state_dict.items()}, kind)


def sources_of(
    config: ModelConfig, source_name: Callable[[str], str]
) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """The authors' names of a model's tensors -> ours, and -> shapes.

    source_name: from our names to theirs. Raises UsageError for sizes that do not fit each other,
    or that no model file may have.
    """
    _check_loadable(config)
    try:
        wanted = skeleton(config).state_dict()
    except ValueError as error:  # options that contradict each other or the tensors
        raise UsageError(f"the model's configuration does not fit its tensors: {error}") from error
    sources = {source_name(name): name for name in wanted}
    return sources, {source: tuple(wanted[name].shape) for source, name in sources.items()}


def compare(
    shapes: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    kind: str,
    tolerated: Iterable[str],
    prefix: str = "",
) -> None:
    """Raise CheckpointError for what differs; names are told without `prefix`.

    tolerated: patterns of names that a file may hold beyond what is expected.
    """
    missing = sorted(set(expected) - set(shapes))
    surplus = sorted(
        key
        for key in set(shapes) - set(expected)
        if not any(re.fullmatch(pattern, key) for pattern in tolerated)
    )
    misshapen = [
        f"{key.removeprefix(prefix)} is {list(shapes[key])}, not {list(shape)}"
        for key, shape in sorted(expected.items())
        if key in shapes and shapes[key] != shape
    ]
    missing, surplus = ([k.removeprefix(prefix) for k in keys] for keys in (missing, surplus))
    faults = {"missing": missing, "surplus": surplus, "misshapen": misshapen}
    if any(faults.values()):
        raise CheckpointError(f"the tensors are not those of {kind}: {told(faults)}")


def taken(
    state_dict: Mapping[str, Tensor], sources: Mapping[str, str], prefix: str = ""
) -> dict[str, Tensor]:
    """A model's tensors by our names, as float32; sources: the authors' names -> ours.

    Raises CheckpointError for those that hold no floating-point numbers, named without `prefix`.
    """
    strangers = [
        f"{source.removeprefix(prefix)} ({state_dict[source].dtype})"
        for source in sorted(sources)
        if not state_dict[source].is_floating_point()
    ]
    if strangers:
        raise CheckpointError(f"tensors that hold no floating-point numbers: {some_of(strangers)}")
    return {name: state_dict[source].float() for source, name in sources.items()}


def _check_loadable(config: ModelConfig) -> None:
    """What the loader would refuse must not be written. Raises UsageError, which names the key."""
    try:
        config_from_dict(json.loads(json.dumps(config.to_dict())))
    except ValueError as error:
        raise UsageError(f"no model can have this configuration: {error}") from error


def told(faults: Mapping[str, list[str]]) -> str:
    """Each kind of fault with the first few tensors that have it; empty where none has any."""
    return "; ".join(f"{fault}: {some_of(names)}" for fault, names in faults.items() if names)
