"""Names for photos of which nobody says what they show: a start, to be edited."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ovseg_cli.errors import InputError
from ovseg_cli.frame import Frame
from ovseg_cli.names.vocabulary_check import usual_cosine
from ovseg_cli.segmentation import Segmentation

MOST = 20  # names
LEAST_SHARE = 0.01  # of all photos' pixels, for a name to be proposed
SAME = 0.6  # similarity from which a noun's pixels count for a more frequent one
SAMPLE = 48  # photos that are looked at


@dataclass(frozen=True)
class Proposal:
    """A name, and how much of the photos it and nouns like it would cover."""

    name: str
    share: float  # of the pixels, photos counting alike, 0..1


def propose(
    segment: Callable[[Frame], Segmentation],
    frames: Iterable[Frame],
    features: np.ndarray,
    unread: list[InputError] | None = None,
) -> list[Proposal]:
    """The nouns that match most of some photos, the most frequent first.

    segment: labels every pixel with the best of many nouns, or with the class after the last of
    them where none fits; features: of the nouns as the model knows them, unit rows (K, C). Nouns
    that the model hardly tells apart become one: the most frequent of them. unread takes why a
    photo could not be segmented, as where there are no masks of it.
    """
    shares = np.zeros(len(features))
    names: Sequence[str] = ()
    count = 0
    for frame in frames:
        try:
            found = segment(frame)
        except InputError as error:
            if unread is not None:
                unread.append(error)
            continue
        names = found.vocabulary.names
        count += 1
        for area in found.areas():
            if 0 <= area.class_id < len(shares):
                shares[area.class_id] += area.fraction * area.mean_confidence
    usual = usual_cosine(features)
    left = shares / max(count, 1)
    proposals: list[Proposal] = []
    while len(proposals) < MOST and left.any():
        best = int(left.argmax())
        alike = (features @ features[best] - usual) / (1 - usual) >= SAME
        alike[best] = True
        proposals.append(Proposal(names[best], float(left[alike].sum())))
        left[alike] = 0
    # Shares of confidence are small where many nouns compete: they are told among each other.
    total = sum(proposal.share for proposal in proposals)
    kept = [Proposal(p.name, p.share / total) for p in proposals]
    return sorted((p for p in kept if p.share >= LEAST_SHARE), key=lambda p: -p.share)


def evenly(items: Sequence[object], most: int = SAMPLE) -> list[int]:
    """Positions of at most so many items, evenly spread."""
    return (
        np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round())
        .astype(int)
        .tolist()
    )
