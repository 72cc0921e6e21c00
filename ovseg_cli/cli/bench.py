"""`ovseg bench`: speed and memory on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.compute import model_option
from ovseg_cli.cli.options import common_options

if TYPE_CHECKING:
    from ovseg_cli.benchmark.figure import Figure


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
@click.option(
    "--one-pass",
    is_flag=True,
    help="Instead, the published model's sizes with random weights: one pass against the "
    "two-stream way, and what the pass is made of.",
)
@click.option("--json", "as_json", is_flag=True, help="A JSON object per figure.")
@common_options
def command(model: str, photos: int, runs: int, one_pass: bool, as_json: bool) -> None:
    """Measure whole commands on made-up photos.

    Start-up, photos a second against the model alone, and 1000 class names against 10 on a
    photo of 12 megapixels. It takes some minutes; other work on the machine disturbs it.
    """
    for figure in _figures(model, photos, runs, one_pass):
        if as_json:
            console.json_line(asdict(figure))
        else:
            console.data(f"{figure.name:<48} {figure.value:>10.3f} {figure.unit}")


def _figures(model: str, photos: int, runs: int, one_pass: bool) -> Iterator[Figure]:
    if one_pass:
        from ovseg_cli.benchmark.one_pass import one_pass as measure

        yield from measure(runs)
        return
    from tempfile import TemporaryDirectory

    from ovseg_cli.benchmark.commands import bench

    with TemporaryDirectory(prefix="ovseg-bench-") as folder:
        yield from bench(model, photos, runs, Path(folder))
