"""COCO's JSON: instances with run lengths, and panoptic PNGs (cocodataset.org/#format-data).

A category's id is the class id + 1, since 0 stands for nothing in both.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovseg_cli.exports import write_png
from ovseg_cli.formats.labelled import LabelledPhoto, LabelledRun
from ovseg_cli.formats.options import REGION, ExportOptions
from ovseg_cli.formats.segments import Segment, regions, segments
from ovseg_cli.formats.writing import json_list, json_text, write_text


def write_instances(run: LabelledRun, folder: Path, options: ExportOptions) -> Iterator[Path]:
    """Write instances.json: an annotation for each connected region, or each class of a photo.

    Masks are COCO's compressed run lengths; unlabelled pixels belong to no annotation.
    """
    annotations = _annotations(run, options.annotations == REGION)
    yield write_text(
        folder / "instances.json",
        _document(run, annotations, [_category(run, k) for k in range(len(run.classes))]),
    )


def write_panoptic(run: LabelledRun, folder: Path, options: ExportOptions) -> Iterator[Path]:
    """Write panoptic.json, and panoptic/REL.png whose pixels are ids R + 256 G + 65536 B.

    Each class of a photo is one segment, as stuff is; its id is that of its category.
    """
    pictures: list[Path] = []
    colors = run.colors.tolist()
    categories = [
        {**_category(run, k), "isthing": 0, "color": color} for k, color in enumerate(colors)
    ]
    annotations = _panoptic_annotations(run, folder / "panoptic", pictures)
    try:
        document = write_text(folder / "panoptic.json", _document(run, annotations, categories))
    finally:
        yield from pictures  # those before an error, too: a later export removes them
    yield document


def compressed(counts: np.ndarray) -> str:
    """Run lengths as the text that COCO's tools read.

    From the fourth on each length is given as its difference to the one two before; numbers are
    written in digits of 5 bits, the lowest first, with a sixth bit where another one follows.
    """
    numbers = counts.copy()
    numbers[3:] -= counts[1:-2]
    left = numbers[:, None] >> 5 * np.arange(8)  # (n, 8): what is left before each digit
    digits, rest = left & 31, left >> 5
    more = rest != -(digits >> 4)  # the highest bit of the last digit is the sign
    used = np.ones(digits.shape, bool)
    used[:, 1:] = np.logical_and.accumulate(more[:, :-1], axis=1)
    return (digits + 32 * more + 48)[used].astype(np.uint8).tobytes().decode("ascii")


def _document(
    run: LabelledRun, annotations: Iterator[dict[str, Any]], categories: list[dict[str, Any]]
) -> Iterator[str]:
    yield f'{{"info":{json_text({"description": "ovseg", "version": run.model})},"licenses":[],'
    yield '"categories":'
    yield from json_list(categories)
    yield ',"annotations":'
    yield from json_list(annotations)
    yield ',"images":'  # last: only now it is known which are left out
    yield from json_list(
        {"id": i, "file_name": photo.name, "width": photo.size_hw[1], "height": photo.size_hw[0]}
        for i, photo in enumerate(run, start=1)
    )
    yield "}\n"


def _category(run: LabelledRun, class_id: int) -> dict[str, Any]:
    return {"id": class_id + 1, "name": run.classes[class_id].name, "supercategory": ""}


def _annotations(run: LabelledRun, by_region: bool) -> Iterator[dict[str, Any]]:
    number = 0
    for image, ids in enumerate(run.each(LabelledPhoto.labels), start=1):
        classes = list(range(len(run.classes)))
        if by_region:
            ids, classes = regions(ids)
        for part in segments(ids):
            number += 1
            yield {
                "id": number,
                "image_id": image,
                "category_id": classes[part.value] + 1,
                "segmentation": {"size": list(part.size_hw), "counts": compressed(part.counts())},
                **_extent(part),
            }


def _panoptic_annotations(
    run: LabelledRun, folder: Path, pictures: list[Path]
) -> Iterator[dict[str, Any]]:
    """Also writes the pictures, and adds their paths to the list."""
    found = run.each(lambda photo: (photo.rel, photo.labels()))
    for image, (rel, labels) in enumerate(found, start=1):
        ids = (labels + 1).astype(np.uint16)  # unlabelled: 0, which is COCO's void
        pixels = np.zeros((*ids.shape, 3), np.uint8)
        pixels[..., 0], pixels[..., 1] = ids & 255, ids >> 8
        pictures += write_png(folder / f"{rel}.png", Image.fromarray(pixels), {})
        yield {
            "image_id": image,
            "file_name": f"{rel}.png",
            "segments_info": [
                {"id": part.value + 1, "category_id": part.value + 1, **_extent(part)}
                for part in segments(labels)
            ],
        }


def _extent(part: Segment) -> dict[str, Any]:
    return {"area": part.area, "bbox": list(part.box_xywh), "iscrowd": 0}
