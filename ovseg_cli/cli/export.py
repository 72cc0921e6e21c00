"""`ovseg export`: a finished run in the formats of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.option_types import Listed, Place
from ovseg_cli.cli.options import common_options, max_pixels_option, typed_options
from ovseg_cli.errors import InputError, OvsegError, UsageError
from ovseg_cli.printable import printable, quantity
from ovseg_cli.run_folder.layout import EXPORTS

if TYPE_CHECKING:
    from ovseg_cli.formats import Format
    from ovseg_cli.formats.labelled import LabelledRun
    from ovseg_cli.formats.options import ExportOptions


class _Folder(click.Path):
    """An output folder on a disk."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Check what was typed."""
        from ovseg_cli.storage.store import on_disk

        if isinstance(value, str) and on_disk(value) is None:
            raise UsageError(
                f"{printable(value)}: formats are made of label maps in a folder, not in an object "
                "store: copy OUT into a folder and name that"
            )
        return super().convert(value, param, ctx)


_FORMAT_OF = {"annotations": "coco", "class_name": "cutout", "photos_at": "label-studio"}


@click.command("export", short_help="A finished run in the formats of other programs.")
@click.argument("out", metavar="OUT", type=_Folder(path_type=Path))
@click.option(
    "--to",
    "names",
    type=Listed("coco"),
    metavar="FORMATS",
    required=True,
    help="Separated by commas: coco, coco-panoptic, yolo, voc, cvat, label-studio, svg, geojson, "
    "geotiff, cutout, masks.",
)
@click.option(
    "-o",
    "--output",
    type=Place(path_type=Path),
    metavar="DIR",
    help="Where each format gets a folder of its name.  [default: OUT/exports]",
)
@click.option(
    "--annotations",
    type=click.Choice(["region", "class"]),
    default="region",
    show_default=True,
    help="coco: an annotation for each connected region, or for each class of a photo.",
)
@click.option("--class", "class_name", metavar="NAME", help="cutout: the class that is kept.")
@click.option(
    "--photos-at",
    metavar="URL",
    default="/data/local-files/?d=",
    show_default=True,
    help="label-studio: what comes before the photos' names; the default is of its local storage.",
)
@max_pixels_option(help="Label maps of more pixels fail.  [default: 100 million]")
@common_options
def command(
    out: Path, names: tuple[str, ...], output: Path | None, max_pixels: int | None, **options: Any
) -> None:
    """Write the results of `ovseg segment` in OUT as files that other programs read.

    The label maps are needed: labels in --save, as it is by default. The run may have been
    interrupted. What a format cannot hold (more than 255 classes in voc and cvat) is an error; a
    photo that is gone or damaged is left out and named, with exit code 1.

    \b
      coco           instances.json: masks as run lengths, for pycocotools
      coco-panoptic  panoptic.json and panoptic/REL.png
      yolo           labels/REL.txt, images/ (links to the photos), data.yaml
      voc            SegmentationClass/REL.png (255 = void), labelmap.txt, ImageSets/
      cvat           annotations.zip, "Segmentation mask 1.1"
      label-studio   tasks.json with brush masks, labeling_config.xml
      svg            REL.svg: outlines of each class
      geojson        REL.geojson: polygons in the coordinates of the photo, a GeoTIFF
      geotiff        REL.tif: label map with the coordinates of the photo
      cutout         REL.png: the photo where it is of one class, else transparent
      masks          REL/ID-NAME.png: 255 where the class is

    \b
    Example:
      ovseg export results --to coco,cvat
    """
    _refuse_idle(names)
    from ovseg_cli.formats import select
    from ovseg_cli.formats.labelled import MAX_PIXELS
    from ovseg_cli.formats.options import ExportOptions

    formats = select(names)
    folder = output or out / EXPORTS
    write_formats(out, formats, folder, ExportOptions(**options), max_pixels or MAX_PIXELS)


def _refuse_idle(names: Sequence[str]) -> None:
    """Raise UsageError for an option that was typed but would change nothing."""
    typed = typed_options()
    for option, name in _FORMAT_OF.items():
        if option in typed and name not in names:
            raise UsageError(f"{typed[option]} is for {name}, which is not among --to")


def write_formats(
    out: Path,
    formats: Sequence[Format],
    folder: Path,
    options: ExportOptions,
    max_pixels: int,
    *,
    wait: bool = False,
) -> None:
    """Write the run in `out` in each format, into a folder of its name.

    max_pixels: as of `LabelledRun`; wait: for the end of another that writes to `folder`, who is
    an error else. Raises OvsegError; where photos or formats fail, the others are written before.
    """
    from ovseg_cli.formats.labelled import LabelledRun
    from ovseg_cli.links import refuse_links_within
    from ovseg_cli.run_folder.finished_run import read_classes
    from ovseg_cli.run_folder.run_lock import holding

    classes = read_classes(out)
    for entry in formats:  # before the work on any
        entry.check(len(classes), options)
    refuse_links_within(out, folder)
    # What is finished is read within: else one that has begun earlier, knowing less, would replace
    # and remove what another has written meanwhile.
    with holding(folder, EXPORTS, wait=wait):
        _write_formats(LabelledRun(out, max_pixels), formats, folder, options)


def _write_formats(
    run: LabelledRun, formats: Sequence[Format], folder: Path, options: ExportOptions
) -> None:
    from ovseg_cli.formats import export

    refused: list[OvsegError] = []  # by formats that have written nothing
    failures: dict[str, list[str]] = {}  # what was said, by which formats
    for entry in formats:
        photos = run.anew()
        try:
            with console.progress(len(photos)) as progress:
                photos.seen = progress.advance
                files = export(photos, entry, folder / entry.name, options)
        except (InputError, UsageError) as error:  # what one format cannot hold another may
            console.trace(error)
            refused.append(error)
            for said in str(error).splitlines():
                failures.setdefault(said, []).append(entry.name)
            continue
        for left_out in photos.left_out.values():
            console.trace(left_out)
            failures.setdefault(str(left_out), []).append(entry.name)
        done = f"{quantity(files, 'file')} of {quantity(len(photos), 'photo')}"
        console.note(f"{entry.name}: {done}: {folder / entry.name}")
    if len(refused) == len(formats) and len({str(error) for error in refused}) == 1:
        raise refused[0]  # what holds for all is said once
    if failures:
        all_names = [entry.name for entry in formats]
        raise InputError(
            "\n".join(
                said if names == all_names else f"{', '.join(names)}: {said}"
                for said, names in failures.items()
            )
        )
