"""Photos with a class id per pixel; our own layout: images/KEY.*, labels/KEY.png, SPLIT.txt and
classes.json.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ovseg_cli.data.class_ids import names_by_id
from ovseg_cli.data.own_layout import OTHER_SUFFIXES, SUFFIXES, own_files, places
from ovseg_cli.errors import InputError, UsageError, VocabularyError
from ovseg_cli.json_files import read_bounded
from ovseg_cli.media.images import read_image, read_values
from ovseg_cli.printable import some_of
from ovseg_cli.segmentation import percentage
from ovseg_cli.vocabulary import Vocabulary, comparable

IGNORE = 255  # label of a pixel that counts neither in training nor in scores
IGNORE_16 = 65535  # the same in sets of 255 classes and more
BACKGROUND = "background"  # the class name that means "none of this set's names"
_LONGEST_LIST = 100_000_000  # bytes of a list of photos; two million long names are that many


def read_ids(file: Path) -> np.ndarray:
    """A label map of one channel, 1 to 16 bits: (H, W). Raises InputError for any other."""
    return checked_ids(_read(file), file)


def checked_ids(stored: np.ndarray, file: Path) -> np.ndarray:
    """The ids of a label map (H, W), uint8 or uint16; raises InputError for what is none.

    Whole numbers of more bits are taken where they all fit 16: older Pillows read PNG so.
    """
    if stored.ndim == 3:
        kind = {2: " (grey and transparency)", 3: " (such as RGB)", 4: " (such as RGBA)"}
        channels = stored.shape[2]
        raise InputError(
            f"{file}: the label map holds colours, {channels} values a pixel"
            f"{kind.get(channels, '')}, where the id of a class is asked for: save it as a "
            "greyscale or palette PNG of 8 or 16 bits with the ids as values"
        )
    if stored.ndim != 2 or stored.dtype.kind not in "ui":
        raise InputError(f"{file}: the label map is not one of 8 or 16 bits a pixel")
    if stored.dtype == np.uint8:
        return stored
    if stored.size and not 0 <= stored.min() <= stored.max() <= IGNORE_16:
        raise InputError(
            f"{file}: the label map has values from {stored.min()} to {stored.max()}, not of 0 to "
            f"{IGNORE_16}: save it with 8 or 16 bits a pixel"
        )
    return stored.astype(np.uint16, copy=False)


def read_colours(file: Path) -> np.ndarray:
    """A picture's colours as stored: (H, W, 3) uint8 RGB. Raises InputError."""
    return _read(file, "RGB")


def _read_upright(file: Path, size_hw: tuple[int, int]) -> np.ndarray:
    """A photo's colours (H, W, 3) uint8 as `ovseg segment` sees it, upright after its EXIF data.

    size_hw: of its label map; where only the photo as stored has that size, it is not turned,
    since its labels were not either. Raises InputError.
    """
    upright = read_image(file).pixels
    if upright.shape[:2] == size_hw or upright.shape[1::-1] != size_hw:
        return upright
    stored = read_image(file, exif=False).pixels
    return stored if stored.shape[:2] == size_hw else upright


def unknown_ids(name: str, pixels: int, strangers: Mapping[int, int]) -> str:
    """What to warn of where label files hold ids of no class; empty for nothing.

    pixels: how many of the set `name` count; strangers: id -> pixels, as of `PixelSet.strangers`.
    Raises UsageError where none counts.
    """
    ids = some_of([str(number) for number in sorted(strangers)])
    if not pixels:
        reason = f"no id in its labels ({ids}) is in classes.json" if ids else "all are ignored"
        raise UsageError(f"{name}: no pixel counts: {reason}")
    if not ids:
        return ""
    left_out = sum(strangers.values())
    share = percentage(left_out / (left_out + pixels))
    return (
        f"{name}: labels hold ids that are not in classes.json ({ids}): such pixels, {share} of "
        "those that are not ignored, are left out, as those of 255 are"
    )


