"""`ovseg eval`: how right the label maps are, against ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import click

from ovseg_cli.cli import eval_run
from ovseg_cli.cli.compute import Compute
from ovseg_cli.cli.compute_options import compute_options
from ovseg_cli.cli.options import common_options, threshold_option, typed_options
from ovseg_cli.cli.suffixed import Suffixed
from ovseg_cli.errors import UsageError

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("eval", short_help="mIoU against labelled photos.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A labelled set: images/KEY.jpg, labels/KEY.png, SPLIT.txt and classes.json; or, with "
    "--benchmark, where that lies.  [required]",
)
@click.option(
    "--benchmark",
    "benchmark_name",
    metavar="NAME",
    help="The set is a public benchmark as it is downloaded: voc20, voc21, pc59, pc60, pc459, "
    "ade150, ade847, coco171, coco80, coco81, cityscapes19 or camvid11. Without --data, or where "
    "DIR does not hold it, an error says where it is to be had.",
)
@click.option(
    "--split", help="Which list of photos.  [default: val, or what the benchmark is scored on]"
)
@click.option(
    "--predictions",
    type=_FOLDER,
    metavar="DIR",
    help="Score the label maps DIR/KEY.png that any program made; no model is loaded. PNG of 1 to "
    "16 bits, as large as the photo; 255, in 16 bits 65535, is unlabelled.",
)
@click.option(
    "--prediction-ids",
    type=click.Choice(["names", "position", "file"]),
    default="names",
    show_default=True,
    help="What a value in those means: the class that the file itself names, as those of 'ovseg "
    "segment' do, in others as position (names); the class's position among all of the set's names "
    "from 0, background coming after the last (position); or the same as in the set's own label "
    "files (file).",
)
@click.option(
    "--unseen",
    metavar="NAMES",
    help="Names that the model was not trained on, separated by commas, or @FILE: their mIoU, that "
    "of the others and the harmonic mean are given, too.",
)
@click.option(
    "--only",
    metavar="NAMES",
    help="Name these classes alone, separated by commas, or @FILE; the pixels of all others fit "
    "none of the names.",
)
@click.option(
    "--rename",
    metavar="NAME=WORD,...",
    help="Tell the model another word for some names, such as car=automobile,road=street.",
)
@threshold_option
@click.option(
    "--tune",
    is_flag=True,
    help="Find the --threshold with the best mIoU on these photos, to 0.005. Report a score on "
    "other photos than those it was found on.",
)
@click.option(
    "--compare",
    "compared",
    multiple=True,
    metavar="OPTION=A,B,...",
    help="One table of the scores with each of these values of an option that says how the model "
    "works, such as model=mini,clip-vit-b-16 or templates=single,vild; given several times, of "
    "every combination.",
)
@click.option("--csv", "csv_file", type=_FILE, metavar="FILE", help="Write a row per class.")
@click.option(
    "--photos",
    "photos_file",
    type=_FILE,
    metavar="FILE",
    help="Write a row per photo as CSV, worst mIoU first.",
)
@click.option(
    "--confusion",
    type=Suffixed(".png"),
    metavar="FILE.png",
    help="Draw the confusion matrix: the share of each class's pixels that every class took.",
)
@click.option(
    "--worst-dir",
    type=_FOLDER,
    metavar="DIR",
    help="Write the worst photos there, tinted by prediction and by truth, side by side; those of "
    "an earlier call are removed.",
)
@click.option(
    "--worst",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    metavar="N",
    help="How many of them.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@compute_options(new_classes=False)
@common_options
def command(**options: Any) -> int:
    """Segment the photos of a labelled set with its own names and count what is right.

    One confusion matrix over all photos; pixels labelled 255, or 65535 in 16 bits, are left out.
    Where the set has a class named background, that is what fits none of the names, as with
    --other; pixels left unlabelled count as background there, elsewhere as wrong. Benchmarks are
    scored with the class names, and synonyms, of the preset of that name. mIoU is the mean over the
    classes that occur: one that is predicted but is nowhere in the truth counts as 0, as
    MMSegmentation has it.

    Photos of your own are turned upright after their EXIF data, as 'ovseg segment' does it, unless
    only unturned they have the size of their label map.

    Boundary IoU compares only the band along each class's border whose width is 2 % of the photo's
    diagonal (Cheng et al., 2021). accuracy_small, _medium and _large are the shares of right pixels
    in connected regions of the truth below 1 %, below 10 % and from 10 % of the photo's area.

    Exit codes: 0 all done, 1 some photos could not be scored or files not written (each is named),
    2 wrong usage.
    """
    _refuse_idle(options)
    if options["data"] is None:
        _require_data(options["benchmark_name"])
    return eval_run.run(eval_run.Request(**options))


def _require_data(benchmark_name: str | None) -> NoReturn:
    """Raise what tells that --data is missing, and where a benchmark for it is to be had."""
    if benchmark_name is None:
        context = click.get_current_context()
        option = next(each for each in context.command.params if each.name == "data")
        raise click.MissingParameter(ctx=context, param=option)
    from ovseg_cli.data.benchmarks import benchmark

    raise UsageError(
        f"--benchmark {benchmark_name} without --data DIR, the folder it was downloaded to. "
        f"{benchmark(benchmark_name).whereabouts}"
    )


def _refuse_idle(options: Mapping[str, Any]) -> None:
    """Raise UsageError for an option that was typed but would change nothing."""
    typed = typed_options()
    if options["predictions"] is not None:
        of_model = {"exemplar", *(field.name for field in fields(Compute))}
        for name, option in typed.items():
            if name in of_model:
                raise UsageError(
                    f"--predictions and {option} exclude each other: no model is asked"
                )
    elif "prediction_ids" in typed:
        raise UsageError(
            "--prediction-ids without --predictions DIR: there are no label maps to read"
        )
    if "worst" in typed and options["worst_dir"] is None:
        raise UsageError("--worst without --worst-dir DIR: no photos are written")
