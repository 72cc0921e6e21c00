"""Names that compete for pixels but are no classes of the result.

The authors of SAN (Xu et al., CVPR 2023, arXiv 2302.12242) call it vocabulary augmentation: their
demonstration adds the 171 names of COCO-Stuff.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from functools import cache

from ovseg_cli.plurals import singulars
from ovseg_cli.vocabulary import Vocabulary, comparable, preset, presets

_KINDS = ("other", "stuff")  # of COCO-Stuff: "sky-other" is a sky


def competing(rivals: Vocabulary, own: Vocabulary) -> list[int]:
    """Positions of the rivals that mean none of one's own classes.

    Left out is what shares all its words with a phrase of an own class, or has all words of one
    among its own: "tree" and "tree trunk", "wall-brick" and "wall"; singular and plural are the
    same, and so are phrases that a preset has as synonyms, such as sofa and couch.
    """
    meant = [_words(phrase) for entry in own.classes for phrase in entry.phrases]
    said = {word for words in meant for word in singulars("".join(words))} | set(_synonyms(own))
    return [
        position
        for position, entry in enumerate(rivals.classes)
        if not any(_means(_words(phrase), meant, said) for phrase in entry.phrases)
    ]


def _means(words: Sequence[str], meant: Sequence[Sequence[str]], said: Set[str]) -> bool:
    if any(_within(words, own) or _within(own, words) for own in meant):
        return True
    return not said.isdisjoint(singulars("".join(words)))  # "dining table" and "diningtable"


def _within(words: Sequence[str], others: Sequence[str]) -> bool:
    """Whether all words are among the others, in the singular or plural."""
    forms = {form for word in others for form in singulars(word)}
    return all(not forms.isdisjoint(singulars(word)) for word in words)


def _words(phrase: str) -> list[str]:
    """Those of a phrase, without a kind that says nothing."""
    words = [word for word in re.split(r"[\W_]+", comparable(phrase)) if word]
    return [word for word in words if word not in _KINDS] or words or [comparable(phrase)]


def _synonyms(own: Vocabulary) -> Iterator[str]:
    """What presets call the classes, each in one word, as `singulars` gives it."""
    for entry in own.classes:
        for phrase in entry.phrases:
            for other in _known_synonyms().get(comparable(phrase), ()):
                yield from singulars("".join(_words(other)))


@cache
def _known_synonyms() -> dict[str, tuple[str, ...]]:
    """Phrase -> all phrases of the classes of presets that it belongs to."""
    found: dict[str, tuple[str, ...]] = {}
    for name in presets():
        for entry in preset(name).classes:
            for phrase in entry.phrases if entry.synonyms else ():
                known = found.get(comparable(phrase), ())
                found[comparable(phrase)] = (*known, *entry.phrases)
    return found
