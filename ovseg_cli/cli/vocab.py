"""`ovseg vocab`: help with class names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.compute import Compute
from ovseg_cli.cli.compute_options import compute_options, model_option
from ovseg_cli.cli.options import common_options, vocabulary_options
from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.printable import printable
from ovseg_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


@click.group("vocab", short_help="Help with class names.")
def command() -> None:
    """Help with class names."""


@command.command("check", short_help="Names that are alike, too long or mistyped.")
@click.argument("file", required=False, metavar="[FILE]")
@vocabulary_options(required=False)
@model_option
@click.option("--json", "as_json", is_flag=True, help="A JSON object per class.")
@common_options
def check_command(
    file: str | None, vocabulary: Vocabulary | None, model: str, as_json: bool
) -> None:
    """Say of each class name what a model makes of it.

    FILE has one class a line, as --vocab has it; - is standard input. Printed are each class and
    the classes that the model finds most like it, with a similarity: 1 = the same, 0 = as alike as
    any two nouns. Names that it can hardly tell apart, that are too long for it or that look
    mistyped are warned of.

    \b
    Example:
      ovseg vocab check names.txt
    """
    from ovseg_cli.loading import load_model
    from ovseg_cli.names.vocabulary_check import check
    from ovseg_cli.vocabulary_files import read

    if (file is None) == (vocabulary is None):
        raise UsageError("name the classes once: FILE, --classes, --vocab or --preset")
    names = vocabulary or read(file or "")
    text = load_model(model, "cpu").network.text

    def encode(phrases: Sequence[str]) -> np.ndarray:
        found: np.ndarray = text.encode(list(phrases), names.templates).detach().float().numpy()
        return found

    for entry in check(names, encode, text.is_word):
        near = [f"{o.name} {_rounded(o.similarity, 2):.2f}" for o in entry.nearest]
        if as_json:
            console.json_line(
                {
                    "name": entry.name,
                    "nearest": [[o.name, _rounded(o.similarity, 4)] for o in entry.nearest],
                    "warnings": list(entry.warnings),
                }
            )
        else:
            console.data(entry.name, *near)
        for warning in entry.warnings:
            console.warning(f"{printable(entry.name)}: {warning}")


def _rounded(value: float, digits: int) -> float:
    return round(value, digits) + 0.0  # a little less than nothing is rounded to -0.0


@command.command("propose", short_help="Names by what photos show.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-r", "--recursive", is_flag=True, help="Search folders within folders, too.")
@compute_options(names=False)
@common_options
def propose_command(inputs: tuple[str, ...], recursive: bool, compute: Compute) -> int:
    """Print class names for photos of which nobody says what they show, one a line.

    INPUT is a photo, a folder or a pattern. Of the common nouns of WordNet those are taken that
    match most of the photos as a whole. It is a start, to be edited, no answer.

    \b
    Example:
      ovseg vocab propose photos > names.txt
    """
    from ovseg_cli.cli.auto_names import proposals, sample_photos
    from ovseg_cli.media.inputs import find_images

    for option, given in (("--exemplar", compute.exemplars), ("--rivals", compute.rivals)):
        if given:
            raise UsageError(f"{option} goes with classes, and here they are only looked for")
    unread: list[InputError] = []
    photos = sample_photos(find_images(inputs, recursive), unread=unread)
    for proposal in proposals(compute, photos, unread):
        console.data(f"{proposal.name}  # {proposal.share:.0%}")
    for error in unread:
        console.error(str(error))
    return 1 if unread else 0
