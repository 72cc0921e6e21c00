"""What was counted, as CSV files: a row per class, a row per photo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ovseg_cli.evaluation.run import Evaluation
from ovseg_cli.run_folder.tables import write_table

CLASS_COLUMNS = ("class", "iou", "boundary_iou", "accuracy", "true_pixels", "predicted_pixels")
PHOTO_COLUMNS = ("photo", "mIoU", "pixel_accuracy", "mean_confidence")


def write_classes(target: Path, names: Sequence[str], evaluation: Evaluation) -> None:
    """Write a row per class, in the order of their ids; raises OutputError.

    A measure that is not defined, since the class does not occur, is left empty.
    """
    matrix = evaluation.matrix
    columns = (
        names,
        map(decimals, matrix.iou()),
        map(decimals, evaluation.boundary.iou()),
        map(decimals, matrix.accuracy()),
        matrix.counts.sum(1).tolist(),
        matrix.counts.sum(0)[: matrix.classes].tolist(),
    )
    write_table(target, CLASS_COLUMNS, zip(*columns, strict=True))


def write_photos(target: Path, evaluation: Evaluation) -> None:
    """Write a row per photo, the one with the least mIoU first; raises OutputError."""
    rows = (
        (
            photo.key,
            decimals(photo.mean_iou),
            decimals(photo.pixel_accuracy),
            decimals(photo.mean_confidence),
        )
        for photo in sorted(evaluation.photos, key=lambda photo: photo.order)
    )
    write_table(target, PHOTO_COLUMNS, rows)


def decimals(value: float | None, digits: int = 6) -> str:
    """A measure as text; empty for None and NaN."""
    return "" if value is None or value != value else f"{value:.{digits}f}"
