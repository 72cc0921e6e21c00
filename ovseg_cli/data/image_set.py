"""Small pictures with one class each, in tar shards: KEY.webp followed by KEY.cls."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg_cli.errors import UsageError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """All pictures of some shards, in memory."""

    images: np.ndarray  # (n, S, S, 3) uint8 RGB
    classes: np.ndarray  # (n,) int64
    names: tuple[tuple[str, ...], ...]  # synonyms of each class


def read_image_set(root: Path, split: str) -> ImageSet:
    """Read every `SPLIT-*.tar.gz` of `root`; raises UsageError where there is none."""
    shards = sorted(root.glob(f"{split}-*.tar.gz"))
    if not shards:
        raise UsageError(f"{root} holds no shard named {split}-*.tar.gz")
    try:
        table = json.loads((root / "classes.json").read_text("utf-8"))
        names = tuple(tuple(table[str(index)]["names"]) for index in range(len(table)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{root / 'classes.json'} must map 0, 1, ... to objects with 'names': {error!r}"
        ) from error
    images, classes = [], []
    for path in shards:
        with tarfile.open(path, "r:gz") as shard:
            for member in shard:
                stream = shard.extractfile(member)
                if stream is None:
                    continue
                if member.name.endswith(".cls"):
                    classes.append(int(stream.read()))
                else:
                    with Image.open(io.BytesIO(stream.read())) as picture:
                        images.append(np.asarray(picture.convert("RGB")))
    if not images or len(images) != len(classes) or not set(classes) <= set(range(len(names))):
        raise UsageError(
            f"{root}: the shards hold {len(images)} pictures and {len(classes)} class indices, "
            f"and classes.json {len(names)} classes"
        )
    return ImageSet(np.stack(images), np.array(classes, np.int64), names)
