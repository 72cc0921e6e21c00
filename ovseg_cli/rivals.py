"""Names that compete for pixels but are no classes of the result.

The authors of SAN (Xu et al., CVPR 2023, arXiv 2302.12242) call it vocabulary augmentation: their
demonstration adds the 171 names of COCO-Stuff.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from functools import cache

from ovseg_cli.vocabulary import Vocabulary, comparable, preset, presets

_IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "leaves": "leaf",
    "knives": "knife",
    "buses": "bus",
}
_KINDS = ("other", "stuff")  # of COCO-Stuff: "sky-other" is a sky


def competing(rivals: Vocabulary, own: Vocabulary) -> list[int]:
    """Positions of the rivals that mean none of one's own classes.

    Left out is what shares all its words with a phrase of an own class, or has all words of one
    among its own: "tree" and "tree trunk", "wall-brick" and "wall"; singular and plural are the
    same, and so are phrases that a preset has as synonyms, such as sofa and couch.
    """
    meant = [_words(phrase) for entry in own.classes for phrase in entry.phrases]
    said = {"".join(words) for words in meant} | set(_synonyms(own))
    return [
        position
        for position, entry in enumerate(rivals.classes)
        if not any(_means(_words(phrase), meant, said) for phrase in entry.phrases)
    ]


def _means(words: Sequence[str], meant: Sequence[Sequence[str]], said: Set[str]) -> bool:
    nested = any(set(words) <= set(own) or set(own) <= set(words) for own in meant)
    return nested or "".join(words) in said  # "dining table" and "diningtable"


def _words(phrase: str) -> list[str]:
    """Those of a phrase, in the singular and without a kind that says nothing."""
    words = [_singular(word) for word in re.split(r"[\W_]+", comparable(phrase)) if word]
    return [word for word in words if word not in _KINDS] or words or [comparable(phrase)]


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) else word


def _synonyms(own: Vocabulary) -> Iterator[str]:
    """What presets call the classes, each in one word."""
    for entry in own.classes:
        for phrase in entry.phrases:
            for other in _known_synonyms().get(comparable(phrase), ()):
                yield "".join(_words(other))


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
