"""What may go wrong with class names: alike to the model, too long for it, or mistyped."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import cache

import numpy as np

from ovseg_cli.errors import VocabularyError
from ovseg_cli.names.nouns import common_nouns
from ovseg_cli.names.plurals import singulars
from ovseg_cli.names.scripts import NOT_LATIN, without_latin
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.vocabulary_files import preset, presets

ALIKE = 0.8  # similarity from which two classes can hardly be told apart
CLOSE = 0.8  # difflib's ratio from which a word may be a mistyped other
_SAMPLE = 12  # every so many nouns tell how alike any two names are
_SHORTEST = 4  # letters of a word that is held against others

# Phrases -> unit features (P, C); raises VocabularyError for one that is too long.
Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Neighbour:
    """Another class, and how alike the model finds the two."""

    name: str
    similarity: float  # 1 = the same, 0 = as any two nouns are on average


@dataclass(frozen=True)
class ClassCheck:
    """What is to be known of one class."""

    name: str
    nearest: tuple[Neighbour, ...]  # other classes, the most alike first
    warnings: tuple[str, ...]


def check(
    vocabulary: Vocabulary,
    encode: Encode,
    is_word: Callable[[str], bool] = lambda word: False,
    neighbours: int = 3,
) -> list[ClassCheck]:
    """Each class of a vocabulary, in order; is_word: what is known to be a word beside the nouns.

    The similarity of two classes is the cosine of their two most alike phrases, shifted and scaled
    so that 0 is the mean over pairs of common nouns: models differ much in that.
    """
    features: list[np.ndarray] = []
    warnings: list[list[str]] = []
    for entry in vocabulary.classes:
        rows, said = [], []
        for phrase in entry.phrases:
            try:
                rows.append(encode([phrase])[0])
            except VocabularyError as error:
                said.append(str(error))
            said += _mistyped(phrase, is_word)
        if without_latin(entry.phrases):
            said.append(f"it has no Latin letter: {NOT_LATIN}")
        features.append(np.array(rows))
        warnings.append(said)
    similarity = _similarity(features, usual_cosine(encode(common_nouns()[::_SAMPLE])))
    checks = []
    for number, (entry, said) in enumerate(zip(vocabulary.classes, warnings, strict=True)):
        order = [k for k in np.argsort(-similarity[number], kind="stable") if k != number]
        nearest = tuple(
            Neighbour(vocabulary.names[k], float(similarity[number, k]))
            for k in order[:neighbours]
            if np.isfinite(similarity[number, k])
        )
        said += [
            f"the model can hardly tell it from '{other.name}' ({other.similarity:.2f}): "
            "make them synonyms of one class, or choose other words"
            for other in nearest
            if other.similarity >= ALIKE
        ]
        checks.append(ClassCheck(entry.name, nearest, tuple(said)))
    return checks


def usual_cosine(features: np.ndarray) -> float:
    """Mean cosine of two different rows of unit features (P, C)."""
    count, total = len(features), features.sum(0)
    return float((total @ total - count) / max(1, count * (count - 1)))


def _similarity(features: Sequence[np.ndarray], usual: float) -> np.ndarray:
    """(K, K); -inf where a class has no phrase that can be encoded."""
    found = np.full((len(features), len(features)), -np.inf)
    encoded = [number for number, one in enumerate(features) if len(one)]
    if encoded:
        phrases = np.concatenate([features[number] for number in encoded])
        starts = np.cumsum([0, *(len(features[number]) for number in encoded[:-1])])
        best = np.maximum.reduceat(phrases @ phrases.T, starts, axis=0)
        best = np.maximum.reduceat(best, starts, axis=1)
        found[np.ix_(encoded, encoded)] = (best - usual) / (1 - usual)
    return found


def _mistyped(phrase: str, is_word: Callable[[str], bool]) -> list[str]:
    """What a phrase may have been meant to be."""
    nouns, known = common_nouns(), _known_words()

    def is_known(word: str) -> bool:
        return _is_known(word, known) or len(word) >= _SHORTEST and is_word(word)

    text = phrase.lower()
    if text in nouns or all(map(is_known, text.split())):
        return []
    close = difflib.get_close_matches(text, nouns, 1, CLOSE)
    if not close:
        words = [
            (difflib.get_close_matches(word, known, 1, CLOSE) or [word])[0]
            if len(word) >= _SHORTEST and not is_known(word)
            else word
            for word in text.split()
        ]
        close = [" ".join(words)]
    return [] if close[0] == text else [f"'{phrase}': is '{close[0]}' meant?"]


@cache
def _known_words() -> frozenset[str]:
    classes = (entry for name in presets() for entry in preset(name).classes)
    phrases = (phrase for entry in classes for phrase in entry.phrases)
    return frozenset(word for noun in (*common_nouns(), *phrases) for word in noun.lower().split())


def _is_known(word: str, known: Set[str]) -> bool:
    """Whether it, or what it is the plural of, is a word of some noun."""
    return not known.isdisjoint(singulars(word)) or not word.isalpha()
