"""Scores on a val split, as the stages ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ovseg_cli.data.pixel_set import PixelSet
from ovseg_cli.data.transforms import resize_photo
from ovseg_cli.evaluation import ConfusionMatrix
from ovseg_cli.model.label_map import label_map
from ovseg_cli.model.network import Network, TextFeatures
from ovseg_cli.model.score_map import score_map

# A photo (1, 3, h, w) in 0..255 and the size H×W of its labels -> labels (H, W).
Predict = Callable[[Tensor, tuple[int, int]], Tensor]


def photos(data: PixelSet, shorter: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Each photo (1, 3, h, w) in 0..255, its shorter side resized, and its labels (H, W) int64."""
    for key in data.keys:
        image, labels = data.load(key)
        yield resize_photo(image, shorter, device), torch.from_numpy(labels).long().to(device)


def mean_iou(data: PixelSet, shorter: int, device: torch.device, predict: Predict) -> float:
    """mIoU over the set's names, in 0..1; background takes part as a rival but has no IoU."""
    matrix = ConfusionMatrix(len(data.names) + 1)
    for image, labels in photos(data, shorter, device):
        prediction = predict(image, (labels.shape[0], labels.shape[1]))
        matrix.add(labels.cpu().numpy(), prediction.cpu().numpy())
    return float(np.nanmean(matrix.iou()[: len(data.names)]))


def region_iou(
    model: Network, data: PixelSet, text: TextFeatures, shorter: int, device: torch.device
) -> float:
    """`mean_iou` of a model's own proposals, as it names them; text: of the set's names."""

    def predict(image: Tensor, size_hw: tuple[int, int]) -> Tensor:
        output = model(model.normalise(image), text, proposals="queries")
        scores = score_map(output, 0, (image.shape[2], image.shape[3]), patch=4)
        return label_map(scores, size_hw, other=data.has_other)[0]

    return mean_iou(data, shorter, device, predict)
