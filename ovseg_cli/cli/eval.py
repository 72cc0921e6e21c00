"""`ovseg eval`: how right the label maps are, against ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.options import Compute, common_options, compute_options, listed_names
from ovseg_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovseg_cli.data.pixel_set import PixelSet
    from ovseg_cli.vocabulary import ClassName


@click.command("eval", short_help="mIoU against labelled photos.")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A labelled set: images/KEY.jpg, labels/KEY.png, SPLIT.txt and classes.json; or, with "
    "--benchmark, where that lies.",
)
@click.option(
    "--benchmark",
    "benchmark_name",
    metavar="NAME",
    help="The set is a public benchmark as it is downloaded: voc20, voc21, pc59, pc60, pc459, "
    "ade150, coco171, coco80, coco81, cityscapes19 or camvid11. A DIR that does not hold it gives "
    "an error that says where it is to be had.",
)
@click.option(
    "--split", help="Which list of photos.  [default: val, or what the benchmark is scored on]"
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
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@compute_options
@common_options
def command(
    data: Path,
    benchmark_name: str | None,
    split: str | None,
    unseen: str | None,
    only: str | None,
    rename: str | None,
    as_json: bool,
    compute: Compute,
) -> None:
    """Segment the photos of a labelled set with its own names and count what is right.

    One confusion matrix over all photos; pixels labelled 255 are left out. Where the set has a
    class named background, that is what fits none of the names, as with --other. Benchmarks are
    scored with the class names, and synonyms, of the preset of that name.
    """
    from ovseg_cli.data.benchmarks import benchmark, open_benchmark
    from ovseg_cli.data.pixel_set import BACKGROUND, read_pixel_set
    from ovseg_cli.evaluation import ConfusionMatrix, evaluate
    from ovseg_cli.vocabulary import Vocabulary, preset

    entry = benchmark(benchmark_name) if benchmark_name else None
    split = split or (entry.splits[0] if entry else "val")
    photos = open_benchmark(entry, data, split) if entry else read_pixel_set(data, split)
    if only:
        photos = photos.only(listed_names(only).names)
    unseen_names = listed_names(unseen).names if unseen else entry.unseen if entry else ()
    unseen_ids = [] if only and not unseen else photos.positions(unseen_names)
    words = _renamed(photos, preset(entry.classes).classes if entry else (), rename or "")
    other = BACKGROUND if photos.has_other else None
    segmenter = compute.segmenter(Vocabulary(words), other=other)
    names = (*photos.names, BACKGROUND) if photos.has_other else photos.names
    matrix = ConfusionMatrix(len(names))
    with console.progress(len(photos.keys)) as progress:
        for _ in evaluate(segmenter, photos, matrix):
            progress.advance()
    iou = dict(zip(names, matrix.iou().tolist(), strict=True))
    scores = {
        "mIoU": matrix.mean_iou(),
        "fwIoU": matrix.frequency_weighted_iou(),
        "mean_accuracy": matrix.mean_accuracy(),
        "pixel_accuracy": matrix.pixel_accuracy(),
    }
    if unseen_ids:
        scores |= {
            "mIoU_seen": matrix.mean_iou(matrix.others(unseen_ids)),
            "mIoU_unseen": matrix.mean_iou(unseen_ids),
            "hIoU": matrix.harmonic_iou(unseen_ids),
        }
    if as_json:
        record = {"data": photos.name, "split": split, **_without_nan(scores)}
        console.json_line({**record, "iou": _without_nan(iou)})
        return
    for name, value in {**iou, **scores}.items():
        console.data(f"{name:<24} {value:.4f}")


def _renamed(photos: PixelSet, synonyms: Sequence[ClassName], text: str) -> list[str | ClassName]:
    """The set's names, with synonyms where it has some, and replaced where `text` has another."""
    known = {entry.name: entry for entry in synonyms}
    words: list[str | ClassName] = [known.get(name, name) for name in photos.names]
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, equals, word = (part.strip() for part in pair.partition("="))
        if not equals or not word:
            raise UsageError(f"--rename {pair!r} is not NAME=WORD")
        words[photos.positions([name])[0]] = word
    return words


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: None if value != value else value for name, value in values.items()}
