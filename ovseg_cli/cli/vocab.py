"""`ovseg vocab`: help with class names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.options import common_options, model_option, vocabulary_options
from ovseg_cli.vocabulary import Vocabulary, printable

if TYPE_CHECKING:
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

    FILE has one class a line, as --vocab has it. Printed are each class and the classes that the
    model finds most like it, with a similarity: 1 = the same, 0 = as alike as any two nouns. Names
    that it can hardly tell apart, that are too long for it or that look mistyped are warned of.

    \b
    Example:
      ovseg vocab check names.txt
    """
    from ovseg_cli.errors import UsageError
    from ovseg_cli.segmenter import load_model
    from ovseg_cli.vocabulary import read
    from ovseg_cli.vocabulary_check import check

    if (file is None) == (vocabulary is None):
        raise UsageError("name the classes once: FILE, --classes, --vocab or --preset")
    names = vocabulary or read(file or "")
    text = load_model(model, "cpu").network.text

    def encode(phrases: tuple[str, ...] | list[str]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            found: np.ndarray = text.encode(list(phrases), names.templates).float().numpy()
        return found

    for entry in check(names, encode):
        near = [f"{other.name} {other.similarity:.2f}" for other in entry.nearest]
        if as_json:
            console.json_line(
                {
                    "name": entry.name,
                    "nearest": [[o.name, round(o.similarity, 4)] for o in entry.nearest],
                    "warnings": list(entry.warnings),
                }
            )
        else:
            console.data(entry.name, *near)
        for warning in entry.warnings:
            console.warning(f"{printable(entry.name)}: {warning}")
