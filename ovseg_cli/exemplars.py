"""Classes shown by pictures, instead of words or beside them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovseg_cli.errors import UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.media.images import read_image
from ovseg_cli.vocabulary import ClassName, Vocabulary, printable

_BOX = re.compile(r"\d+,\d+,\d+,\d+")


@dataclass(frozen=True)
class Exemplar:
    """A picture of a class, and where in it the class is."""

    name: str
    picture: Path
    mask: Path | None = None  # a picture of the same size, not black where the class is
    box: tuple[int, int, int, int] | None = None  # left, top, width, height, pixels

    def digest(self) -> str:
        """Of the files' contents."""
        content = hashlib.sha256()
        for path in filter(None, (self.picture, self.mask)):
            content.update(path.read_bytes())
        return content.hexdigest()[:16]

    def load(self) -> tuple[Frame, np.ndarray]:
        """The picture, and where the class is: (H, W) bool. Raises InputError, UsageError."""
        frame = read_image(self.picture)
        inside: np.ndarray = np.ones(frame.size_hw, bool)
        if self.mask is not None:
            mask = read_image(self.mask)
            if mask.size_hw != frame.size_hw:
                sizes = [f"{f.size_hw[1]}x{f.size_hw[0]}" for f in (mask, frame)]
                raise UsageError(f"{self.mask}: of {sizes[0]} pixels, the picture of {sizes[1]}")
            inside = mask.pixels.max(-1) > 0
        elif self.box is not None:
            left, top, width, height = self.box
            inside[:] = False
            inside[top : top + height, left : left + width] = True
        if not inside.any():
            width, height = frame.size_hw[::-1]
            raise UsageError(
                f"--exemplar {self.name}: nothing of {printable(str(self.picture))} "
                f"({width}x{height} pixels) is marked"
            )
        return frame, inside


def parse_exemplar(text: str) -> Exemplar:
    """Read "NAME=PICTURE", "NAME=PICTURE:MASK" or "NAME=PICTURE:X,Y,W,H".

    Raises UsageError for anything else and for files that are not there.
    """
    name, equals, rest = (part.strip() for part in text.partition("="))
    if not name or not equals or not rest:
        raise UsageError(
            f"'{printable(text)}' is no exemplar: NAME=PICTURE, NAME=PICTURE:MASK or "
            "NAME=PICTURE:X,Y,W,H"
        )
    picture, mask, box = rest, None, None
    before, colon, after = rest.rpartition(":")
    if colon and before and not Path(rest).is_file():
        picture = before
        if _BOX.fullmatch(after):
            left, top, width, height = map(int, after.split(","))
            box = left, top, width, height
        else:
            mask = Path(after)
    for path in filter(None, (Path(picture), mask)):
        if not path.is_file():
            raise UsageError(f"exemplar of {printable(name)}: no such picture: {path}")
    return Exemplar(name, Path(picture), mask, box)


def with_exemplars(vocabulary: Vocabulary | None, exemplars: Iterable[Exemplar]) -> Vocabulary:
    """The vocabulary (None = no words at all) and, after its classes, those that pictures show."""
    known = () if vocabulary is None else vocabulary.classes
    names = dict.fromkeys(exemplar.name for exemplar in exemplars)
    spoken = {entry.name for entry in known}
    new = [ClassName(name, pictured=True) for name in names if name not in spoken]
    return Vocabulary((*known, *new), None if vocabulary is None else vocabulary.templates)
