"""Text features on disk: a vocabulary is encoded once for a model, not once a run."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ovseg_cli.errors import OutputError
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.whole_files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

    from ovseg_cli.model.network import TextFeatures
    from ovseg_cli.model.prompts import TextEncoder

log = logging.getLogger(__name__)


def text_features(
    encoder: TextEncoder, vocabulary: Vocabulary, checksum: str, folder: Path
) -> TextFeatures:
    """The features of a vocabulary, from `folder` where they are there, else kept there.

    checksum: of the model that `encoder` belongs to. A cache that cannot be read or written is
    no error: the features are computed then. Raises VocabularyError for a name that is too long.
    """
    import torch

    from ovseg_cli.model.network import TextFeatures

    phrases = [phrase for entry in vocabulary.classes for phrase in entry.phrases]
    identity = json.dumps([checksum, vocabulary.templates, phrases])
    path = (
        folder
        / f"{hashlib.sha256(identity.encode('utf-8', 'surrogatepass')).hexdigest()}.safetensors"
    )
    features = _read(path, len(phrases))
    if features is None:
        with torch.inference_mode():
            features = encoder.encode(phrases, vocabulary.templates).float().cpu()
        _write(path, features)
    counts = [len(entry.phrases) for entry in vocabulary.classes]
    class_of = None
    if max(counts) > 1:
        class_of = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return TextFeatures(features, class_of)


def _read(path: Path, phrases: int) -> Tensor | None:
    from safetensors.torch import load_file

    try:
        features = load_file(path)["features"]
    except Exception as error:  # whatever is wrong with it, it can be made again
        log.debug("no cached text features in %s: %s", path, error)
        return None
    return features if features.ndim == 2 and len(features) == phrases else None


def _write(path: Path, features: Tensor) -> None:
    from safetensors.torch import save

    try:
        with atomic_path(path) as partial:
            partial.write_bytes(save({"features": features.contiguous()}))
    except OutputError as error:
        log.info("text features are not kept: %s", error)
