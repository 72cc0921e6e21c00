"""What a group of views is asked about: its set's own names or those of another vocabulary.

Some names by a synonym, and of all of them often a part only, since users ask for few or for many.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ovseg_cli.data.batches import Guest
from ovseg_cli.data.bounds import SHARE, WEIGHT, require
from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.errors import UsageError
from ovseg_cli.model.network import Network
from ovseg_cli.training.other_names import OtherNames, Phrases, Renaming, renamed_weights

# A group of few names is asked for each name that it does not show with one probability, drawn for
# the group between 0 and this, small ones more often.
OTHERS_ASKED = 0.09


@dataclass(frozen=True, kw_only=True)
class NamesConfig:
    """How often groups go by which names."""

    synonyms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    synonym_share: float = 0.3  # how often a synonym stands in for a name
    other_names: tuple[OtherNames, ...] = ()  # vocabularies that sets take on beside their own
    other_names_share: float = 0.4  # groups of those sets under such a vocabulary
    unnamed_weight: float = 0.3  # there: of a picture that is none of the names
    few_share: float = 0.0  # groups that are asked only for the names they show and few others
    drop_share: float = 0.25  # groups that leave names out: their pixels are non-object

    def __post_init__(self) -> None:
        shares = ("synonym_share", "other_names_share", "few_share", "drop_share")
        require(self, **dict.fromkeys(shares, SHARE), unnamed_weight=WEIGHT)


@dataclass(frozen=True, eq=False)
class Names:
    """K names of a group."""

    text: Tensor  # (K, C) unit features
    weights: Tensor  # (K+1,) of the loss, non-object's last
    table: Tensor  # (256,) int64: label of the set -> number in text, K for none, or IGNORE
    own: bool  # the set's own vocabulary

    def only(self, kept: np.ndarray, non_object: Tensor | None = None) -> Names:
        """Without the names that are not kept, (K,) bool; what they stand for is non-object.

        non_object: its weight, () float, where it is to be another.
        """
        rows = torch.from_numpy(np.flatnonzero(kept)).to(self.text.device)
        renumbered = torch.full_like(self.table, len(rows))
        renumbered[rows] = torch.arange(len(rows), device=rows.device)
        renumbered[IGNORE] = IGNORE
        last = self.weights[-1] if non_object is None else non_object
        weights = torch.cat([self.weights[rows], last.view(1)])
        return Names(self.text[rows], weights, renumbered[self.table], self.own)


class GroupNames:
    """Draws the names of groups of views of each set."""

    def __init__(
        self,
        model: Network,
        config: NamesConfig,
        photos: Mapping[str, tuple[Sequence[str], Tensor]],
        pictures: Mapping[str, Phrases],
        device: torch.device,
        marked: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """photos: of each set its K names and the weights (K+1,) of the loss; pictures: of each
        set what its classes are called; marked: of sets what is marked in their photos beside
        their names. Raises UsageError where other_names fit no set.
        """
        self.config = config
        self.marked = marked or {}
        self.own = {
            **{
                name: _own(
                    self._with_synonyms(names), weights.to(device), self.marked.get(name, ())
                )
                for name, (names, weights) in photos.items()
            },
            **{
                name: _own(rows, torch.ones(len(rows) + 1, device=device))
                for name, rows in pictures.items()
            },
        }
        self.others = self._other_vocabularies(set(photos), device)
        self._text = self._encode_phrases(model, device)

    def _with_marked(self, set_name: str, marked: Sequence[str]) -> Renaming:
        """A set's own vocabulary and the names of what is marked, which weigh as non-object."""
        own, count = self.own[set_name], len(self.own[set_name].phrases)
        unsure = count + 1 + len(marked)
        table = _with_more(own.table, count, range(count + 1, unsure))
        table[unsure] = IGNORE
        weights = torch.cat([own.weights, own.weights[-1:].repeat(len(marked))])
        return Renaming((*own.phrases, *self._with_synonyms(marked)), table, weights)

    def _with_synonyms(self, names: Sequence[str]) -> Phrases:
        return tuple((name, *self.config.synonyms.get(name, ())) for name in names)

    def _other_vocabularies(
        self, photos: set[str], device: torch.device
    ) -> dict[str, list[Renaming]]:
        """Of each set, the vocabularies that it takes on beside its own."""
        classes = {name: [row[0] for row in own.phrases] for name, own in self.own.items()}
        found: dict[str, list[Renaming]] = {name: [] for name in classes}
        for name, marked in self.marked.items():
            found[name].append(self._with_marked(name, marked))
        for other in self.config.other_names:
            absent = sorted(set(other.sets) - set(classes))
            if absent:
                raise UsageError(f"other_names: the set {absent[0]} is not listed")
            other.check(name for folder in other.sets for name in classes[folder])
            for folder in other.sets:
                marks = self.marked.get(folder, ())
                table = torch.from_numpy(other.table(classes[folder], marks)).to(device)
                if folder in photos:
                    weights = renamed_weights(self.own[folder].weights, table, len(other.names))
                else:
                    weights = torch.ones(len(other.names) + 1, device=device)
                    weights[-1] = self.config.unnamed_weight
                phrases = self._with_synonyms(other.names)
                found[folder].append(Renaming(phrases, table, weights))
        return found

    def _encode_phrases(self, model: Network, device: torch.device) -> dict[str, Tensor]:
        """The frozen text tower's feature of every phrase, (C,) each."""
        vocabularies = itertools.chain(self.own.values(), *self.others.values())
        phrases = sorted({phrase for v in vocabularies for row in v.phrases for phrase in row})
        with torch.no_grad():
            features = model.text.encode(phrases)
        return dict(zip(phrases, features.to(device), strict=True))

    def features(self, names: Sequence[str]) -> Tensor:
        """(K, C) of names of the sets."""
        return torch.stack([self._text[name] for name in names])

    def draw(
        self, set_name: str, draw: np.random.Generator, guests: Mapping[int, Guest] | None = None
    ) -> Names:
        """All names of a vocabulary, for a group of that set; of its own, and theirs, with guests.

        Another vocabulary may have a name for a guest, too.
        """
        own = self.own[set_name]
        chosen = own if guests else self._renaming(set_name, draw) or own
        phrases, weights, table = chosen.phrases, chosen.weights, chosen.table
        if guests:
            theirs = [self.own[guest.set_name].phrases[guest.label] for guest in guests.values()]
            phrases = [*phrases, *theirs]
            weights = torch.cat([weights[:-1], weights.new_ones(len(guests)), weights[-1:]])
            table = _with_more(table, len(own.phrases), list(guests))
        return Names(self._drawn(phrases, draw), weights, table, own=chosen is own)

    def thinned(self, names: Names, labels: Tensor, draw: np.random.Generator) -> Names:
        """All of the names or a part, for a group with these labels of its set (B, S, S)."""
        if self.config.few_share and draw.random() < self.config.few_share:
            names = _few(names, labels, draw)
        if draw.random() < self.config.drop_share:
            names = _leave_out(names, draw)
        return names

    def _renaming(self, set_name: str, draw: np.random.Generator) -> Renaming | None:
        """Another vocabulary for a group of this set, or None for its own."""
        found = self.others[set_name]
        if not found or draw.random() >= self.config.other_names_share:
            return None
        return found[draw.integers(len(found))]

    def _drawn(self, phrases: Phrases, draw: np.random.Generator) -> Tensor:
        """Text features (K, C) of the names, some by a synonym."""
        rows = []
        for row in phrases:
            synonym = len(row) > 1 and draw.random() < self.config.synonym_share
            rows.append(self._text[row[draw.integers(1, len(row)) if synonym else 0]])
        return torch.stack(rows)


