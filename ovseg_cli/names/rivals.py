"""Names that compete for pixels but are no classes of the result.

The authors of SAN (Xu et al., CVPR 2023, arXiv 2302.12242) call it vocabulary augmentation: their
demonstration adds the 171 names of COCO-Stuff.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from functools import cache

from ovseg_cli.names.plurals import singulars
from ovseg_cli.vocabulary import Vocabulary, comparable
from ovseg_cli.vocabulary_files import preset, presets

_KINDS = ("other", "stuff")  # of COCO-Stuff: "sky-other" is a sky


def competing(rivals: Vocabulary, own: Vocabulary) -> list[int]:
    """Positions of the rivals that mean none of one's own classes.

    Left out is what shares all its words with a phrase of an own class, or has all words of one
    among its own: "tree" and "tree trunk", "wall-brick" and "wall"; singular and plural are the
    same, and so are phrases that a preset has as synonyms, such as sofa and couch.
    """
    meant = _Phrases(_words(phrase) for entry in own.classes for phrase in entry.phrases)
    said = {*meant.said, *_synonyms(own)}
    return [
        position
        for position, entry in enumerate(rivals.classes)
        if not any(_means(_words(phrase), meant, said) for phrase in entry.phrases)
    ]


class _Phrases:
    """Phrases as words, found by each form that one of their words may have."""

    def __init__(self, phrases: Iterable[Sequence[str]]) -> None:
        self.forms: list[list[Sequence[str]]] = []  # of each phrase those of each word
        self.said: set[str] = set()  # each phrase in one word
        self._with: dict[str, set[int]] = {}
        for number, words in enumerate(phrases):
            self.forms.append([singulars(word) for word in words])
            self.said.update(singulars("".join(words)))
            for form in itertools.chain.from_iterable(self.forms[-1]):
                self._with.setdefault(form, set()).add(number)

    def alike(self, forms: Iterable[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
        """Those that share a word with a phrase of these forms."""
        numbers = (self._with.get(form, ()) for form in itertools.chain.from_iterable(forms))
        return (self.forms[number] for number in set().union(*numbers))


def _means(words: Sequence[str], meant: _Phrases, said: Set[str]) -> bool:
    forms = [singulars(word) for word in words]
    if any(_within(forms, own) or _within(own, forms) for own in meant.alike(forms)):
        return True
    return not said.isdisjoint(singulars("".join(words)))  # "dining table" and "diningtable"


def _within(words: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> bool:
    """Whether all words are among the others, in the singular or plural."""
    known = set(itertools.chain.from_iterable(others))
    return all(not known.isdisjoint(forms) for forms in words)


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
