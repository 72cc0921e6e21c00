"""`ovseg bench`: speed and memory on this machine."""

from dataclasses import asdict
from pathlib import Path

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.options import common_options, model_option


@click.command("bench", short_help="Measure speed and memory on this machine.")
@model_option
@click.option(
    "--photos",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Photos that the throughput is measured on.",
)
@click.option(
    "--runs",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Runs of each command; medians are shown.",
)
@click.option("--json", "as_json", is_flag=True, help="A JSON object per figure.")
@common_options
def command(model: str, photos: int, runs: int, as_json: bool) -> None:
    """Measure whole commands on made-up photos.

    Start-up, photos a second against the model alone, and 1000 class names against 10 on a
    photo of 12 megapixels. It takes some minutes; other work on the machine disturbs it.
    """
    from tempfile import TemporaryDirectory

    from ovseg_cli.benchmark import bench

    with TemporaryDirectory(prefix="ovseg-bench-") as folder:
        for figure in bench(model, photos, runs, Path(folder)):
            if as_json:
                console.json_line(asdict(figure))
            else:
                console.data(f"{figure.name:<48} {figure.value:>10.3f} {figure.unit}")
