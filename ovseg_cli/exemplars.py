"""Classes shown by pictures, instead of words or beside them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.media.images import naming, read_image, read_opacity, read_values
from ovseg_cli.printable import printable, quoted, some_of
from ovseg_cli.vocabulary import ClassName, Vocabulary, comparable

MOST_PIXELS = 80_000_000  # of a mask: with its picture it takes up to 21 bytes a pixel
_SHOWN = 40  # class names in a message
HALF = 128  # of 255: what is less opaque is no part of an exemplar
_NUMBERS = re.compile(r"[\d\s.+-]*,[\d\s,.+-]*")  # what is meant for a box, be it one or not
_BOX = re.compile(r"\s*,\s*".join([r"([0-9]{1,9})"] * 4))


@dataclass(frozen=True)
class Exemplar:
    """A picture of a class, and where in it the class is: everywhere, in a mask or in a box.

    What the picture leaves transparent (below half) is no part of it in any case. Raises
    UsageError for a mask and a box, and for a box that is none.
    """

    name: str
    picture: Path
    mask: Path | None = None  # of the same size, neither black nor transparent where the class is
    box: tuple[int, int, int, int] | None = None  # left, top, width, height, pixels; may reach out

    def __post_init__(self) -> None:
        for field in ("picture", "mask"):
            if isinstance(getattr(self, field), str):
                object.__setattr__(self, field, Path(getattr(self, field)))
        if self.box is None:
            return
        if self.mask is not None:
            raise UsageError(f"exemplar of {printable(self.name)}: a mask or a box, not both")
        whole = all(isinstance(number, int | np.integer) for number in self.box)
        if len(self.box) != 4 or not whole or min(self.box) < 0:
            raise UsageError(
                f"exemplar of {printable(self.name)}: a box is left, top, width and height in "
                f"whole pixels from 0, not {self.box}"
            )

    def digest(self) -> str:
        """Of the files' contents."""
        content = hashlib.sha256()
        for path in filter(None, (self.picture, self.mask)):
            content.update(path.read_bytes())
        return content.hexdigest()[:16]

    def load(self) -> tuple[Frame, np.ndarray]:
        """The picture, and where the class is: (H, W) bool.

        Raises UsageError for files that are no pictures and where nothing of the class is left.
        """
        try:
            frame = read_image(self.picture)
            opacity = read_opacity(self.picture)
            inside = self._marked(frame.size_hw)
        except InputError as error:
            raise UsageError(f"exemplar of {printable(self.name)}: {error}") from error
        height, width = frame.size_hw
        shown = f"{printable(str(self.picture))} ({width}x{height} pixels)"
        if not inside.any():
            raise UsageError(f"exemplar of {printable(self.name)}: nothing of {shown} is marked")
        if opacity is not None:
            inside = inside & (opacity >= HALF)
        if not inside.any():
            where = "" if self.mask is None and self.box is None else " where it is marked"
            raise UsageError(
                f"exemplar of {printable(self.name)}: {shown} is transparent everywhere{where}"
            )
        return frame, inside

    def reaches_out(self, size_hw: tuple[int, int]) -> bool:
        """Whether a part of the box lies outside of a picture of this size."""
        if self.box is None:
            return False
        left, top, width, height = self.box
        return top + height > size_hw[0] or left + width > size_hw[1]

    def _marked(self, size_hw: tuple[int, int]) -> np.ndarray:
        """What the mask or box marks of a picture of this size, (H, W) bool."""
        if self.mask is not None:
            inside = _marked(self.mask)
            if inside.shape != size_hw:
                sizes = [f"{width}x{height}" for height, width in (inside.shape, size_hw)]
                shown = printable(str(self.mask))
                raise InputError(f"{shown}: of {sizes[0]} pixels, the picture of {sizes[1]}")
            return inside
        if self.box is None:
            return np.ones(size_hw, bool)
        left, top, width, height = self.box
        inside = np.zeros(size_hw, bool)
        inside[top : top + height, left : left + width] = True
        return inside


