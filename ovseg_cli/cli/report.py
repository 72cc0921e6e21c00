"""`ovseg report`: one HTML page of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.option_types import Place
from ovseg_cli.cli.options import common_options, max_pixels_option, typed_options
from ovseg_cli.errors import UsageError
from ovseg_cli.printable import printable, some_of
from ovseg_cli.run_folder.layout import PAGE

if TYPE_CHECKING:
    from ovseg_cli.report.accuracy import Accuracy
    from ovseg_cli.report.thumbnails import Thumbnails
    from ovseg_cli.run_folder.finished_run import FinishedRun


@click.command("report", short_help="One HTML page of a finished run.")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Labels of the photos, as in 'ovseg eval': images/KEY.jpg, labels/KEY.png, SPLIT.txt and "
    "classes.json. The page then says how right each photo is.",
)
@click.option(
    "--split", default="val", show_default=True, help="Which list of the labelled photos."
)
@click.option(
    "-o",
    "--output",
    type=Place(path_type=Path),
    metavar="FILE",
    help=f"The page.  [default: OUT/{PAGE}]",
)
@max_pixels_option(
    help="Photos of more pixels are not shown, their overlays are.  [default: about 179 million; "
    "WebP, JPEG 2000, AVIF: 80]"
)
@common_options
def command(
    out: Path, data: Path | None, split: str, output: Path | None, max_pixels: int | None
) -> None:
    """Make a page to look through the results of `ovseg segment` in OUT.

    It shows the totals of the classes, every photo with a slider between photo and overlay, the
    least confident first, filters by name, class, area and confidence, failures with their
    reasons, and what was run. It opens from disk and asks no network for anything. Its pictures
    are in it, so that it can be sent as it is. Those of a large run, of more than 24 MB, lie beside
    it in a folder of its name, report-files: they belong together.

    \b
    Example:
      ovseg report results
    """
    if data is None and "split" in typed_options():
        raise UsageError("--split without --data DIR: there are no labelled photos to list")
    from ovseg_cli.media.images import MAX_PIXELS
    from ovseg_cli.report.page import thumbnails_folder, write_page
    from ovseg_cli.report.thumbnails import write_thumbnails
    from ovseg_cli.run_folder.finished_run import of_clips, read_run

    target = output or out / PAGE
    if target.is_dir():
        raise UsageError(f"{printable(str(target))} is a folder: -o names the page, a file")
    run = read_run(out)
    if not (run.photos or run.failures or run.record):
        raise UsageError(
            f"{printable(str(out))} holds no finished photo: nothing to report{of_clips(out)}"
        )
    accuracy = None if data is None else _accuracy(run, data, split)
    limit = max_pixels or MAX_PIXELS
    thumbnails = []
    folder = thumbnails_folder(target)
    with console.progress(len(run.photos)) as progress:
        for made in write_thumbnails(run, folder, limit):
            thumbnails.append(made)
            progress.advance()
    _tell_too_large(run, thumbnails, max_pixels)
    alone = write_page(target, run, thumbnails, accuracy)
    console.note(f"{len(run.photos)} done, {len(run.failures)} failed: {target}")
    if not alone:
        console.note(f"its pictures are too many for one file and lie in {folder}: copy both")


def _tell_too_large(
    run: FinishedRun, thumbnails: Sequence[Thumbnails], max_pixels: int | None
) -> None:
    from ovseg_cli.report.thumbnails import TOO_LARGE

    large = [
        photo.entry.width * photo.entry.height
        for photo, small in zip(run.photos, thumbnails, strict=True)
        if small.missing == TOO_LARGE
    ]
    if large:
        limit = (
            "their format's limit" if max_pixels is None else f"the limit of {max_pixels} pixels"
        )
        console.warning(
            f"{len(large)} of the photos exceed {limit} and are not shown; to read them all the "
            f"same: --max-pixels {max(large)}"
        )


def _accuracy(run: FinishedRun, data: Path, split: str) -> Accuracy:
    from ovseg_cli.data.pixel_set import read_pixel_set, unknown_ids
    from ovseg_cli.report import accuracy

    labelled = read_pixel_set(data, split)
    found = accuracy.begin(run, labelled)
    with console.progress(len(labelled.keys)) as progress:
        for _ in accuracy.measure(run, found):
            progress.advance()
    photos, keys = len(run.photos), len(labelled.keys)
    console.note(f"{found.labelled} of {photos} photos have labels among the {keys} of {split}")
    if found.other_size:
        console.warning(f"{len(found.other_size)} left out: their labels have another size")
    if found.unread:
        reasons = some_of(list(found.unread.values()), 2)
        console.warning(f"{len(found.unread)} left out, whose labels cannot be read: {reasons}")
    if found.photos:
        try:
            left_out = unknown_ids(labelled.name, int(found.matrix.counts.sum()), found.strangers)
        except UsageError as nothing_counts:  # the page is of use all the same
            left_out = str(nothing_counts)
        if left_out:
            console.warning(left_out)
    if found.not_named:
        console.warning(f"the run has no name for {', '.join(found.not_named)}")
    return found
