"""Text features on disk: a vocabulary is encoded once for a model, not once a run."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
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

SUFFIX = ".safetensors"
KEPT_BYTES = 200_000_000  # of all vocabularies together; then those go that were made first


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
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
    path = folder / f"{digest}{SUFFIX}"
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
        _make_room(path.parent)
    except (OutputError, OSError) as error:
        log.info("text features are not kept: %s", error)


def _make_room(folder: Path) -> None:
    """Remove the oldest files beyond KEPT_BYTES: a service may be asked for ever new names."""
    files = []
    for entry in os.scandir(folder):
        if entry.name.endswith(SUFFIX):
            with suppress(OSError):  # another process makes room, too
                files.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
    kept = 0
    for _, size, path in sorted(files, reverse=True):
        kept += size
        if kept > KEPT_BYTES:
            with suppress(OSError):  # somebody else's, or on Windows in use
                os.unlink(path)