def _marked(mask: Path) -> np.ndarray:
    """Where a picture is neither black nor transparent, (H, W) bool, upright. Raises InputError."""
    with naming(str(mask)):
        stored = read_values(mask, max_pixels=MOST_PIXELS)
    if stored.ndim == 2 and stored.itemsize > 1:  # ids: small ones are black in 8 bits
        return np.asarray(stored != 0)
    del stored
    red, green, blue = np.moveaxis(read_image(mask).pixels, -1, 0)
    seen = (red | green | blue) > 0  # white where it is transparent
    opacity = read_opacity(mask, max_pixels=MOST_PIXELS)
    return np.asarray(seen if opacity is None else seen & (opacity > 0))


def parse_exemplar(text: str) -> Exemplar:
    """Read "NAME=PICTURE", "NAME=PICTURE:MASK" or "NAME=PICTURE:X,Y,W,H".

    Raises UsageError for anything else, for files that are not there, and for a box that is none.
    """
    name, equals, rest = (part.strip() for part in text.partition("="))
    if not name or not equals or not rest:
        raise UsageError(
            f"'{printable(text)}' is no exemplar: NAME=PICTURE, NAME=PICTURE:MASK or "
            "NAME=PICTURE:X,Y,W,H"
        )
    if "|" in name:
        raise UsageError(f"--exemplar {printable(name)}: one name of a class, without synonyms")
    picture, mask, box = rest, None, None
    before, colon, after = rest.rpartition(":")
    # Unlike Path.is_file, False also for a name that is too long.
    if colon and before and not os.path.isfile(rest):
        picture, after = before, after.strip()
        if _NUMBERS.fullmatch(after) and not os.path.isfile(after):
            box = _box(name, after)
        else:
            mask = Path(after)
    for path in filter(None, (Path(picture), mask)):
        if not os.path.isfile(path):
            shown = printable(str(path))
            raise UsageError(f"exemplar of {printable(name)}: no such picture: {shown}")
    return Exemplar(name, Path(picture), mask, box)


def _box(name: str, text: str) -> tuple[int, int, int, int]:
    found = _BOX.fullmatch(text)
    if found is None:
        raise UsageError(
            f"exemplar of {printable(name)}: a box is X,Y,WIDTH,HEIGHT in whole pixels from the "
            f"left upper corner, such as 10,20,100,80, not {quoted(text)}"
        )
    left, top, width, height = map(int, found.groups())
    return left, top, width, height


def with_exemplars(vocabulary: Vocabulary | None, exemplars: Iterable[Exemplar]) -> Vocabulary:
    """The vocabulary (None = no words at all) and, after its classes, those that pictures show.

    Raises UsageError for a name that differs from a class's in case alone, or is its synonym.
    """
    known = () if vocabulary is None else vocabulary.classes
    names = dict.fromkeys(exemplar.name for exemplar in exemplars)
    spoken = {entry.name for entry in known}
    called = {comparable(phrase): entry.name for entry in known for phrase in entry.phrases}
    new = [ClassName(name, pictured=True) for name in names if name not in spoken]
    for entry in new:
        if comparable(entry.name) in called:
            raise UsageError(
                f"--exemplar {printable(entry.name)}: name the class as it is called first, "
                f"{printable(called[comparable(entry.name)])}"
            )
    return Vocabulary((*known, *new), None if vocabulary is None else vocabulary.templates)


def require_classes(vocabulary: Vocabulary, exemplars: Iterable[Exemplar]) -> None:
    """Raise UsageError for a picture of what is none of the classes."""
    for exemplar in exemplars:
        if exemplar.name not in vocabulary.names:
            raise UsageError(
                f"there is no class {printable(exemplar.name)} for its picture; there are: "
                f"{some_of(vocabulary.names, _SHOWN)}"
            )
