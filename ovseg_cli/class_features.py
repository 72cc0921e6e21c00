"""What stands for each class before the network: features of words, of pictures, or of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ovseg_cli import weights
from ovseg_cli.errors import UsageError
from ovseg_cli.exemplars import Exemplar, require_classes
from ovseg_cli.model.network import TextFeatures
from ovseg_cli.model.prompts import TextEncoder
from ovseg_cli.names.nouns import common_nouns
from ovseg_cli.names.rivals import competing
from ovseg_cli.printable import printable
from ovseg_cli.scoring import Scorer
from ovseg_cli.text_cache import text_features
from ovseg_cli.vocabulary import Vocabulary


@torch.inference_mode()
def class_features(
    encoder: TextEncoder,
    vocabulary: Vocabulary,
    checksum: str,
    scorer: Scorer,
    exemplars: Sequence[Exemplar] = (),
    rivals: Vocabulary | None = None,
) -> TextFeatures:
    """The rows of all names and synonyms, and one row for the pictures of a class.

    checksum: of the model, for the cache of text features. Of classes that are `pictured` only
    pictures count. rivals: the names of which those that mean no own class follow as more classes.
    Raises VocabularyError for a name that the model cannot read, UsageError for a picture that
    cannot be used or shows none of the classes, and for a class without words and pictures.
    """
    folder = weights.home() / "text"
    own = _own_features(encoder, vocabulary, checksum, folder, scorer, exemplars)
    kept = [] if rivals is None else competing(rivals, vocabulary)
    if rivals is None or not kept:
        return own
    # All are encoded, whatever is left out: so the cache serves every vocabulary.
    known = Vocabulary(rivals.classes, vocabulary.templates)
    named = text_features(encoder, known, checksum, folder).to(scorer.device)
    return own.followed_by(named.only(kept))


def _own_features(
    encoder: TextEncoder,
    vocabulary: Vocabulary,
    checksum: str,
    folder: Path,
    scorer: Scorer,
    exemplars: Sequence[Exemplar],
) -> TextFeatures:
    """Of the classes of the result."""
    # Of a class that pictures alone show the name may be none that the encoder can read.
    words_of = [entry for entry in vocabulary.classes if not entry.pictured]
    spoken: list[Tensor] = []
    if words_of:
        told = Vocabulary(words_of, vocabulary.templates)
        found = text_features(encoder, told, checksum, folder).to(scorer.device)
        if not exemplars and len(told) == len(vocabulary):
            return found
        spoken = list(found.features)
    require_classes(vocabulary, exemplars)
    shown: dict[str, list[Tensor]] = {}
    if exemplars:
        nouns = Vocabulary(common_nouns(), vocabulary.templates)
        words = text_features(encoder, nouns, checksum, folder).features.to(scorer.device)
    for exemplar in exemplars:
        row = scorer.exemplar(*exemplar.load(), words)
        shown.setdefault(exemplar.name, []).append(row)
    rows: list[Tensor] = []
    class_of: list[int] = []
    position = 0
    for number, entry in enumerate(vocabulary.classes):
        count = 0 if entry.pictured else len(entry.phrases)
        own = spoken[position : position + count]
        position += count
        if entry.name in shown:
            own.append(torch.stack(shown[entry.name]).mean(0))
        if not own:
            raise UsageError(f"no picture shows the class {printable(entry.name)}")
        rows += own
        class_of += [number] * len(own)
    return TextFeatures(torch.stack(rows), torch.tensor(class_of, device=scorer.device))
