"""`ovseg segment`: photos and class names in, overlays, label maps and area tables out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.compute import Compute
from ovseg_cli.cli.compute_options import compute_options
from ovseg_cli.cli.engine_options import Engine, choose_place, engine_options, tar_size_option
from ovseg_cli.cli.option_types import Listed
from ovseg_cli.cli.options import (
    common_options,
    max_pixels_option,
    outcome_options,
    vocabulary_options,
    with_other,
    work_options,
)
from ovseg_cli.cli.segment_inputs import find
from ovseg_cli.cli.vocabulary_echo import echo_vocabulary
from ovseg_cli.cores import available_cores
from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.printable import quantity
from ovseg_cli.run_folder.shard import SLURM_INDEX, Shard
from ovseg_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovseg_cli.formats import Format
    from ovseg_cli.media.window import Window

DEFAULT_OUTPUT = "ovseg-out"
DEFAULT_SAVE = "overlay,labels,stats"


@click.command("segment", short_help="Overlays, label maps and area tables of photos.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@vocabulary_options(auto=True)
@outcome_options(DEFAULT_OUTPUT)
@click.option(
    "--save",
    "names",
    type=Listed("labels"),
    metavar="NAMES",
    default=DEFAULT_SAVE,
    show_default=True,
    help="What is written, separated by commas: overlay, labels, palette (coloured label map), "
    "masks, confidence, npz (labels and confidence for NumPy), stats (stats.csv and summary.csv); "
    "at the end of the run also any format of 'ovseg export', as coco.",
)
@click.option("-r", "--recursive", is_flag=True, help="Search folders within folders, too.")
@click.option("-0", "--null", is_flag=True, help="Paths on standard input end in a zero byte.")
@click.option("--resume", is_flag=True, help="Do only what an earlier run has not finished.")
@click.option("--overwrite", is_flag=True, help="Remove an earlier run's results from OUT first.")
@click.option("--no-exif", is_flag=True, help="Ignore the EXIF orientation of photos.")
@max_pixels_option(
    help="Photos of more pixels fail.  [default: about 179 million; WebP, JPEG 2000, AVIF: 80]",
)
@compute_options()
@work_options
@engine_options
@tar_size_option
@click.option("--json", "as_json", is_flag=True, help="A JSON object per photo on standard output.")
@click.option(
    "--show", is_flag=True, help="Show the overlays in a window as they become ready; q closes it."
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only list what would be read and written; --resume passes over what of it is finished.",
)
@common_options
def command(
    inputs: tuple[str, ...],
    vocabulary: Vocabulary | None,
    other: str | None,
    threshold: float | None,
    compute: Compute,
    engine: Engine,
    shard: Shard | None,
    names: tuple[str, ...],
    recursive: bool,
    null: bool,
    as_json: bool,
    show: bool,
    dry_run: bool,
    **options: Any,
) -> int:
    """Give every pixel of photos one of your class names.

    INPUT is a photo, a folder, a pattern such as 'photos/*.jpg', tar shards such as
    'shards-{000..099}.tar', or - for a list of paths on standard input, one a line, none of which
    is a pattern. Inputs and OUT may be in an object store, as s3://bucket/photos. A photo's results
    bear its path within the folder given:

    \b
      OUT/overlays/REL.jpg  the photo tinted by class, with a legend
      OUT/labels/REL.png    value = class id; 255 (16-bit: 65535) = unlabelled
      OUT/stats.csv         pixels, share and mean confidence by photo and class
      OUT/summary.csv       pixels and share by class over all photos
      OUT/classes.json      ids, names, synonyms and colours
      OUT/run.json          model, options, timing, counts, failures

    \b
    Exit codes: 0 all done, 1 some photos failed (each is named), 2 wrong usage,
    130 interrupted (143 by SIGTERM): what is there is whole, --resume goes on.

    \b
    Example:
      ovseg segment photos -r --classes "sky, road, car|automobile" -o results
    """
    from ovseg_cli.cli import segment_run
    from ovseg_cli.cli.segment_plan import Plan
    from ovseg_cli.exports import OVERLAY, select
    from ovseg_cli.formats import FORMATS
    from ovseg_cli.run_folder.earlier_results import ResultsThere
    from ovseg_cli.run_folder.parts import division_of
    from ovseg_cli.run_folder.tables import STATS
    from ovseg_cli.storage.destination import Destination

    if options["resume"] and options["overwrite"]:
        raise UsageError("--resume and --overwrite exclude each other")
    # Those on a disk; of a store see `Destination.without_results`.
    results = Destination(options["output"]).results_on_disk()
    found = find(inputs, recursive, null, results, in_parts=shard is not None)
    if vocabulary is None:
        from ovseg_cli.cli.auto_names import auto_vocabulary, sample_photos

        unread: list[InputError] = []
        sample = sample_photos(found, not options["no_exif"], unread, options["max_pixels"])
        vocabulary = auto_vocabulary(compute, sample, unread, other)
    labelled = with_other(vocabulary, other)
    if show and OVERLAY not in names:
        raise UsageError(f"--show shows the overlays: add {OVERLAY} to --save")
    writers = select(names, labelled, others=[STATS, *FORMATS])
    formats = _formats(names, len(labelled))
    destination = choose_place(
        options["output"], options["tar_size"], shard=shard, formats=formats, show=show
    )
    output = destination.folder(writers, stats=STATS in names, part=str(shard) if shard else "")
    images = destination.without_results(found)
    try:
        output.check(resume=options["resume"], overwrite=options["overwrite"])
    except ResultsThere:
        output.require_free()  # of a run that is still at work nobody is told to replace it
        raise
    plan = Plan(
        images=images,
        shard=shard,
        division=None
        if shard is None
        else division_of(output.root, shard, images, anew=options["overwrite"]),
        vocabulary=vocabulary,
        other=other,
        threshold=threshold,
        output=output,
        destination=destination,
        engine=engine,
        formats=formats,
        resume=options["resume"],
        overwrite=options["overwrite"],
        max_errors=options["max_errors"],
        compute=compute,
        exif=not options["no_exif"],
        max_pixels=options["max_pixels"],
        batch_size=options["batch_size"],
        workers=options["workers"] or min(8, available_cores()),
        as_json=as_json,
        arguments=tuple(click.get_current_context().obj or ()),
    )
    echo_vocabulary(labelled, other, compute.rivals)
    _say_how_many(len(plan.own_images), shard, len(images))
    if dry_run:
        compute.require_model()
        segment_run.list_work(plan)
        return 0
    return segment_run.execute(plan, _open_window() if show else None)


def _say_how_many(photos: int, shard: Shard | None, everywhere: int) -> None:
    part = f": part {shard.index} of {shard.count} of {everywhere}" if shard else ""
    console.note(f"{quantity(photos, 'photo')} to segment{part}")
    if shard is None and SLURM_INDEX in os.environ:
        console.note(
            f"{SLURM_INDEX} is set, but this task does the work of all: "
            "--shard slurm gives each task of an array its part"
        )


def _formats(names: tuple[str, ...], classes: int) -> list[Format]:
    """What is made of the label maps in the end; raises UsageError where that cannot be."""
    from ovseg_cli.exports import LABELS, WRITERS
    from ovseg_cli.formats import FORMATS, select
    from ovseg_cli.formats.options import ExportOptions

    formats = select(name for name in names if name in FORMATS and name not in WRITERS)
    for entry in formats:
        entry.check(classes, ExportOptions())
    if formats and LABELS not in names:
        raise UsageError(f"--save {formats[0].name} is made of the label maps: add {LABELS}")
    return formats


def _open_window() -> Window:
    """Before the model is loaded, so that a machine without a screen says so at once."""
    from ovseg_cli.media.window import Window

    return Window()
