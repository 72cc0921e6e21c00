"""The options that say which model runs, where and how, as commands share them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from ovseg_cli import vocabulary_files
from ovseg_cli.cli import console
from ovseg_cli.cli.compute import MASK_FILES, SAM, Compute
from ovseg_cli.cli.option_types import Real
from ovseg_cli.cli.options import Command, read_exemplars
from ovseg_cli.errors import UsageError
from ovseg_cli.printable import printable
from ovseg_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovseg_cli.exemplars import Exemplar


class ProposalsType(click.ParamType):
    """auto (None), queries, grid, regions, file:DIR or sam:DIR."""

    name = "proposals"

    def convert(self, value: Any, param: Any, ctx: Any) -> str | None:
        """Check what was typed."""
        if value in (None, "auto"):
            return None
        folder = value.startswith((MASK_FILES, SAM)) and value not in (MASK_FILES, SAM)
        if folder or value in ("queries", "grid", "regions"):
            return str(value)
        known = f"auto, queries, grid, regions, {MASK_FILES}DIR, {SAM}DIR"
        self.fail(f"{value!r} is none of {known}", param, ctx)


class RivalsType(click.ParamType):
    """none, a preset or @FILE as a Vocabulary."""

    name = "rivals"

    def convert(self, value: Any, param: Any, ctx: Any) -> Vocabulary | None:
        """Check what was typed."""
        if value in (None, "none"):
            return None
        if value.startswith("@"):
            return vocabulary_files.read(value[1:])
        is_file = "." in value or os.path.isfile(value)
        if is_file and value not in vocabulary_files.presets():
            self.fail(f"{value!r} is no preset: names in a file are given as @{value}", param, ctx)
        return vocabulary_files.preset(value)


model_option = click.option(
    "-m",
    "--model",
    metavar="NAME|PATH",
    default="mini",
    show_default=True,
    help="A model of 'ovseg models list', or a file.",
)
_MODEL_OPTIONS = (
    model_option,
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "mps"]),
        default="auto",
        show_default=True,
        help="Where the model runs.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
        default="auto",
        show_default=True,
        help="Numbers the model computes with; auto is bf16 on CUDA, else fp32.",
    ),
    click.option(
        "--size",
        type=click.IntRange(32, 4096),
        metavar="N",
        help="Shorter side, in pixels, at which the model sees a photo: more shows small things, "
        "takes longer, and may fit the model worse.  [default: the model's own]",
    ),
    click.option(
        "--quality",
        type=click.Choice(["fast", "high"]),
        help="How often the model looks at a photo: once (fast); or at three sizes, and at each in "
        "a mirror, too (high), which takes several times as long.  [default: the model's own; "
        "'mini' looks at the photo and at its mirror image, smaller]",
    ),
    click.option(
        "--proposals",
        type=ProposalsType(),
        metavar="auto|queries|grid|regions|file:DIR|sam:DIR",
        default="auto",
        show_default=True,
        help="What is classified: trained mask proposals (queries); every patch for itself (grid); "
        "superpixels, merged where they are alike (regions); or the masks in DIR/PHOTO.png, whose "
        "pixels are ids, or DIR/PHOTO.json, as SAM and COCO write them; or what the "
        "Segment-Anything model finds that transformers keeps in DIR (sam:DIR).",
    ),
    click.option(
        "--attention",
        type=click.Choice(["severed", "mask", "csa", "self", "neighbour"]),
        help="What the visual encoder's last layer does instead of mixing patches: each keeps its "
        "own value; looks where its masks do; or at patches like it, as SCLIP, ClearCLIP and "
        "NACLIP have it.  [default: the model's own]",
    ),
    click.option(
        "--last-block",
        type=click.Choice(["full", "reduced"]),
        help="Whether that layer keeps its residual and MLP.  [default: reduced with self and "
        "neighbour, as published, else full]",
    ),
    click.option(
        "--tile",
        type=click.IntRange(64, 4096),
        metavar="N",
        help="Show the model large photos in windows of N pixels, for details: with --size 1280, "
        "say, --tile 320.  [default: the whole photo at once]",
    ),
    click.option(
        "--overlap",
        type=Real(0, 0.9),
        metavar="F",
        help="With --tile: how much of a window the next one sees again; there the two are "
        f"blended.  [default: {Compute.overlap}]",
    ),
    click.option(
        "--refine",
        type=click.Choice(["none", "pamr"]),
        default="none",
        show_default=True,
        help="Let labels follow the photo's edges: pixel-adaptive mask refinement.",
    ),
    click.option(
        "--templates",
        metavar="NAME|FILE",
        help="Prompts into which each name is put: "
        f"{', '.join(vocabulary_files.template_sets())}, "
        "or a file with one a line, {} for the name. Their features are averaged.  "
        "[default: what the model was trained with]",
    ),
)
_RUNTIME_OPTION = click.option(
    "--runtime",
    metavar="torch|onnx|FILE.onnx",
    default="torch",
    show_default=True,
    help="What computes the model's passes: PyTorch, or onnxruntime on the CPU, for which the "
    "model is exported once into the user's folder, or is read from a file of 'ovseg "
    "export-model'. pip install 'ovseg-cli[onnx]'.",
)

# The fields of `Compute` whose options bear their names and give their values.
_AS_TYPED = [
    field.name
    for field in fields(Compute)
    if field.name not in ("overlap", "templates", "exemplars")
]


def require_windows(overlap: float | None, tile: int | None) -> None:
    """Raise UsageError for an overlap, if given, where photos are not shown in windows."""
    if overlap is not None and tile is None:
        raise UsageError("--overlap without --tile N: there are no windows to overlap")


def compute_options(
    *, names: bool = True, new_classes: bool = True
) -> Callable[[Command], Command]:
    """The options of `Compute`; the command gets `compute`.

    names: False for a command that is told no classes: it refuses what goes with them, and its
    help leaves that out. new_classes: whether a picture may show a class that no word names.
    """
    if new_classes:
        beside = "beside its words or, where NAME is none of the classes, instead"
    else:
        beside = "beside its words; NAME is one of the classes, as the model is told it"
    options = (
        *_MODEL_OPTIONS,
        click.option(
            "--exemplar",
            multiple=True,
            metavar="NAME=PICTURE[:MASK|:X,Y,W,H]",
            hidden=not names,
            help=f"Show a class by a picture, {beside}: the part that MASK (a picture of the same "
            "size, neither black nor transparent there) or a box (left, top, width and height in "
            "pixels) marks. What PICTURE leaves transparent is no part of it. May be repeated.",
        ),
        click.option(
            "--rivals",
            type=RivalsType(),
            metavar="PRESET|@FILE",
            hidden=not names,
            help="Let these names compete for pixels, too: what they win gets none of your classes "
            "but --other, if given, else stays unlabelled. Names that mean one of your classes are "
            "left out.",
        ),
        _RUNTIME_OPTION,
    )

    def add(command: Command) -> Command:
        @wraps(command)
        def with_compute(
            *args: Any,
            overlap: float | None,
            templates: str | None,
            exemplar: tuple[str, ...],
            **given: Any,
        ) -> Any:
            require_windows(overlap, given["tile"])
            exemplars = read_exemplars(exemplar)
            _check_pictures(exemplars)
            compute = Compute(
                **{field: given.pop(field) for field in _AS_TYPED},
                overlap=Compute.overlap if overlap is None else overlap,
                templates=None if templates is None else vocabulary_files.templates(templates),
                exemplars=exemplars,
            )
            return command(*args, compute=compute, **given)

        for option in reversed(options):
            with_compute = option(with_compute)
        return with_compute  # type: ignore[return-value]

    return add


def _check_pictures(exemplars: Sequence[Exemplar]) -> None:
    """Before anything else is loaded: raise UsageError for what cannot be used."""
    for shown in exemplars:
        frame, _ = shown.load()
        if shown.reaches_out(frame.size_hw):
            height, width = frame.size_hw
            console.warning(
                f"--exemplar {printable(shown.name)}: the box reaches out of the picture of "
                f"{width}x{height} pixels: it is cut off there"
            )
