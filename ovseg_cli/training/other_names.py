"""A set's photos or pictures under the names of another vocabulary.

Only what a set labels with a vocabulary's names teaches them, and its few photos of a bus or a boat
teach little. Other sets show buses and boats, too, by other names, and much that is none of these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.errors import UsageError

Phrases = Sequence[tuple[str, ...]]  # of each class its name and synonyms


@dataclass(frozen=True)
class OtherNames:
    """A vocabulary, and what the sets that take it on would call its classes."""

    names: tuple[str, ...]
    sets: tuple[str, ...]  # folders
    same: dict[str, tuple[str, ...]] = field(default_factory=dict)  # name -> of a set's classes
    unsure: tuple[str, ...] = ()  # a set's classes that may or may not be one of the names

    def __post_init__(self) -> None:
        if not 0 < len(self.names) < IGNORE:
            raise ValueError(f"names are 1 to {IGNORE - 1}, not {len(self.names)}")

    def check(self, classes: Iterable[str]) -> None:
        """classes: all those of the sets. Raises UsageError for what is neither theirs nor ours."""
        members = [member for row in self.same.values() for member in row]
        for what, known in ((self.same, self.names), ((*members, *self.unsure), set(classes))):
            unknown = sorted(set(what) - set(known))
            if unknown:
                raise UsageError(f"names of another vocabulary: no class {unknown[0]!r}")

    def table(self, classes: Sequence[str], marked: Sequence[str] = ()) -> np.ndarray:
        """(256,) int64: of each of a set's classes the number here, K for none, or IGNORE.

        marked: what is marked in its photos beside the classes. Every other label, such as a set's
        own "none of these", becomes IGNORE: it may be anything.
        """
        numbers = {name: number for number, name in enumerate(self.names)}
        for number, name in enumerate(self.names):
            numbers |= dict.fromkeys(self.same.get(name, ()), number)
        numbers |= dict.fromkeys(self.unsure, IGNORE)
        table = np.full(IGNORE + 1, IGNORE)
        table[: len(classes)] = [numbers.get(name, len(self.names)) for name in classes]
        first = len(classes) + 1
        table[first : first + len(marked)] = [numbers.get(n, len(self.names)) for n in marked]
        return table


@dataclass(frozen=True, eq=False)
class Renaming:
    """A vocabulary as one set takes it on."""

    phrases: Phrases
    table: Tensor  # (256,) int64: a label of the set -> number in phrases, len(phrases) or IGNORE
    weights: Tensor  # (K+1,) of the loss


def kinds_of(
    vocabularies: Iterable[OtherNames], parts: Collection[str] = ()
) -> dict[str, set[str]]:
    """Of each name in the vocabularies, what sets call kinds of it.

    parts: classes left out, for alone they are only part of what a name means. Raises UsageError
    for one that no vocabulary lists as the same as a name.
    """
    kinds: dict[str, set[str]] = {}
    for other in vocabularies:
        for name, same in other.same.items():
            kinds.setdefault(name, set()).update(same)
    unknown = sorted(set(parts).difference(*kinds.values()))
    if unknown:
        raise UsageError(f"parts: no vocabulary has {unknown[0]!r} as the same as a name of its")
    return {name: same.difference(parts) for name, same in kinds.items()}


def renamed_weights(weights: Tensor, table: Tensor, count: int) -> Tensor:
    """(count+1,): a name weighs what the set's classes of that name do on average."""
    found = torch.ones(count + 1, device=weights.device)
    for number in range(count + 1):
        members = weights[:-1][table[: len(weights) - 1] == number]
        if len(members):
            found[number] = members.mean()
    return found
