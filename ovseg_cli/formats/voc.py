"""Pascal VOC's folder of palette PNGs, and CVAT's "Segmentation mask 1.1", a zip made like it.

VOC: host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html, section 6; CVAT:
docs.cvat.ai, "Segmentation Mask". Both know the classes by labelmap.txt, "name:R,G,B::" a line.
"""

import zipfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg_cli import png
from ovseg_cli.errors import UsageError
from ovseg_cli.exports import UNLABELED_8, paletted, write_png
from ovseg_cli.formats.labelled import LabelledPhoto, LabelledRun
from ovseg_cli.formats.options import ExportOptions
from ovseg_cli.formats.writing import distinct, line, write_text
from ovseg_cli.printable import printable
from ovseg_cli.whole_files import atomic_path

VOID = (224, 224, 192)  # the colour that VOC gives to 255
_LIST = "ImageSets/Segmentation/default.txt"


def write_voc(run: LabelledRun, folder: Path, options: ExportOptions) -> Iterator[Path]:
    """Write SegmentationClass/REL.png, whose values are class ids and 255 = void.

    Beside them labelmap.txt and the list of the photos.
    """
    table = np.zeros((256, 3), np.uint8)
    table[: len(run.classes)] = run.colors
    table[UNLABELED_8] = VOID

    def write(photo: LabelledPhoto) -> list[Path]:
        target = folder / "SegmentationClass" / f"{line(photo.rel)}.png"
        return write_png(target, paletted(photo.labels().astype(np.uint8), table), {})

    yield from chain.from_iterable(run.each(write))
    yield write_text(folder / _LIST, (f"{line(photo.rel)}\n" for photo in run))
    names = _label_names([*run.names, "void"])
    yield write_text(folder / "labelmap.txt", _label_map(names, [*run.colors, VOID]))


def write_cvat(run: LabelledRun, folder: Path, options: ExportOptions) -> Iterator[Path]:
    """Write annotations.zip for CVAT's "Upload annotations".

    SegmentationClass holds the classes' colours, with unlabelled pixels in the colour of the first
    line of labelmap.txt, whose name no class has. SegmentationObject makes of each class one object
    and leaves unlabelled pixels out, so that CVAT gets no mask of them. Raises UsageError where
    classes share a colour.
    """
    colors = np.concatenate([run.colors, np.zeros((1, 3), np.uint8)])  # the last: unlabelled = -1
    if len(np.unique(colors, axis=0)) < len(colors):
        raise UsageError("CVAT knows classes by their colours: those in classes.json must differ")
    run.warn_of_turned("CVAT")
    *names, unlabelled = _label_names([*run.names, "background"])  # classes choose first
    target = folder / "annotations.zip"
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        label_map = "".join(_label_map([unlabelled, *names], [colors[-1], *run.colors]))
        _add(archive, "labelmap.txt", label_map.encode())
        for name, labels in run.each(lambda photo: (line(photo.rel), photo.labels())):
            classes = Image.fromarray(colors[labels])
            _add(archive, f"SegmentationClass/{name}.png", png.encoded(classes, {}))
            objects = paletted(_objects(labels), _voc_colors())
            _add(archive, f"SegmentationObject/{name}.png", png.encoded(objects, {}))
        listed = "".join(f"{line(photo.rel)}\n" for photo in run)
        _add(archive, _LIST, listed.encode())
    yield target


def _objects(labels: np.ndarray) -> np.ndarray:
    """(H, W) uint8: the classes that occur numbered from 1, and 0 for unlabelled pixels."""
    present = np.unique(labels[labels >= 0])
    numbers = np.zeros(int(labels.max()) + 2, np.uint8)  # of each class; the last: unlabelled = -1
    numbers[present] = np.arange(1, len(present) + 1)
    return numbers[labels]


def _voc_colors() -> np.ndarray:
    """(256, 3) uint8: VOC's colour of each number, its bits dealt out to red, green, blue."""
    numbers = np.arange(256)[:, None]
    bits = [(numbers >> 3 * i + np.arange(3) & 1) << 7 - i for i in range(3)]
    return np.bitwise_or.reduce(bits).astype(np.uint8)


def _label_names(names: list[str]) -> list[str]:
    return distinct(names, _label_name)


def _label_name(name: str) -> str:
    """The name without what has a meaning in labelmap.txt."""
    text = printable(name).replace(":", " ").strip()
    return f"_{text}" if text.startswith("#") or not text else text


def _label_map(names: list[str], colors: list[np.ndarray | tuple[int, int, int]]) -> Iterator[str]:
    yield "# label:color_rgb:parts:actions\n"
    for name, (red, green, blue) in zip(names, colors, strict=True):
        yield f"{name}:{red},{green},{blue}::\n"


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Without a time, so that the same run gives the same bytes."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data)
