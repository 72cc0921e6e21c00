"""Label Studio's tasks with brush masks as predictions, and the labelling set-up for them.

Tasks: labelstud.io/guide/predictions. Masks: thi.ng's bit-packed run lengths (rle-pack) of RGBA
pixels, as label-studio-converter's brush.py has them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ovseg_cli.errors import InputError
from ovseg_cli.formats.labelled import LabelledPhoto, LabelledRun
from ovseg_cli.formats.options import ExportOptions
from ovseg_cli.formats.segments import segments
from ovseg_cli.formats.writing import (
    distinct,
    json_list,
    write_text,
    xml_attribute,
    xml_characters,
)

BRUSH, IMAGE = "label", "image"  # names of the parts of the set-up, which the masks refer to
_SIZE_BITS = (3, 4, 8, 16)  # of the four ways in which a run's length can be written
_MAX_PIXELS = (1 << 30) - 1  # the number of values, 4 a pixel, has 32 bits


def write_label_studio(run: LabelledRun, folder: Path, options: ExportOptions) -> Iterator[Path]:
    """Write tasks.json, to be imported, and labeling_config.xml, the project's set-up.

    Each class of a photo is a brush mask. A photo's address is `photos_at` and its name.
    """
    run.warn_of_turned("Label Studio")
    labels = distinct(run.names, xml_characters)
    tasks = run.each(lambda photo: _task(run, photo, labels, options.photos_at))
    yield write_text(folder / "tasks.json", json_list(tasks))
    yield write_text(folder / "labeling_config.xml", _set_up(labels, run.colors))


def brush_rle(counts: np.ndarray) -> list[int]:
    """The bytes of a mask.

    counts: (n,) lengths of the runs of 0 and of 255 in turns, in values. A head says how many
    values there are (32 bits), how wide they are less one (5) and, less one, how many bits each of
    four kinds of lengths has (4 each). Then for each run: 1, its kind (2 bits), its length less
    one, its value.
    """
    whole, rest = np.divmod(counts, 1 << 16)  # the longest that can be written at once
    pieces = np.stack([whole, rest > 0], axis=1).ravel()
    values = np.repeat(np.arange(len(counts)) % 2 * 255, 2)
    lengths = np.stack([np.full_like(rest, 1 << 16), rest], axis=1).ravel()
    lengths, values = lengths.repeat(pieces) - 1, values.repeat(pieces)
    kinds = np.searchsorted(1 << np.array(_SIZE_BITS), lengths, side="right")
    sizes = np.array(_SIZE_BITS)[kinds]
    codes = ((4 + kinds << sizes) + lengths << 8) + values
    head = [(counts.sum(), 32), (8 - 1, 5), *((bits - 1, 4) for bits in _SIZE_BITS)]
    numbers = np.concatenate([[n for n, _ in head], codes])
    widths = np.concatenate([[w for _, w in head], sizes + 11])
    ends = widths.cumsum()
    places = ends.repeat(widths) - 1 - np.arange(ends[-1])  # of each bit in its number
    packed: list[int] = np.packbits((numbers.repeat(widths) >> places & 1).astype(bool)).tolist()
    return packed


def _task(
    run: LabelledRun, photo: LabelledPhoto, labels: list[str], photos_at: str
) -> dict[str, Any]:
    height, width = photo.size_hw
    if height * width > _MAX_PIXELS:
        raise InputError(f"{photo.name}: {width}×{height} pixels are too many for Label Studio")
    results = [
        {
            "id": f"class-{part.value}",
            "type": "brushlabels",
            "from_name": BRUSH,
            "to_name": IMAGE,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "format": "rle",
                "rle": brush_rle(4 * part.counts()),
                "brushlabels": [labels[part.value]],
            },
        }
        for part in segments(photo.labels().T)  # columns of the turned map: rows of the photo
    ]
    return {
        "data": {IMAGE: photos_at + quote(photo.name, errors="surrogateescape")},
        "predictions": [
            {
                "model_version": f"ovseg {run.model}".strip(),
                "score": round(photo.finished.confidence, 6),
                "result": results,
            }
        ],
    }


def _set_up(labels: list[str], colors: np.ndarray) -> Iterator[str]:
    yield f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}" zoom="true"/>\n'
    yield f'  <BrushLabels name="{BRUSH}" toName="{IMAGE}">\n'
    for label, (red, green, blue) in zip(labels, colors.tolist(), strict=True):
        color = f"#{red:02x}{green:02x}{blue:02x}"
        yield f'    <Label value={xml_attribute(label)} background="{color}"/>\n'
    yield "  </BrushLabels>\n</View>\n"
