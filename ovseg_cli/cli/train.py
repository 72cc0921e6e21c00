"""`ovseg train`: one stage of training from one TOML file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.option_types import Place
from ovseg_cli.cli.options import common_options
from ovseg_cli.errors import OvsegError
from ovseg_cli.run_folder.run_lock import WHOLE, holding

if TYPE_CHECKING:
    from ovseg_cli.training.engine import Progress


@click.command("train", short_help="Train a model, stage by stage.")
@click.argument("stage")
@click.option(
    "--config",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The stage's TOML file; those of the bundled model lie in weights/.",
)
@click.option(
    "--data",
    default=Path("."),
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the data sets.  [default: this folder]",
)
@click.option(
    "-o",
    "--out",
    type=Place(path_type=Path),
    metavar="DIR",
    help="Checkpoints, log.jsonl and the finished model.safetensors; a run found there goes on.  "
    "[default: runs/ and the name of the TOML file]",
)
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="A finished stage's folder, a model file or a model's name, to start from.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the model learns.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a value of the file, such as schedule.steps=100; may be given again.",
)
@common_options
def command(
    stage: str,
    config: Path,
    data: Path,
    out: Path | None,
    init: Path | None,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Train one STAGE of a model.

    The bundled model's stages are text, pictures, dense, proposals and deop; DeOP's own are prompt,
    proposals and deop; SAN's is san, from a plain CLIP. Interrupt it at will: the same command goes
    on from the last checkpoint.

    \b
    A labelled data set is a folder in --data:
      images/KEY.jpg  photos; or .png, .jpeg, .webp
      labels/KEY.png  of each a label map of its size: an id a pixel, 255 where it is ignored
      classes.json    the names, {"0": "background", "1": "sky", ...}; background is none of them
      train.txt       the keys of the photos to learn from, one a line; the stage's file
                      may name other splits than train
      val.txt         those on which the model is scored
    """
    from ovseg_cli.failures import is_out_of_memory
    from ovseg_cli.loading import choose_device
    from ovseg_cli.training.stages import Run, run_stage
    from ovseg_cli.weights import MODEL_FILE

    out = out or Path("runs", config.stem)
    run = Run(data=data, out=out, init=init, device=choose_device(device))
    console.note(f"stage {stage} on {run.device}, into {out}")
    try:
        with holding(out, WHOLE):
            for progress in run_stage(stage, config, run, overrides):
                console.note(_line(progress))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OvsegError(
            f"not enough memory on {run.device}: lower the batch or the size of the views in "
            f"{config} and begin in another --out{_smaller_scoring(stage)}"
        ) from error
    console.note(f"finished: {out / MODEL_FILE}")


def _smaller_scoring(stage: str) -> str:
    """How a run goes on for which memory did not suffice in scoring, if its stage has a choice."""
    from ovseg_cli.training.stages import SCORING, STAGES

    known = {field.name for field in fields(STAGES[stage][1])}
    ways = " or ".join(f"stage.{key}=N" for key in SCORING if key in known)
    if not ways:
        return ""
    return f"; where it was in scoring, the same command with a smaller --set {ways} goes on"


def _line(progress: Progress) -> str:
    values = {**progress.losses, **progress.scores}
    shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
    return f"step {progress.step}/{progress.steps}  {progress.seconds:.0f} s  {shown}"