@dataclass(frozen=True)
class PixelSet:
    """One split of a labelled data set. Background is no class: see `load`."""

    name: str
    root: Path
    keys: tuple[str, ...]
    names: tuple[str, ...]  # the classes without background; position = training id
    ids: tuple[int, ...]  # their ids in the label files
    other_ids: tuple[int, ...]  # in the label files: pixels of none of `names`
    files: Callable[[Path, str], tuple[Path, Path]] = own_files  # root, key -> photo, label map
    stored: Callable[[Path], np.ndarray] = read_ids  # label map -> ids (H, W)

    @property
    def other(self) -> int:
        """Training id of pixels that belong to none of `names`."""
        return len(self.names)

    @property
    def has_other(self) -> bool:
        """Whether there are pixels that belong to none of `names`."""
        return bool(self.other_ids)

    @property
    def contents(self) -> list[Any]:
        """What tells it from other sets, its photos unread: plain values."""
        return [self.names, self.ids, self.other_ids, self.keys]

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

        A label is a position in `names`, `other` for background, or `ignore`. Raises as
        `load_stored` does.
        """
        image, stored = self.load_stored(key)
        return image, self.labels_of(stored)

    def load_stored(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Photo (H, W, 3) uint8 RGB and ids (H, W) as its label file has them.

        Photos in the own layout are upright, see `_read_upright`; those of benchmarks are as they
        are stored, as their labels are. Raises UsageError where there is no photo, InputError where
        one of the two cannot be read or they differ in size.
        """
        photo, labels = self.files(self.root, key)
        stored = self.stored(labels)
        height, width = stored.shape
        image = _read_upright(photo, (height, width)) if self._is_own else read_colours(photo)
        if stored.shape != image.shape[:2]:
            raise InputError(
                f"{self.name}: {labels} has {width}×{height} pixels and {photo} "
                f"{image.shape[1]}×{image.shape[0]}: they must be of one size; save one of them "
                f"anew, or take {key} off the list"
            )
        return image, stored

    def stored_labels(self, key: str) -> np.ndarray:
        """The ids alone, as of `load_stored`, wherever the photo may be. Raises InputError."""
        return self.stored(self._places(key)[1])

    def photo_stem(self, key: str) -> str:
        """How the file of a photo is called, without what follows its last dot."""
        return PurePath(key).name if self._is_own else self.files(self.root, key)[0].stem

    def require_files(self) -> None:
        """Raise UsageError that names what is listed but has no photo or no label map."""
        missing = [self._missing(key) for key in self.keys]
        photos = [photo for photo, _ in missing if photo]
        maps = [label_map for _, label_map in missing if label_map]
        if not photos and not maps:
            return
        count = len(self.keys)
        kinds = [
            f"the {kind} of {len(files)} of {count} that are listed: {some_of(files)}{others}"
            for kind, files, others in (
                ("photo", photos, f" (nor {OTHER_SUFFIXES})" if self._is_own else ""),
                ("label map", maps, ""),
            )
            if files
        ]
        remedy = "Add them, or take them off the list"
        for key, (photo, _) in zip(self.keys, missing, strict=True):
            if photo and PurePath(key).suffix.lower() in SUFFIXES:
                bare = PurePath(key).with_suffix("")
                remedy = f"The list has keys, without suffixes: {bare}, not {key}"
                break
        raise UsageError(f"{self.name} lacks {'; and '.join(kinds)}. {remedy}")

    def _missing(self, key: str) -> tuple[str, str]:
        """Which photo and which label map are looked for but not there; empty for those that are.

        Below the set's folder, as a message names them.
        """
        photo, label_map = (
            "" if os.path.isfile(file) else os.path.relpath(file, self.root)
            for file in self._places(key)
        )
        return photo, label_map

    def _places(self, key: str) -> tuple[Path, Path]:
        """Where photo and label map of a key are, or would be."""
        return (places if self._is_own else self.files)(self.root, key)

    @property
    def _is_own(self) -> bool:
        """Whether it is in our own layout, not in that of a benchmark."""
        return self.files is own_files

    def labels_of(self, stored: np.ndarray) -> np.ndarray:
        """Labels, as of `load`, for ids as the set's label files have them."""
        return self._lookup().take(stored, mode="clip")

    def strangers(self, stored: np.ndarray) -> Counter[int]:
        """Pixels by ids in a label file that are no class's and do not mean ignored.

        They count nowhere. In the layouts of benchmarks they are meant so: there are none to be
        told of.
        """
        if not self._is_own:
            return Counter()
        pixels = np.bincount(stored.ravel())
        known = {*self.ids, *self.other_ids, IGNORE, IGNORE_16}
        found = set(np.flatnonzero(pixels).tolist()) - known
        return Counter({number: int(pixels[number]) for number in found})

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
        by_id = names_by_id(root / "classes.json")
        keys = read_lines(root / f"{split}.txt")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{root} is not a labelled data set (classes.json, {split}.txt, images/, labels/): "
            f"{error}"
        ) from error
    if not keys:
        raise UsageError(f"{root / split}.txt names no photo")
    refuse_repeated(keys, f"{root / split}.txt")
    if any(not 0 <= number < IGNORE for number in by_id):
        raise UsageError(f"{root}: a class id is not in 0..{IGNORE - 1}, as 8-bit label maps have")
    background = [number for number, name in by_id.items() if comparable(name) == BACKGROUND]
    named = sorted(number for number in by_id if number not in background)
    if len(named) >= IGNORE:
        raise UsageError(f"{root}: {len(named)} classes do not fit 8-bit label maps")
    try:
        Vocabulary(by_id[number] for number in named)
    except VocabularyError as error:  # no name, a blank one, one twice: nothing could tell them
        raise UsageError(f"{root / 'classes.json'}: {error}") from error
    return PixelSet(
        name=Path(os.path.abspath(root)).name,  # of ".", too
        root=root,
        keys=keys,
        names=tuple(by_id[number] for number in named),
        ids=tuple(named),
        other_ids=tuple(background),
    )


def refuse_repeated(keys: Iterable[str], where: str) -> None:
    """Raise UsageError for photos that `where` names more than once."""
    repeated = [key for key, count in Counter(keys).items() if count > 1]
    if repeated:
        raise UsageError(
            f"{where} names photos more than once, which would count as often: "
            f"{some_of(repeated)}. Leave each once"
        )


def named_set(data: Path, name: str, split: str) -> PixelSet:
    """One split of the set in `data/name`, which is called so: folders may share their last part.

    Raises UsageError as `read_pixel_set` does, and where a photo or a label map is missing.
    """
    found = replace(read_pixel_set(data / name, split), name=name)
    found.require_files()
    return found


def read_lines(file: Path) -> tuple[str, ...]:
    """The lines of a list in UTF-8 that are not blank. Raises OSError and UnicodeDecodeError."""
    try:
        content = read_bounded(file, _LONGEST_LIST)
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error), str(file)) from error
    lines = content.decode("utf-8-sig").splitlines()  # as editors on Windows begin it
    return tuple(line.strip() for line in lines if line.strip())


def _read(path: Path, mode: str | None = None) -> np.ndarray:
    """A picture's pixels, converted to `mode` if given; a palette's indices otherwise."""
    try:
        return read_values(path, mode)
    except InputError as error:  # missing or damaged
        raise InputError(f"{path} cannot be read: {error}") from error