def _own(phrases: Phrases, weights: Tensor, marked: Sequence[str] = ()) -> Renaming:
    """A set's own vocabulary: its labels are the numbers of the names; none is what is marked."""
    table = torch.arange(IGNORE + 1, device=weights.device)
    table[len(weights) :] = IGNORE
    if marked:
        table[len(weights) : len(weights) + len(marked) + 1] = len(phrases)
    return Renaming(phrases, table, weights)


def _with_more(table: Tensor, count: int, labels: Sequence[int]) -> Tensor:
    """A set's own table of count names, these labels standing for as many further ones."""
    table = table.clone()
    table[table == count] = count + len(labels)  # non-object stays last
    table[list(labels)] = torch.arange(count, count + len(labels)).to(table)
    return table


def _few(names: Names, labels: Tensor, draw: np.random.Generator) -> Names:
    """Drop names that the labels do not show, many or few.

    Against all of a set's names non-object learns to be as strong as their sum: of few names it
    would be too strong a rival.
    """
    shown = torch.zeros(IGNORE + 1, dtype=torch.bool, device=labels.device)
    shown[names.table[labels].flatten()] = True
    count = len(names.text)
    asked = draw.random(count) < OTHERS_ASKED * draw.random() ** 2
    kept = shown[:count].cpu().numpy() | asked
    return names.only(kept) if kept.any() else names


def _leave_out(names: Names, draw: np.random.Generator) -> Names:
    """Drop many or few names; their pixels become non-object, as with `--other`."""
    count = len(names.text)
    kept = draw.random(count) > draw.uniform(0.1, 0.95)
    if not kept.any():
        kept[draw.integers(count)] = True
    return names.only(kept, names.weights.median().clamp(max=1))
