"""Photos of one class: whatever is not of it is transparent."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg_cli.errors import UsageError
from ovseg_cli.exports import write_png
from ovseg_cli.formats.labelled import LabelledPhoto, LabelledRun
from ovseg_cli.formats.options import ExportOptions
from ovseg_cli.printable import printable, some_of
from ovseg_cli.vocabulary import comparable


def write_cutout(run: LabelledRun, folder: Path, options: ExportOptions) -> Iterator[Path]:
    """Write REL.png, RGBA, of each photo in which the class occurs; needs the photos.

    Raises UsageError for a class that the run does not know.
    """
    class_id = _class_id(run, options.class_name or "")

    def write(photo: LabelledPhoto) -> list[Path]:
        mask = photo.labels() == class_id
        if not mask.any():
            return []
        pixels = np.dstack([photo.pixels(), np.full(mask.shape, 255, np.uint8)])
        pixels[~mask] = 0  # what is hidden must not be found again
        return write_png(folder / f"{photo.rel}.png", Image.fromarray(pixels), {})

    return chain.from_iterable(run.each(write))


def _class_id(run: LabelledRun, name: str) -> int:
    wanted = comparable(name)
    for class_id, entry in enumerate(run.classes):
        if wanted in map(comparable, entry.phrases):
            return class_id
    known = some_of(run.names, 20)
    raise UsageError(f"--class {printable(name)}: the run has no such class; it has {known}")
