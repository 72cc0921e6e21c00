"""Mask proposals that another program has written: label maps, or the JSON of COCO and SAM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.frame import Frame

KINDS = (".png", ".json")


class MaskFiles:
    """The masks of photos in a folder, DIR/NAME.png or DIR/NAME.json for the photo NAME.jpg.

    Where photos come from several folders the masks may, too: of a/b/NAME.jpg the first of
    DIR/a/b/NAME, DIR/b/NAME and DIR/NAME counts.
    """

    def __init__(self, folder: Path) -> None:
        """Raises UsageError where there is no such folder."""
        if not folder.is_dir():
            raise UsageError(f"--proposals file:{folder}: there is no such folder")
        self.folder = folder

    def __call__(self, frame: Frame, features: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        """Masks (Q, H, W) bool of that size. Raises InputError where they cannot be read."""
        file = self.find(Path(frame.source))
        try:
            masks = _read_ids(file) if file.suffix == ".png" else _read_json(file)
        except (OSError, ValueError, KeyError, TypeError, SyntaxError) as error:
            raise InputError(f"the masks in {file} cannot be read: {error!r}") from error
        if masks.shape[1:] != frame.size_hw:
            height, width = masks.shape[1:]
            raise InputError(
                f"the masks in {file} are {width}×{height} pixels, not "
                f"{frame.size_hw[1]}×{frame.size_hw[0]} as the photo"
            )
        return np.stack([_resized(mask, size_hw) for mask in masks])

    def find(self, photo: Path) -> Path:
        """The file of a photo's masks. Raises InputError where there is none."""
        stems = [
            Path(*photo.parts[first:]) for first in range(photo.is_absolute(), len(photo.parts))
        ]
        for stem in stems:
            for kind in KINDS:
                file = self.folder / stem.with_suffix(kind)
                if file.is_file():
                    return file
        raise InputError(
            f"{self.folder} holds no masks of {photo}: neither {photo.stem}.png nor .json"
        )


def _read_ids(file: Path) -> np.ndarray:
    """A picture of ids, 8 or 16 bits: each id but 0 is a mask."""
    with Image.open(file) as picture:
        ids = np.asarray(picture)
    if ids.ndim != 2:
        raise ValueError("it has several channels, not one with the ids")
    found = np.unique(ids)
    return _some(ids == found[found != 0][:, None, None])


def _read_json(file: Path) -> np.ndarray:
    """A list of objects with a COCO run-length encoding, under "segmentation" or by themselves."""
    entries = json.loads(file.read_text("utf-8"))
    if isinstance(entries, dict):
        entries = entries["annotations"]
    masks = [decode_run_lengths(entry.get("segmentation", entry)) for entry in entries]
    return _some(np.stack(masks) if masks else np.zeros((0, 1, 1), bool))


def _some(masks: np.ndarray) -> np.ndarray:
    if len(masks) == 0:
        raise ValueError("there is no mask in it")
    return masks


def decode_run_lengths(encoded: dict[str, Any]) -> np.ndarray:
    """COCO's {"size": [h, w], "counts": ...} as (h, w) bool.

    The counts are lengths of runs in turn outside and inside the mask, column by column: a list,
    or a text of six bits a character, in which each from the third on is told by its difference to
    the one before the last.
    """
    height, width = encoded["size"]
    counts = encoded["counts"]
    runs = np.array(_unpacked(counts) if isinstance(counts, str) else counts, np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
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
    picture = Image.fromarray(mask.astype(np.uint8)).resize(size_hw[::-1], Image.Resampling.NEAREST)
    return np.asarray(picture).astype(bool)
