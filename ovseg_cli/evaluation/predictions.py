"""Label maps that any program made, to be scored without a model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ovseg_cli.data.pixel_set import IGNORE, IGNORE_16, PixelSet, read_ids, some_of
from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.segmentation import UNLABELED


class PredictionFiles:
    """FOLDER/KEY.png for every photo of a set: a `Predict` of `evaluation.run`.

    A file is a PNG of 8 or 16 bits a pixel (a palette's indices count), as large as the photo.
    Its values are positions in the names of `whole`, the number of names being background where
    that has it, as `ovseg segment` writes them; or with `own_ids` those of the set's own label
    files. What is a class of `whole` but not of `data` is none of its names.
    255, and in files of 16 bits 65535, is unlabelled; with own_ids every value that is no class.
    Where photos are called otherwise than their keys, as in Cityscapes, a file may be called as its
    photo is: that, too, is how `ovseg segment` writes it.
    """

    def __init__(
        self,
        folder: Path,
        data: PixelSet,
        *,
        own_ids: bool = False,
        whole: PixelSet | None = None,
    ) -> None:
        """Raises UsageError that names the files that are missing.

        whole: the set with all its names, where `data` has some of them alone; else `data`.
        """
        self.folder = folder
        self.data = data
        self.own_ids = own_ids
        whole = data if whole is None else whole
        background = [data.other] if whole.has_other else []
        # Position in the names of `whole` -> label, an index of `data.names` or `data.other`.
        self._labels = np.array([*data.labels_of(np.array(whole.ids)), *background], np.int32)
        missing = [f"{key}.png" for key in data.keys if not os.path.isfile(self._file(key))]
        if missing:
            raise UsageError(
                f"{folder} lacks {len(missing)} of {len(data.keys)} label maps: {some_of(missing)}"
            )

    def _file(self, key: str) -> Path:
        file = self.folder / f"{key}.png"
        if os.path.isfile(file):
            return file
        return file.parent / f"{self.data.photo_stem(key)}.png"

    def __call__(self, key: str, image: np.ndarray) -> tuple[np.ndarray, None]:
        """The labels (H, W) int32 of one photo (H, W, 3).

        Raises InputError for a file that cannot be read or of another size, UsageError for one
        with a strange value: then --prediction-ids are wrong for all.
        """
        file = self._file(key)
        stored = read_ids(file)
        if stored.shape != image.shape[:2]:
            height, width = image.shape[:2]
            raise InputError(
                f"{file} is {stored.shape[1]}×{stored.shape[0]} pixels, its photo {width}×{height}"
            )
        if self.own_ids:
            known = self.data.labels_of(stored).astype(np.int32)
            return np.where(known == self.data.ignore, np.int32(UNLABELED), known), None
        return self._positions(file, stored), None

    def _positions(self, file: Path, stored: np.ndarray) -> np.ndarray:
        classes = len(self._labels)
        labels = stored.astype(np.int32)
        unlabelled = labels == (IGNORE if stored.dtype == np.uint8 else IGNORE_16)
        if classes <= IGNORE:  # else 255 is a class in files of 16 bits
            unlabelled |= labels == IGNORE
        strange = labels[~unlabelled & (labels >= classes)]
        if strange.size:
            raise UsageError(
                f"{file} has the value {strange[0]}: a class is its position, 0 to {classes - 1}"
            )
        return np.where(unlabelled, np.int32(UNLABELED), self._labels.take(labels, mode="clip"))
