"""Small pictures with one class each: tar shards of KEY.webp and KEY.cls, or cut out of photos."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg_cli.data.pixel_set import PixelSet
from ovseg_cli.data.transforms import square_around
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


def cut_out_set(data: PixelSet, side: int, least: float) -> ImageSet:
    """What a labelled set's photos show of each class, as pictures of side×side pixels.

    A picture is the smallest square around a class's pixels, its surroundings included; least:
    share of the photo that the class must cover. Raises UsageError where nothing does.
    """
    images, classes = [], []
    for key in data.keys:
        image, labels = data.load(key)
        for number in range(len(data.names)):
            mask = labels == number
            if mask.mean() >= least:
                images.append(square_around(image, mask, side))
                classes.append(number)
    if not images:
        raise UsageError(f"{data.name}: no class covers {least:.0%} of a photo")
    names = tuple((name,) for name in data.names)
    return ImageSet(np.stack(images), np.array(classes, np.int64), names)
