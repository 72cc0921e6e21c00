"""Small pictures with one class each: tar shards of KEY.webp and KEY.cls, or cut out of photos."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovseg_cli.data.pixel_set import PixelSet
from ovseg_cli.data.transforms import square_around
from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.json_files import once, read_json
from ovseg_cli.media.images import read_values

# What shards may unpack to, in bytes: pictures are hardly smaller than this share of their pixels.
UNPACKED, RATIO = 64_000_000, 300


@dataclass(frozen=True, eq=False)
class ImageSet:
    """All pictures of some shards, in memory."""

    images: np.ndarray  # (n, S, S, 3) uint8 RGB
    classes: np.ndarray  # (n,) int64
    names: tuple[tuple[str, ...], ...]  # synonyms of each class


def read_image_set(root: Path, split: str) -> ImageSet:
    """Read every `SPLIT-*.tar.gz` of `root`; raises UsageError where there is none."""
    shards, names = _listed(root, split)
    images: list[np.ndarray] = []
    classes: list[int] = []
    size: tuple[int, ...] = ()
    room = UNPACKED + RATIO * sum(path.stat().st_size for path in shards)
    for path in shards:
        try:
            pictures: dict[str, np.ndarray] = {}
            numbers: dict[str, int] = {}
            for name, content in _members(path):
                key, _, suffix = name.rpartition(".")
                if key in (numbers if suffix == "cls" else pictures):
                    raise ValueError(f"it holds {name} twice, or two pictures of that key")
                if suffix == "cls":
                    numbers[key] = int(content)
                    continue
                pictures[key] = read_values(io.BytesIO(content), "RGB")
                size = size or pictures[key].shape
                room -= pictures[key].nbytes
                if room < 0 or pictures[key].shape != size:
                    raise ValueError("its pictures are far larger than it, or not of one size")
            _require_pairs(pictures.keys(), numbers.keys())
            images += pictures.values()
            classes += [numbers[key] for key in pictures]
        except (OSError, ValueError, EOFError, zlib.error, tarfile.TarError, InputError) as error:
            raise UsageError(f"{path} is no shard of small pictures: {error}") from error
    if not images or not set(classes) <= set(range(len(names))):
        raise UsageError(
            f"{root}: the shards hold {len(images)} pictures and {len(classes)} class indices, "
            f"and classes.json {len(names)} classes"
        )
    return ImageSet(np.stack(images), np.array(classes, np.int64), names)


def contents(root: Path, split: str) -> list[Any]:
    """What tells a set from others, its shards not unpacked: plain values. Raises UsageError."""
    shards, names = _listed(root, split)
    return [names, [(path.name, path.stat().st_size) for path in shards]]


def _listed(root: Path, split: str) -> tuple[list[Path], tuple[tuple[str, ...], ...]]:
    """The shards of a split, and the synonyms of each class."""
    shards = sorted(root.glob(f"{split}-*.tar.gz"))
    if not shards:
        raise UsageError(f"{root} holds no shard named {split}-*.tar.gz")
    try:
        table = read_json(root / "classes.json", once)
        names = tuple(names_of(table[str(index)]) for index in range(len(table)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{root / 'classes.json'} must map 0, 1, ... to objects with 'names', text or a list: "
            f"{error!r}"
        ) from error
    return shards, names


def names_of(entry: Any) -> tuple[str, ...]:
    """A class's synonyms, the first of them its name; `entry`: what classes.json has for it.

    Raises LookupError, TypeError or ValueError for what has none.
    """
    given = entry["names"]
    names = (given,) if isinstance(given, str) else tuple(given)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{given!r:.40} are no names")
    return names


def _require_pairs(pictures: Set[str], numbers: Set[str]) -> None:
    """Raise ValueError for a key of a shard that lacks its picture or its class."""
    halves = sorted(pictures ^ numbers)
    if halves:
        lacking = ".cls" if halves[0] in pictures else "picture"
        raise ValueError(
            f"{len(pictures)} pictures and {len(numbers)} class indices: {halves[0]} lacks its "
            f"{lacking}; add it, or leave {halves[0]} out"
        )


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file in a shard, none of which unpacks to far more than the shard.

    Links are passed over: nothing is read but what lies in the shard.
    """
    room = UNPACKED + RATIO * path.stat().st_size
    with tarfile.open(path, "r:gz") as shard:
        for member in shard:
            room -= member.size
            if room < 0:
                raise ValueError(f"it would unpack to more than {member.size / 1e6:.0f} MB")
            stream = shard.extractfile(member) if member.isfile() else None
            if stream is not None:
                yield member.name, stream.read()


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
            if mask.any() and mask.mean() >= least:
                images.append(square_around(image, mask, side))
                classes.append(number)
    if not images:
        raise UsageError(f"{data.name}: no class covers {least:.0%} of a photo")
    names = tuple((name,) for name in data.names)
    return ImageSet(np.stack(images), np.array(classes, np.int64), names)
