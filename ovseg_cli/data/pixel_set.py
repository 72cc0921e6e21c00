"""Photos with a class id per pixel; our own layout: images/KEY.*, labels/KEY.png, SPLIT.txt and
classes.json.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.json_files import read_json
from ovseg_cli.media.images import read_values

IGNORE = 255  # label of a pixel that counts neither in training nor in scores
IGNORE_16 = 65535  # the same in sets of 255 classes and more
BACKGROUND = "background"  # the class name that means "none of this set's names"


def _own_files(root: Path, key: str) -> tuple[Path, Path]:
    return _photo(root / "images", key), root / "labels" / f"{key}.png"


def read_ids(file: Path) -> np.ndarray:
    """A label map of one channel, 8 or 16 bits: (H, W). Raises UsageError for any other."""
    stored = _read(file)
    if stored.ndim != 2 or stored.dtype == bool:
        raise UsageError(f"{file}: the label map is not one of 8 or 16 bits a pixel")
    return stored


def read_colours(file: Path) -> np.ndarray:
    """A picture's colours: (H, W, 3) uint8 RGB. Raises UsageError where it cannot be read."""
    return _read(file, "RGB")


@dataclass(frozen=True)
class PixelSet:
    """One split of a labelled data set. Background is no class: see `load`."""

    name: str
    root: Path
    keys: tuple[str, ...]
    names: tuple[str, ...]  # the classes without background; position = training id
    ids: tuple[int, ...]  # their ids in the label files
    other_ids: tuple[int, ...]  # in the label files: pixels of none of `names`
    files: Callable[[Path, str], tuple[Path, Path]] = _own_files  # root, key -> photo, label map
    stored: Callable[[Path], np.ndarray] = read_ids  # label map -> ids (H, W)

    @property
    def other(self) -> int:
        """Training id of pixels that belong to none of `names`."""
        return len(self.names)

    @property
    def has_other(self) -> bool:
        """Whether there are pixels that belong to none of `names`."""
        return bool(self.other_ids)

    def only(self, names: Sequence[str]) -> PixelSet:
        """The same photos with these names alone; pixels of all others belong to none of them.

        Raises UsageError for a name that the set does not have.
        """
        kept = [self.ids[position] for position in self.positions(names)]
        rest = tuple(number for number in self.ids if number not in kept)
        return replace(
            self, names=tuple(names), ids=tuple(kept), other_ids=(*self.other_ids, *rest)
        )

    def positions(self, names: Iterable[str]) -> list[int]:
        """Where these names stand in `names`; raises UsageError for one that does not."""
        strangers = [name for name in names if name not in self.names]
        if strangers:
            known = ", ".join(self.names)
            raise UsageError(f"{self.name} has no class {strangers[0]!r}; it has {known}")
        return [self.names.index(name) for name in names]

    def load(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Photo (H, W, 3) uint8 RGB and labels (H, W) uint8, or uint16 in sets of many classes.

        A label is a position in `names`, `other` for background, or `ignore`.
        """
        image, stored = self.load_stored(key)
        return image, self.labels_of(stored)

    def load_stored(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Photo (H, W, 3) uint8 RGB and ids (H, W) as its label file has them."""
        photo, labels = self.files(self.root, key)
        image, stored = read_colours(photo), self.stored(labels)
        if stored.shape != image.shape[:2]:
            raise UsageError(
                f"{self.name}/{key}: the label map is {stored.shape}, the photo {image.shape[:2]}"
            )
        return image, stored

    def labels_of(self, stored: np.ndarray) -> np.ndarray:
        """Labels, as of `load`, for ids as the set's label files have them."""
        return self._lookup().take(stored, mode="clip")

    def strangers(self, stored: np.ndarray) -> set[int]:
        """Ids in a label file that are no class's and not IGNORE: they count nowhere.

        In the layouts of benchmarks they are meant so: there are none to be told of.
        """
        if self.files is not _own_files:
            return set()
        found = np.flatnonzero(np.bincount(stored.ravel())).tolist()
        return set(found).difference(self.ids, self.other_ids, (IGNORE,))

    @property
    def ignore(self) -> int:
        """Label of pixels that do not count."""
        return IGNORE if self.other < IGNORE else IGNORE_16

    def _lookup(self) -> np.ndarray:
        """From ids to labels; the last entry is for all ids beyond."""
        kind = np.uint8 if self.ignore == IGNORE else np.uint16
        table = np.full(max(*self.ids, *self.other_ids, 0) + 2, self.ignore, kind)
        table[list(self.ids)] = np.arange(len(self.ids), dtype=kind)
        table[list(self.other_ids)] = self.other
        return table


def read_pixel_set(root: Path, split: str) -> PixelSet:
    """Read the lists of one split; raises UsageError where the layout is not as expected."""
    try:
        classes = read_json(root / "classes.json")
        by_id = {int(number): str(name) for number, name in classes.items()}
        lines = (root / f"{split}.txt").read_text("utf-8").splitlines()
    except (OSError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise UsageError(
            f"{root} is not a labelled data set (classes.json, {split}.txt, images/, labels/): "
            f"{error}"
        ) from error
    keys = tuple(line.strip() for line in lines if line.strip())
    if not keys:
        raise UsageError(f"{root / split}.txt names no photo")
    if any(not 0 <= number < IGNORE for number in by_id):
        raise UsageError(f"{root}: a class id is not in 0..{IGNORE - 1}, as 8-bit label maps have")
    background = [number for number, name in by_id.items() if name == BACKGROUND]
    named = sorted(number for number in by_id if number not in background)
    if len(named) >= IGNORE:
        raise UsageError(f"{root}: {len(named)} classes do not fit 8-bit label maps")
    return PixelSet(
        name=root.name,
        root=root,
        keys=keys,
        names=tuple(by_id[number] for number in named),
        ids=tuple(named),
        other_ids=tuple(background),
    )


def _photo(folder: Path, key: str) -> Path:
    for suffix in (".jpg", ".png", ".jpeg", ".webp"):
        path = folder / f"{key}{suffix}"
        if os.path.exists(path):  # Path.exists raises for names that are too long
            return path
    raise UsageError(f"{folder} has no photo named {key}.jpg (nor .png, .jpeg, .webp)")


def _read(path: Path, mode: str | None = None) -> np.ndarray:
    """A picture's pixels, converted to `mode` if given; a palette's indices otherwise."""
    try:
        return read_values(path, mode)
    except InputError as error:  # missing or damaged
        raise UsageError(f"{path} cannot be read: {error}") from error
