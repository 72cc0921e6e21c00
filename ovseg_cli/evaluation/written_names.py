"""Whose names the values of a label map are, where its file says so itself, as ovseg's do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL.PngImagePlugin import PngImageFile

from ovseg_cli.data.pixel_set import BACKGROUND, IGNORE_16, PixelSet
from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.exports import VOCABULARY
from ovseg_cli.json_files import open_regular, parse_json
from ovseg_cli.printable import printable, quoted, some_of
from ovseg_cli.segmentation import UNLABELED
from ovseg_cli.vocabulary import comparable

_LONGEST = 1 << 24  # characters of it: as many names as 16 bits tell apart have 256 each


def written_names(file: Path) -> tuple[str, ...] | None:
    """The names whose positions a label map's values are; None where its file does not say.

    Raises InputError for names that cannot be those of a label map.
    """
    try:
        with open_regular(file) as stream, PngImageFile(stream) as image:
            text = image.info.get(VOCABULARY)  # of what comes before the pixels: none is decoded
    except Exception:  # whatever Pillow raises for a damaged file: its pixels tell of that
        return None
    if not isinstance(text, str):
        return None
    if len(text) > _LONGEST:
        raise InputError(f"{printable(str(file))}: its {VOCABULARY} has {len(text)} characters")
    try:
        names = parse_json(text)
    except ValueError:  # another program's, which means something else by that word
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    if not 0 < len(names) <= IGNORE_16:
        raise InputError(f"{printable(str(file))}: its {VOCABULARY} has {len(names)} names")
    return tuple(names)


def labels_of_names(file: Path, names: Sequence[str], data: PixelSet, whole: PixelSet) -> list[int]:
    """For each name that a file has, its position in `data.names`; `data.other` for the others.

    Others are names of `whole` alone, background, and a last name that the set does not have: that
    of `ovseg segment --other`. They are UNLABELED where `data` has no pixels of that kind. Raises
    UsageError where a name of the set has no counterpart, or another name none in the set.
    """
    own = {comparable(name): position for position, name in enumerate(data.names)}
    rest = {BACKGROUND, *map(comparable, whole.names)} - own.keys()
    told = [comparable(name) for name in names]
    found = set(told)
    missing = [name for name in data.names if comparable(name) not in found]
    strange = [
        name
        for name, word in zip(names[:-1], told[:-1], strict=True)
        if word not in own and word not in rest
    ]
    if missing and told[-1] not in own and told[-1] not in rest:
        strange.append(names[-1])  # rather another word for one of them than that of --other
    if missing or strange:
        sides = (("lack", missing), ("have", strange))
        told_of = " and ".join(
            f"{verb} {some_of([quoted(name) for name in listed])}"
            for verb, listed in sides
            if listed
        )
        raise UsageError(
            f"{printable(str(file))}: its values are of other names than those of {data.name}: "
            f"they {told_of}. Where only the words differ, and their order is that of the set: "
            "--prediction-ids position"
        )
    other = data.other if data.has_other else UNLABELED
    return [own.get(word, other) for word in told]
