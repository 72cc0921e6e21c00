"""`ovseg bench`: speed and memory on this machine."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from ovseg_cli.benchmark.plan import DEFAULT, SECTIONS, require_sections
from ovseg_cli.cli.compute import Compute
from ovseg_cli.cli.compute_options import compute_options
from ovseg_cli.cli.option_types import Listed
from ovseg_cli.cli.options import common_options, typed_options
from ovseg_cli.cli.suffixed import Suffixed
from ovseg_cli.errors import UsageError

_FILE = click.Path(path_type=Path, dir_okay=False)
_PHOTOS, _PROFILED = 200, 20  # where --photos is not given


class Tolerance(click.ParamType):
    """A percentage, as a share."""

    name = "tolerance"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Check what was typed."""
        if isinstance(value, float):
            return value
        try:
            percent = float(value.strip().removesuffix("%"))
        except ValueError:
            percent = -1
        if not 0 <= percent < 1000:
            self.fail(f"{value!r} is no percentage such as 15%", param, ctx)
        return percent / 100


@click.command("bench", short_help="Measure speed and memory on this machine.")
@click.argument("inputs", nargs=-1, metavar="[PHOTO...]")
@click.option(
    "--only",
    type=Listed("names"),
    metavar="LIST",
    help=f"Sections to measure, separated by commas: {', '.join(SECTIONS)}.  "
    f"[default: {','.join(DEFAULT)}]",
)
@click.option("--one-pass", is_flag=True, help="The same as --only one-pass.")
@click.option(
    "--profile",
    is_flag=True,
    help="Instead, where the time of a photo goes: decode, resize, the model and its parts, "
    "scores, labels, encode, write; one photo after the other, then side by side as in segment.",
)
@click.option(
    "--trace",
    type=_FILE,
    metavar="FILE.json",
    help="Write that as a timeline for chrome://tracing or Perfetto.",
)
@click.option(
    "--photos",
    type=click.IntRange(1),
    help="Photos that are made up for throughput and --profile.  "
    f"[default: {_PHOTOS}; --profile: {_PROFILED}]",
)
@click.option(
    "--runs",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Runs of everything; medians are shown.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="A JSON object per figure, and before them one about the machine.",
)
@click.option("--plot", type=Suffixed(".png"), metavar="FILE.png", help="Draw the figures, too.")
@click.option(
    "--store", type=_FILE, metavar="FILE.json", help="Keep the figures, for a later --compare."
)
@click.option(
    "--compare",
    type=_FILE,
    metavar="FILE.json",
    help="Show each figure's ratio to the one in a file of --store; worse ones are marked, and "
    "then the exit code is 1.",
)
@click.option(
    "--tolerance",
    type=Tolerance(),
    metavar="P%",
    default="15%",
    show_default=True,
    help="With --compare: how much slower, or larger, is no regression yet.",
)
@compute_options(names=False)
@common_options
def command(
    inputs: tuple[str, ...],
    only: tuple[str, ...] | None,
    one_pass: bool,
    profile: bool,
    photos: int | None,
    compute: Compute,
    **options: Any,
) -> int:
    """Measure speed and memory. Other work on the machine disturbs it.

    \b
      start       what is waited for before the first photo
      throughput  photos a second with their files, and the model alone
      names       cost against 10 to 10 000 names, on 12 megapixels
      masks       cost against 25 to 200 masks (DeOP, random weights)
      sizes       cost against 0.2 to 50 megapixels
      batches     photos a second at several sizes and batches
      models      DeOP, SAN, plain CLIP (published sizes, random weights), the
                  two-stream way and --model, on the same photos
      one-pass    DeOP's one pass in parts, against the two-stream way

    PHOTO is for models and --profile; without it photos are made up. Names' text features are
    computed beforehand. By default it takes some minutes.

    \b
    Example:
      ovseg bench --only names,sizes --store before.json
      ovseg bench --only names,sizes --compare before.json --tolerance 20%
    """
    from ovseg_cli.cli import bench_run

    if profile and (only is not None or one_pass):
        raise UsageError("--profile is a measurement of its own: leave out --only and --one-pass")
    if options["trace"] is not None and not profile:
        raise UsageError("--trace is the timeline of --profile: add that")
    if only is not None and one_pass:
        raise UsageError("--one-pass is --only one-pass: leave out one of them")
    sections = ("one-pass",) if one_pass else only or DEFAULT
    require_sections(sections)
    if inputs and not profile and "models" not in sections:
        raise UsageError("photos are for --profile and --only models; other sections make them up")
    request = bench_run.Request(
        sections=() if profile else sections,
        compute=compute,
        given=_given_options(),
        inputs=inputs,
        photos=photos or (_PROFILED if profile else _PHOTOS),
        **options,
    )
    return bench_run.execute(request)


def _given_options() -> tuple[str, ...]:
    """The options of the chosen model that were typed, as `ovseg segment` takes them."""
    context = click.get_current_context()
    for name in ("exemplar", "rivals"):
        if context.params[name]:
            raise UsageError(f"--{name} is no part of the benchmark: its names are made up")
    typed = typed_options()
    return tuple(
        f"--{name.replace('_', '-')}={context.params[name]}"
        for name in (field.name for field in fields(Compute))
        if name in typed and context.params[name] is not None
    )
