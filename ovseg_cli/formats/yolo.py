"""YOLO's polygons and data.yaml (docs.ultralytics.com/datasets/segment)."""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg_cli.exports import write_png
from ovseg_cli.formats.labelled import LabelledPhoto, LabelledRun
from ovseg_cli.formats.options import ExportOptions
from ovseg_cli.formats.outlines import joined_rings
from ovseg_cli.formats.segments import segments
from ovseg_cli.formats.writing import write_text, yaml_text
from ovseg_cli.printable import printable
from ovseg_cli.whole_files import atomic_path

logger = logging.getLogger(__name__)

# Added to a pixel's column and row: readers cut the decimals off, or round.
_WITHIN_PIXEL = 0.4


def write_yolo(run: LabelledRun, folder: Path, options: ExportOptions) -> Iterator[Path]:
    """Write labels/REL.txt with a line for each region, and data.yaml; link the photos beside.

    A line is the class id and the polygon's x and y as shares of width and height. Holes are
    joined to the outline by cuts. Where REL has a folder images the labels lie beside that, in a
    folder labels, since there readers look for them. images/REL.SUFFIX is a link to the photo, a
    copy where links cannot be made, a PNG where readers would turn the photo and the run has not,
    and missing where the photo is gone, which a warning says. One that has changed is left out.
    """

    def write(photo: LabelledPhoto) -> list[Path]:
        lines = list(_lines(photo))
        photos = _put_photo(photo, folder / "images") if photo.is_there else []
        return [write_text(folder / f"{_label_name(photo.rel)}.txt", lines), *photos]

    missing = 0
    for files in run.each(write):
        missing += len(files) == 1
        yield from files
    if missing:
        logger.warning(
            "yolo: %d photo%s not there (moved, in a tar or in a store): put them into %s, under "
            "the names of their labels",
            missing,
            " is" if missing == 1 else "s are",
            printable(str(folder / "images")),
        )
    yield write_text(folder / "data.yaml", _description(run))


def _label_name(rel: str) -> str:
    """As readers derive it of a photo's: the last folder images of its path becomes labels."""
    return "/labels/".join(f"/images/{rel}".rsplit("/images/", 1)).removeprefix("/")


def _lines(photo: LabelledPhoto) -> Iterator[str]:
    labels = photo.labels()
    height, width = labels.shape
    for part in segments(labels):
        left, top, wide, high = part.box_xywh
        mask = labels[top : top + high, left : left + wide] == part.value
        for ring in joined_rings(mask):
            if len(ring) < 3:  # of a pixel or a straight line; readers want three points
                ring = np.concatenate([ring, ring[:1], ring[:1]])[:3]
            points = (ring + (left + _WITHIN_PIXEL, top + _WITHIN_PIXEL)) / (width, height)
            shares = " ".join(f"{share:.7g}" for share in points.ravel().tolist())
            yield f"{part.value} {shares}\n"


def _put_photo(photo: LabelledPhoto, folder: Path) -> list[Path]:
    if photo.is_turned_by_others():
        seen = Image.fromarray(photo.pixels())
        return write_png(folder / f"{photo.rel}.png", seen, {})
    source = photo.unchanged_path
    return [_link(source, folder / f"{photo.rel}{source.suffix}")]


def _link(source: Path, target: Path) -> Path:
    with atomic_path(target) as temporary:
        try:
            os.symlink(source, temporary)
        except OSError:  # Windows asks for a right that few users have
            shutil.copyfile(source, temporary)
    return target


def _description(run: LabelledRun) -> Iterator[str]:
    yield "train: images\nval: images  # replace it by photos of your own choice\nnames:\n"
    for class_id, name in enumerate(run.names):
        yield f"  {class_id}: {yaml_text(name)}\n"
