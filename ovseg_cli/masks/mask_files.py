"""Mask proposals that another program has written: label maps, or the JSON of COCO and SAM."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.json_files import read_json
from ovseg_cli.media.images import read_values

KINDS = (".png", ".json")
MOST = 4096  # masks of one photo; more than that are a picture of noise, not of regions
MOST_PIXELS = 30_000_000_000  # of all masks of a photo together: 600 of 50 megapixels
MOST_SEEN = 600_000_000  # the same at the network's size, where all are held at once, a byte each

Masks = tuple[int, Iterable[np.ndarray]]  # how many, and each at the photo's size


class MaskFiles:
    """The masks of photos in a folder, DIR/NAME.png or DIR/NAME.json for the photo NAME.jpg.

    Where photos come from several folders the masks may, too: of a/b/NAME.jpg the first of
    DIR/a/b/NAME, DIR/b/NAME and DIR/NAME counts.
    """

    def __init__(self, folder: Path) -> None:
        """Raises UsageError where there is no such folder."""
        if not os.path.isdir(folder):  # unlike Path's, False also for a name that is too long
            raise UsageError(f"--proposals file:{folder}: there is no such folder")
        self.folder = folder

    def __call__(self, frame: Frame, features: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        """Masks (Q, H, W) bool of that size. Raises InputError where they cannot be read."""
        file = self.find(Path(frame.source))
        read = _of_ids if file.suffix == ".png" else _of_json
        try:
            # One after the other: all of them at the photo's size may be too much for the memory.
            count, found = read(file, frame.size_hw)
            if not count:
                raise ValueError("there is no mask in it")
            _require_room(count, size_hw)
            masks = np.empty((count, *size_hw), bool)
            for place, mask in zip(masks, found, strict=True):
                place[:] = _resized(mask, size_hw)
        except InputError as error:
            raise InputError(f"the masks in {file} {error}") from error
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            OverflowError,
        ) as error:
            raise InputError(f"the masks in {file} cannot be read: {error!r}") from error
        return masks

    def find(self, photo: Path) -> Path:
        """The file of a photo's masks. Raises InputError where there is none."""
        # Without "..", which would lead out of the folder: to the photo itself, if it is a PNG.
        parts = [part for part in photo.parts if part not in (photo.anchor, "..")]
        for first in range(len(parts)):
            stem = Path(*parts[first:])
            for kind in KINDS:
                file = self.folder / stem.with_suffix(kind)
                if os.path.isfile(file) and not _is_same(file, photo):
                    return file
        raise InputError(
            f"{self.folder} holds no masks of {photo}: neither {photo.stem}.png nor .json"
        )


def _is_same(file: Path, photo: Path) -> bool:
    """Whether a photo lies where its masks are looked for, as where SAM's JSON stands beside it."""
    try:
        return os.path.samefile(file, photo)
    except (OSError, ValueError):  # the photo may come from elsewhere than the disk
        return False


def _of_ids(file: Path, size_hw: tuple[int, int]) -> Masks:
    """Of a picture of ids, 8 or 16 bits: each id but 0 is a mask."""
    try:
        ids = read_values(file)
    except InputError as error:
        raise ValueError(str(error)) from error
    if ids.ndim != 2:
        raise ValueError("it has several channels, not one with the ids")
    _require_size(ids.shape, size_hw)
    found = np.unique(ids)
    _require_few(len(found), size_hw)
    values = found[found != 0]
    return len(values), (ids == value for value in values)


def _of_json(file: Path, size_hw: tuple[int, int]) -> Masks:
    """Of a list of objects with a COCO run-length encoding, under "segmentation" or as they are."""
    entries = read_json(file)
    if isinstance(entries, dict):
        entries = entries["annotations"]
    _require_few(len(entries), size_hw)
    return len(entries), (_of_entry(entry, size_hw) for entry in entries)


def _of_entry(entry: Mapping[str, Any], size_hw: tuple[int, int]) -> np.ndarray:
    encoded = entry.get("segmentation", entry)
    _require_size(tuple(encoded["size"]), size_hw)  # before so much memory is taken
    return decode_run_lengths(encoded)


def _require_size(found: tuple[int, ...], size_hw: tuple[int, int]) -> None:
    if found != size_hw:
        height, width = found
        raise InputError(f"are {width}×{height} pixels, not {size_hw[1]}×{size_hw[0]} as the photo")


def _require_few(count: int, size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    most = min(MOST, MOST_PIXELS // (height * width))
    if count > most:
        raise InputError(f"are {count}, more than {most} for a photo of {width}×{height} pixels")


def _require_room(count: int, size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    most = MOST_SEEN // (height * width)
    if count > most:
        raise InputError(
            f"are {count}, more than {most} for a photo seen at {width}×{height} pixels: "
            "a smaller --size allows more"
        )


def decode_run_lengths(encoded: Mapping[str, Any]) -> np.ndarray:
    """COCO's {"size": [h, w], "counts": ...} as (h, w) bool; raises ValueError.

    The counts are lengths of runs in turn outside and inside the mask, column by column: a list,
    or a text of six bits a character, in which each from the third on is told by its difference to
    the one before the last.
    """
    height, width = encoded["size"]
    counts = encoded["counts"]
    runs = np.array(_unpacked(counts) if isinstance(counts, str) else counts, np.int64)
    if runs.ndim != 1 or ((runs < 0) | (runs > height * width)).any():
        raise ValueError("its counts are no runs of pixels")
    if runs.sum() != height * width:
        raise ValueError(f"runs of {runs.sum()} pixels in a mask of {width}×{height}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _unpacked(text: str) -> list[int]:
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if shift > 60:
            raise ValueError("a run of its counts is too long")
        if bits & 0x20:  # more of this number follows
            continue
        if bits & 0x10:  # a negative one
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs


def _resized(mask: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    if mask.shape == size_hw:
        return mask
    if not mask.flags.c_contiguous:  # of run lengths; to turn all of it would take most of the time
        return _resized(mask.T, size_hw[::-1]).T
    picture = Image.fromarray(mask.view(np.uint8)).resize(size_hw[::-1], Image.Resampling.NEAREST)
    return np.asarray(picture).astype(bool)
