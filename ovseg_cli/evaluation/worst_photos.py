"""The photos that went worst, to be looked at: prediction and truth side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ovseg_cli.data.pixel_set import PixelSet
from ovseg_cli.evaluation.run import Evaluation
from ovseg_cli.exports import slug, write_jpeg
from ovseg_cli.frame import Frame
from ovseg_cli.legend import PAPER, drawable
from ovseg_cli.render import overlay
from ovseg_cli.segmentation import UNLABELED, Segmentation
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.whole_files import output_errors

GAP = 12  # pixels between the two
_INK = (32, 32, 32)


def write_worst(
    folder: Path, data: PixelSet, names: Sequence[str], evaluation: Evaluation
) -> list[Path]:
    """Write FOLDER/RANK-KEY.jpg for each photo that `evaluation` kept, the worst as 01.

    Pictures of this set's photos that an earlier call has left there are removed. names: of all
    classes, background included. Returns the files. Raises OutputError.
    """
    vocabulary, files = Vocabulary(names), []
    for rank, (score, labels) in enumerate(evaluation.worst, start=1):
        image, truth = data.load(score.key)
        true = np.where(truth == data.ignore, UNLABELED, truth.astype(np.int32))
        frame = Frame(image, source=score.key)
        picture = side_by_side(
            frame,
            (f"prediction, mIoU {score.mean_iou:.3f}", _segmentation(labels, vocabulary)),
            ("truth", _segmentation(true, vocabulary)),
        )
        files += write_jpeg(folder / f"{rank:02}-{slug(score.key)}.jpg", picture)
    _remove_earlier(folder, data, files)
    return files


def _remove_earlier(folder: Path, data: PixelSet, written: Sequence[Path]) -> None:
    """Remove RANK-KEY.jpg of any rank and of this set's keys alone: others may be their user's."""
    ours = set(map(slug, data.keys))
    with output_errors(folder):
        for file in set(folder.glob("*.jpg")).difference(written):
            named = re.fullmatch(r"[0-9]{2,4}-(.*)", file.stem)
            if named and named[1] in ours and file.is_file():
                file.unlink()


def _segmentation(labels: np.ndarray, vocabulary: Vocabulary) -> Segmentation:
    certain = np.ones(labels.shape, np.float32)
    return Segmentation(labels.astype(np.int32), certain, vocabulary)


def side_by_side(frame: Frame, *titled: tuple[str, Segmentation]) -> Image.Image:
    """The photo tinted by each segmentation, its title above and its legend below."""
    overlays = [overlay(frame, segmentation) for _, segmentation in titled]
    letters = max(12, round(0.036 * min(frame.size_hw)))
    head = 2 * letters
    width = sum(picture.width for picture in overlays) + GAP * (len(overlays) - 1)
    height = head + max(picture.height for picture in overlays)
    canvas = Image.new("RGB", (width, height), PAPER)
    draw, left = ImageDraw.Draw(canvas), 0
    for picture, (title, _) in zip(overlays, titled, strict=True):
        text, font = drawable(title, letters)
        draw.text((left + letters // 2, head // 2), text, _INK, font, "lm")
        canvas.paste(picture, (left, head))
        left += picture.width + GAP
    return canvas
