"""The files that `ovseg eval` writes beside the scores it shows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ovseg_cli.cli import console
from ovseg_cli.errors import OvsegError, UsageError
from ovseg_cli.whole_files import require_writable

if TYPE_CHECKING:
    from ovseg_cli.data.pixel_set import PixelSet
    from ovseg_cli.evaluation.run import Evaluation

CLASSES, PHOTOS, CONFUSION, WORST = "--csv", "--photos", "--confusion", "--worst-dir"


def check(targets: Mapping[str, Path]) -> None:
    """Raise UsageError for a place that cannot be written to, or that two options name.

    Before the photos are counted, which takes hours. targets: of each option that is given.
    """
    taken: dict[str, str] = {}  # place -> option
    for option, target in targets.items():
        require_writable(target if option == WORST else target.parent)
        place = os.path.realpath(target)
        if place in taken:
            raise UsageError(f"{taken[place]} and {option} both name {target}: give each its own")
        taken[place] = option


def write(
    targets: Mapping[str, Path], data: PixelSet, names: Sequence[str], evaluation: Evaluation
) -> bool:
    """Write what each option asks for; returns whether all could be written.

    One that cannot be is named on standard error and does not cost the others. names: of all
    classes, background included.
    """
    complete = True
    for option, target in targets.items():
        try:
            _write(option, target, data, names, evaluation)
        except OvsegError as error:
            console.trace(error)
            console.error(str(error))
            complete = False
    return complete


def _write(
    option: str, target: Path, data: PixelSet, names: Sequence[str], evaluation: Evaluation
) -> None:
    from ovseg_cli.evaluation.matrix_picture import draw_confusion
    from ovseg_cli.evaluation.tables import write_classes, write_photos
    from ovseg_cli.evaluation.worst_photos import write_worst
    from ovseg_cli.exports import write_png

    if option == CLASSES:
        write_classes(target, names, evaluation)
    elif option == PHOTOS:
        write_photos(target, evaluation)
    elif option == CONFUSION:
        write_png(target, draw_confusion(evaluation.matrix.counts, names), {})
    else:
        write_worst(target, data, names, evaluation)
