"""Label files that are no plain label maps, as some benchmarks are distributed."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from ovseg_cli.data.pixel_set import checked_ids, read_colours
from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.media.images import MAX_PIXELS


def label_map_of_mat(file: Path) -> np.ndarray:
    """`LabelMap` of a file of MATLAB's: (H, W) uint8 or uint16.

    Raises InputError for a file that has none, UsageError without scipy.
    """
    try:
        from scipy.io import loadmat, whosmat
    except ImportError as error:
        raise UsageError(
            f"Pascal Context's label maps need scipy ({error}): pip install 'ovseg-cli[train]'"
        ) from error
    try:
        shapes = {name: shape for name, shape, _ in whosmat(file)}
        if prod(shapes["LabelMap"]) > MAX_PIXELS:  # before so much memory is taken
            raise ValueError(f"a label map of {shapes['LabelMap']}")
        stored = np.asarray(loadmat(file, variable_names=["LabelMap"])["LabelMap"])
    except Exception as error:  # scipy's reader fails in many ways on what is no such file
        raise InputError(f"{file} cannot be read: {error!r}") from error
    return checked_ids(stored, file)


def objects_of_ade(file: Path) -> np.ndarray:
    """The object numbers of a _seg.png of ADE20K's full release: (H, W) int32.

    Red, in steps of ten, is their high byte, and green the low one; blue tells instances apart.
    """
    colours = read_colours(file).astype(np.int32)
    return colours[..., 0] // 10 * 256 + colours[..., 1]
