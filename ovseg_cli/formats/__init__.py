"""Formats of other programs by name: a finished run -> files that they read."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from ovseg_cli.errors import UsageError
from ovseg_cli.exports import UNLABELED_8, UNLABELED_16, WRITERS, Writer
from ovseg_cli.formats import coco, cutout, geo, label_studio, svg, voc, yolo
from ovseg_cli.formats.labelled import LabelledPhoto, LabelledRun
from ovseg_cli.formats.options import ExportOptions
from ovseg_cli.formats.writing import json_list, write_text
from ovseg_cli.frame import Frame
from ovseg_cli.json_files import read_json
from ovseg_cli.links import first_link
from ovseg_cli.media.opencv import load_opencv
from ovseg_cli.printable import printable
from ovseg_cli.run_folder.earlier_results import exported
from ovseg_cli.run_folder.finished_run import vocabulary_of
from ovseg_cli.run_folder.layout import EXPORTED
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.whole_files import is_possible, remove, stays_inside


@dataclass(frozen=True)
class Format:
    """A format, and what must be there to write it."""

    name: str  # in --to, and in --save
    write: Callable[[LabelledRun, Path, ExportOptions], Iterator[Path]]  # yields files written
    max_classes: int = UNLABELED_16  # that the format can tell apart
    load: Callable[[], object] = lambda: None  # a library it needs; raises UsageError
    of_one_class: bool = False

    def check(self, classes: int, options: ExportOptions) -> None:
        """Raise UsageError where the format cannot be written, before any work is done."""
        if classes > self.max_classes:
            raise UsageError(
                f"{self.name} holds at most {self.max_classes} classes, "
                f"the vocabulary has {classes}"
            )
        if self.of_one_class and not options.class_name:
            raise UsageError(
                f"{self.name} is of one class: ovseg export OUT --to {self.name} --class NAME"
            )
        self.load()


def select(names: Iterable[str]) -> list[Format]:
    """The formats of these names; raises UsageError for a name that nobody knows."""
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in FORMATS:
            known = ", ".join(FORMATS)
            raise UsageError(f"there is no format '{printable(name)}'; there are: {known}")
    return [FORMATS[name] for name in names]


def export(run: LabelledRun, entry: Format, folder: Path, options: ExportOptions) -> int:
    """Write a run in one format; returns how many files there are.

    A photo that is gone, damaged, or not to be had in this format is left out (`run.left_out`).
    Files of an earlier export to this folder that are not part of it any more are removed once
    nothing is left out, and nothing else. Raises UsageError, InputError where no photo is left,
    and OutputError.
    """
    entry.check(len(run.classes), options)
    run.refuse_links(folder)
    earlier = _listed(folder)
    written: set[str] = set()
    try:
        for path in entry.write(run, folder, options):
            written.add(path.relative_to(folder).as_posix())
        if not run.left_out:  # else what is of those is not to be had again
            for name in earlier - written:
                with suppress(OSError):
                    (folder / name).unlink()
            earlier = set()
    finally:
        if earlier or written or folder.is_dir():
            write_text(folder / EXPORTED, json_list(sorted(earlier | written)))
    return len(written)


def discard_exports(folder: Path) -> None:
    """Remove what exports have written into folders below this one, as far as possible."""
    for place in exported(folder):
        if first_link(folder.parent, place) is not None:
            continue
        files = [place / name for name in _listed(place)]
        files = [file for file in files if first_link(place, file.parent) is None]
        remove([*files, place / EXPORTED])
        above = {parent for file in files for parent in file.parents if place in parent.parents}
        for empty in (*sorted(above, reverse=True), place):
            with suppress(OSError):  # others' files stay, and the folders that hold them
                empty.rmdir()
    with suppress(OSError):
        folder.rmdir()


def _listed(folder: Path) -> set[str]:
    """What an earlier export has written; never a file outside the folder."""
    try:
        paths = [Path(name) for name in read_json(folder / EXPORTED)]
    except (OSError, ValueError, TypeError):
        return set()
    return set(filter(is_possible, (p.as_posix() for p in filter(stays_inside, paths))))


def _write_with(
    writer: Writer, run: LabelledRun, folder: Path, options: ExportOptions
) -> Iterator[Path]:
    """By one of the writers of `ovseg segment` that need nothing but labels."""
    vocabulary = vocabulary_of(run.classes)

    def write(photo: LabelledPhoto) -> list[Path]:
        labels = photo.labels()
        frame = Frame(np.zeros((*labels.shape, 3), np.uint8))
        segmentation = Segmentation(labels, np.ones(labels.shape, np.float32), vocabulary)
        return writer.write(folder / f"{photo.rel}{writer.suffix}", frame, segmentation, {})

    return chain.from_iterable(run.each(write))


FORMATS: Mapping[str, Format] = {
    entry.name: entry
    for entry in (
        Format("coco", coco.write_instances, load=load_opencv),
        Format("coco-panoptic", coco.write_panoptic),
        Format("yolo", yolo.write_yolo, load=load_opencv),
        Format("voc", voc.write_voc, UNLABELED_8),
        Format("cvat", voc.write_cvat, UNLABELED_8),
        Format("label-studio", label_studio.write_label_studio),
        Format("svg", svg.write_svg, load=load_opencv),
        Format("geojson", geo.write_geojson, load=geo.load_rasterio),
        Format("geotiff", geo.write_geotiff, load=geo.load_rasterio),
        Format("cutout", cutout.write_cutout, of_one_class=True),
        Format("masks", partial(_write_with, WRITERS["masks"])),
    )
}
