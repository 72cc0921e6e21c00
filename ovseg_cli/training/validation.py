"""Scores on a val split, as the stages ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ovseg_cli.data.pixel_set import PixelSet, named_set
from ovseg_cli.data.transforms import resize_photo
from ovseg_cli.evaluation.confusion import ConfusionMatrix
from ovseg_cli.model.label_map import label_map
from ovseg_cli.model.network import Network, TextFeatures
from ovseg_cli.model.score_map import score_map

# A photo (1, 3, h, w) in 0..255 and the size H×W of its labels -> labels (H, W).
SizeHW = tuple[int, int]
Predict = Callable[[Tensor, SizeHW], Tensor]


def val_sets(data: Path, names: Iterable[str]) -> dict[str, PixelSet]:
    """The val splits of these sets; raises UsageError, also where one lacks files.

    Raises InputError for a photo or a label map that is damaged or does not fit the other. For
    stages to ask for before they learn: what is wrong is said before it costs time, so all photos
    are read once.
    """
    sets = {name: named_set(data, name, "val") for name in names}
    for found in sets.values():
        for key in found.keys:
            found.load_stored(key)
    return sets


def photos(
    data: PixelSet, shorter: int, device: torch.device, longest: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each photo (1, 3, h, w) in 0..255, see `resize_photo`, and its labels (H, W) int64."""
    for key in data.keys:
        image, labels = data.load(key)
        seen = resize_photo(image, shorter, device, longest)
        yield seen, torch.from_numpy(labels).long().to(device)


def mean_iou(
    data: PixelSet,
    shorter: int,
    device: torch.device,
    predict: Predict,
    longest: int | None = None,
) -> float:
    """mIoU over the set's names, in 0..1, NaN where no pixel counts.

    shorter, longest: sides of the photos as the model sees them, pixels, see `resize_photo`.
    Background takes part as a rival but has no IoU.
    """
    matrix = ConfusionMatrix(len(data.names) + 1)
    for image, labels in photos(data, shorter, device, longest):
        prediction = predict(image, (labels.shape[0], labels.shape[1]))
        matrix.add(labels.cpu().numpy(), prediction.cpu().numpy())
    return matrix.mean_iou(range(len(data.names)))


def region_ious(
    model: Network,
    sets: Mapping[str, PixelSet],
    text: Mapping[str, TextFeatures],
    shorter: int,
    device: torch.device,
    proposals: str,
) -> dict[str, float]:
    """`mean_iou` of each set by a model as it names its proposals ("queries") or patches ("grid").

    text: of each set's names; of long thin photos the longer side is bounded as `ovseg eval` does
    it, or one panorama could take all memory at the run's end.
    """
    longest = model.config.input.longest(shorter)

    def predict(data: PixelSet, names: TextFeatures, image: Tensor, size_hw: SizeHW) -> Tensor:
        output = model(model.normalise(image), names, proposals=proposals)
        scores = score_map(output, 0, (image.shape[2], image.shape[3]), model.config.patch_side)
        weight = model.config.other_weight(names.classes) if data.has_other else None
        return label_map(scores, size_hw, weight)[0]

    return {
        name: mean_iou(data, shorter, device, partial(predict, data, text[name]), longest)
        for name, data in sets.items()
    }
