"""What is exported: the photos of a finished run, and their label maps one at a time."""

import copy
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.exports import UNLABELED_8, UNLABELED_16
from ovseg_cli.links import refuse_links, refuse_links_within
from ovseg_cli.media.images import is_turned, read_image
from ovseg_cli.media.inputs import InputState
from ovseg_cli.printable import printable
from ovseg_cli.run_folder.finished_run import (
    FinishedPhoto,
    FinishedRun,
    RunClass,
    of_clips,
    read_run,
)
from ovseg_cli.segmentation import UNLABELED
from ovseg_cli.whole_files import stays_inside

logger = logging.getLogger(__name__)
_Made = TypeVar("_Made")

# Of a label map, unless another limit is asked for: some formats take 18 bytes a pixel to make, and
# a file of 100 kB can be a map of that size.
MAX_PIXELS = 100_000_000


class LabelledRun:
    """An output folder of `ovseg segment`; iterate over its photos as often as is needed.

    max_pixels: of a label map, at most. Raises InputError where one has more, UsageError where the
    folder is no output folder, holds no photo that is finished, has no label maps, or in shards.
    """

    def __init__(self, out: Path, max_pixels: int = MAX_PIXELS) -> None:
        self._run: FinishedRun = read_run(out)
        self.seen: Callable[[], None] = lambda: None  # called for each label map that is read
        self.left_out: dict[str, InputError] = {}  # by REL: what `each` could make nothing of
        if not self._run.photos:
            kind = "finished photo"
            if self._run.left_over:
                kind += " of the newest run, only of earlier ones with other names or options"
            raise UsageError(
                f"{printable(str(out))} holds no {kind}: nothing to export{of_clips(out)}"
            )
        large = self._run.sizes_above(max_pixels)
        if large:  # before anything is written
            raise InputError(
                f"{len(large)} of the label maps exceed the limit of {max_pixels} pixels; to "
                f"export them all the same: --max-pixels {max(large)}"
            )
        self._run.require_loose_labels("exported")
        self._photos = sorted(self._run.photos, key=lambda photo: photo.entry.rel)
        if all(photo.labels is None for photo in self._photos):
            raise UsageError(str(LabelledPhoto(self, self._photos[0]).without_labels()))

    def __len__(self) -> int:
        return len(self._photos) - len(self.left_out)

    def anew(self) -> "LabelledRun":
        """The same with nothing left out."""
        other = copy.copy(self)
        other.left_out = {}
        return other

    def refuse_links(self, folder: Path) -> None:
        """Raise OutputError where a link lies on the way to a folder to write to, or in it."""
        refuse_links_within(self._run.out, folder)
        refuse_links(folder.parent, folder)
        for path, names, _ in os.walk(folder):
            for name in names:
                refuse_links(folder, Path(path, name))

    def __iter__(self) -> Iterator["LabelledPhoto"]:
        """Those that are not left out."""
        for photo in self._photos:
            if photo.entry.rel not in self.left_out:
                yield LabelledPhoto(self, photo)

    def each(self, make: Callable[["LabelledPhoto"], _Made]) -> Iterator[_Made]:
        """What is made of each photo; one that raises InputError is left out from then on.

        Raises InputError where that would leave none.
        """
        for photo in self:
            try:
                made = make(photo)
            except InputError as error:
                self.left_out[photo.finished.entry.rel] = error
                continue
            yield made
        if not len(self):
            raise InputError("\n".join(dict.fromkeys(map(str, self.left_out.values()))))

    @property
    def classes(self) -> tuple[RunClass, ...]:
        """Name, synonyms and colour; position = class id."""
        return self._run.classes

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every class, by id."""
        return tuple(entry.name for entry in self.classes)

    @property
    def colors(self) -> np.ndarray:
        """(K, 3) uint8 RGB, by class id."""
        return np.array([entry.color for entry in self.classes], np.uint8)

    @property
    def model(self) -> str:
        """The name of the model; empty where the run was killed before it could say so."""
        model = self._run.record.get("model")
        return str(model.get("name", "")) if isinstance(model, dict) else ""

    @property
    def exif(self) -> bool:
        """Whether the photos were turned upright."""
        return self._run.exif

    @property
    def is_merged(self) -> bool:
        """Whether `ovseg merge` has made the folder, or its tables."""
        return bool(self._run.record.get("parts"))

    def warn_of_turned(self, program: str) -> None:
        """Say of how many photos a program that heeds EXIF shows another picture than was seen."""
        if self.exif:
            return
        turned = 0
        for photo in self:
            with suppress(InputError):  # gone or changed: nobody knows what it is like
                turned += photo.is_turned_by_others()
        if turned:
            logger.warning(
                "%s turns %d photo%s upright by the EXIF orientation, which --no-exif has ignored: "
                "the masks do not fit there; run ovseg segment without --no-exif",
                program,
                turned,
                "" if turned == 1 else "s",
            )


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo and its label map."""

    run: LabelledRun
    finished: FinishedPhoto

    @property
    def name(self) -> str:
        """Its path below the folder that was given, '/' between folders, with its suffix."""
        return self.finished.name

    @property
    def rel(self) -> str:
        """REL, the name of its results: unique, relative, without '..'."""
        rel = self.finished.entry.rel
        if not stays_inside(PurePath(rel)):
            raise InputError(f"{printable(rel)}: a photo's results cannot lie outside the folder")
        return rel

    @property
    def path(self) -> Path:
        """The photo itself, absolute; raises InputError where it is no file, or gone."""
        if not self.is_there:
            known = self.finished.entry.path
            raise InputError(
                f"this format needs the photo: {printable(known or self.name)}: {_absence(known)}"
            )
        return Path(self.finished.entry.path)

    @property
    def is_there(self) -> bool:
        """Whether the photo is a file that is still where it was."""
        return bool(self.finished.entry.path) and os.path.isfile(self.finished.entry.path)

    @property
    def unchanged_path(self) -> Path:
        """As `path`; raises InputError where the file has changed since the run, too."""
        path, entry = self.path, self.finished.entry
        state = InputState.of(path)
        if (state.size, state.modified_ns) != (entry.size, entry.modified_ns):
            raise InputError(
                f"{printable(str(path))}: the photo has changed since the run: run ovseg segment "
                "again with --resume"
            )
        return path

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the label map in pixels: the photo's, upright."""
        return self.finished.entry.height, self.finished.entry.width

    def labels(self) -> np.ndarray:
        """(H, W) int32 class ids, UNLABELED where there is none.

        Raises InputError where the run has saved no label map, or it is damaged.
        """
        file = self.finished.labels
        if file is None:
            raise self.without_labels()
        other = InputError(f"{printable(str(file))}: not the label map that the run has written")
        try:
            with PngImageFile(file) as image:  # not Image.open, which refuses large ones
                if (image.height, image.width) != self.size_hw:
                    raise other  # before it is decoded: it may be far too large
                values = np.asarray(image)
        except InputError:
            raise
        except Exception as error:  # Pillow raises a dozen types for damaged files
            raise InputError(f"{printable(str(file))}: damaged ({error})") from error
        if values.ndim != 2 or values.dtype not in (np.uint8, np.uint16):
            raise other
        labels = values.astype(np.int32)
        labels[values == (UNLABELED_8 if values.dtype == np.uint8 else UNLABELED_16)] = UNLABELED
        if labels.max() >= len(self.run.classes):
            raise InputError(
                f"{printable(str(file))}: class {labels.max()} is not among the "
                f"{len(self.run.classes)} of classes.json"
            )
        self.run.seen()
        return labels

    def without_labels(self) -> InputError:
        """What is said where there is no label map."""
        remedy = "run ovseg segment again with --resume and labels in --save"
        if self.run.is_merged and not self.finished.entry.files:
            remedy = (
                "where its parts have label maps, run ovseg merge again with --files copy or "
                "link and --overwrite"
            )
        return InputError(
            f"{printable(self.name)} has no label map, of which all formats are made: {remedy}"
        )

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB of the photo; raises InputError where it is gone or has changed."""
        height, width = self.size_hw
        pixels = read_image(
            self.unchanged_path, exif=self.run.exif, max_pixels=height * width
        ).pixels
        if pixels.shape[:2] != self.size_hw:
            raise InputError(f"{printable(str(self.path))}: no longer the photo that was segmented")
        return pixels

    def is_turned_by_others(self) -> bool:
        """Whether a program that heeds EXIF shows the photo otherwise than the run has seen it.

        Raises InputError where the photo is gone or has changed.
        """
        return not self.run.exif and is_turned(self.unchanged_path)


def _absence(path: str) -> str:
    """Why a photo cannot be had, of which the run has noted where it was."""
    if not path:
        return "the folder does not tell where the photo is"
    if not os.path.isabs(path):
        return "the photo is in a store: segment a copy on this disk"
    archive = next((above for above in PurePath(path).parents if os.path.isfile(above)), None)
    if archive is not None:
        return f"the photo is within {printable(archive.name)}: unpack that and segment the folder"
    return "the photo is gone"
