"""`ovseg eval`: how right the label maps are, against ground truth."""

from __future__ import annotations

from pathlib import Path

import click

from ovseg_cli.cli import console
from ovseg_cli.cli.options import Compute, common_options, compute_options


@click.command("eval", short_help="mIoU against labelled photos.")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A labelled set: images/KEY.jpg, labels/KEY.png, SPLIT.txt and classes.json.",
)
@click.option("--split", default="val", show_default=True, help="Which list of photos.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@compute_options
@common_options
def command(data: Path, split: str, as_json: bool, compute: Compute) -> None:
    """Segment the photos of a labelled set with its own names and count what is right.

    One confusion matrix over all photos; pixels labelled 255 are left out. Where the set has a
    class named background, that is what fits none of the names, as with --other.
    """
    from ovseg_cli.data.pixel_set import BACKGROUND, read_pixel_set
    from ovseg_cli.evaluation import ConfusionMatrix, evaluate
    from ovseg_cli.segmenter import Segmenter, load_model
    from ovseg_cli.vocabulary import Vocabulary

    photos = read_pixel_set(data, split)
    other = None if photos.background_id is None else BACKGROUND
    model = load_model(compute.model, device=compute.device, precision=compute.precision)
    segmenter = Segmenter(model, Vocabulary(photos.names), other=other)
    names = segmenter.vocabulary.names
    matrix = ConfusionMatrix(len(names))
    with console.progress(len(photos.keys)) as progress:
        for _ in evaluate(segmenter, photos, matrix):
            progress.advance()
    iou = dict(zip(names, matrix.iou().tolist(), strict=True))
    scores = {"mIoU": matrix.mean_iou(), "pixel_accuracy": matrix.pixel_accuracy()}
    if as_json:
        shown = {name: None if value != value else value for name, value in iou.items()}
        console.json_line({"data": photos.name, "split": split, **scores, "iou": shown})
        return
    for name, value in {**iou, **scores}.items():
        console.data(f"{name:<24} {value:.4f}")
