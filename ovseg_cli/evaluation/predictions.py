"""Label maps that any program made, to be scored without a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ovseg_cli.data.pixel_set import IGNORE, IGNORE_16, PixelSet, read_ids
from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.evaluation.written_names import labels_of_names, written_names
from ovseg_cli.printable import some_of
from ovseg_cli.segmentation import UNLABELED, percentage

_CLEARLY = 0.3  # share of right pixels that no wrong reading of the values is likely to give


class PredictionFiles:
    """FOLDER/KEY.png for every photo of a set: a `Predict` of `evaluation.run`.

    A file is a PNG of 1 to 16 bits a pixel (a palette's indices count), as large as the photo.
    What its values mean says `ids`:
    - "names": positions in the names that the file has itself, as `ovseg segment` leaves them
      there; in a file without them as "position".
    - "position": positions in the names of `whole`, their number being background where it has
      that.
    - "file": as in the set's own label files.
    What is a class of `whole` but not of `data` is none of its names. 255, and in files of 16 bits
    65535, is unlabelled; with "file" every value that is no class.
    Where photos are called otherwise than their keys, as in Cityscapes, a file may be called as its
    photo is: that, too, is how `ovseg segment` writes it.
    """

    def __init__(
        self,
        folder: Path,
        data: PixelSet,
        *,
        ids: str = "names",
        whole: PixelSet | None = None,
    ) -> None:
        """Raises UsageError that names the files that are missing.

        whole: the set with all its names, where `data` has some of them alone; else `data`.
        """
        self.folder = folder
        self.data = data
        self.ids = ids
        self.whole = data if whole is None else whole
        self._by_position = False  # whether some file was read so without being told to
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
        with a strange value or other names than the set: then --prediction-ids are wrong for all.
        """
        file = self._file(key)
        stored = read_ids(file)
        if stored.shape != image.shape[:2]:
            height, width = image.shape[:2]
            raise InputError(
                f"{file} is {stored.shape[1]}×{stored.shape[0]} pixels, its photo {width}×{height}"
            )
        if self.ids == "file":
            known = self.data.labels_of(stored).astype(np.int32)
            return np.where(known == self.data.ignore, np.int32(UNLABELED), known), None
        names = written_names(file) if self.ids == "names" else None
        if names is None:
            self._by_position = self.ids == "names"
            return self._positions(file, stored, self._labels_of_positions()), None
        table = labels_of_names(file, names, self.data, self.whole)
        return self._positions(file, stored, table), None

    def doubt(self, counts: np.ndarray) -> str:
        """What to warn of where the values look like the ids of the set's own files; or nothing.

        counts: of the confusion matrix over all photos (classes, classes + 1). A column there is a
        position, which as an id would be of the class whose row it is to be compared with. What
        counts as background is left out, as files may have several values for it: at least so
        much would be right.
        """
        if not self._by_position or self.data is not self.whole or not counts.any():
            return ""
        columns = np.arange(len(self.data.names))
        rows = self.data.labels_of(columns)
        columns, rows = columns[rows < len(counts)], rows[rows < len(counts)]
        right, as_ids = np.trace(counts) / counts.sum(), counts[rows, columns].sum() / counts.sum()
        if as_ids <= max(_CLEARLY, 2 * right):
            return ""
        return (
            f"{self.folder}: {percentage(right)} of the pixels are right where the values are "
            f"positions among the names; as the ids of the set's own files {percentage(as_ids)} or "
            "more would be: if they are such, give --prediction-ids file"
        )

    def _labels_of_positions(self) -> list[int]:
        """For each position in the names of `whole` its label: a position, or `data.other`."""
        labels = self.data.labels_of(np.array(self.whole.ids)).tolist()
        return [*labels, self.data.other] if self.whole.has_other else labels

    @staticmethod
    def _positions(file: Path, stored: np.ndarray, table: Sequence[int]) -> np.ndarray:
        """Labels (H, W) int32 of values that are positions in a table of labels."""
        classes = len(table)
        labels = stored.astype(np.int32)
        unlabelled = labels == (IGNORE if stored.dtype == np.uint8 else IGNORE_16)
        if classes <= IGNORE:  # else 255 is a class in files of 16 bits
            unlabelled |= labels == IGNORE
        strange = labels[~unlabelled & (labels >= classes)]
        if strange.size:
            raise UsageError(
                f"{file} has the value {strange[0]}: a class is its position, 0 to {classes - 1}; "
                "for values as in the set's own label files: --prediction-ids file"
            )
        found = np.array(table, np.int32).take(labels, mode="clip")
        return np.where(unlabelled, np.int32(UNLABELED), found)
