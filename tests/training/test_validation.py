"""Scores on val splits against counting by hand."""

import math
from dataclasses import replace

import pytest
import torch

from ovseg_cli.data.pixel_set import IGNORE, read_pixel_set
from ovseg_cli.training.validation import mean_iou, photos

CPU = torch.device("cpu")


def test_photos_have_sides_of_multiples_of_32_and_labels_of_their_own_size(data):
    for image, labels in photos(read_pixel_set(data / "discs", "val"), 96, CPU):
        assert image.shape == (1, 3, 96, 128)
        assert labels.shape == (48, 64)
        assert labels.dtype == torch.int64
        assert image.min() >= 0 and image.max() <= 255


def test_background_is_a_rival_but_no_class(data):
    """Predicting red for all red and half of the background."""
    discs = read_pixel_set(data / "discs", "val")
    truths = iter([labels for _, labels in photos(discs, 64, CPU)])
    red = union = 0
    wanted = []
    for _, labels in photos(discs, 64, CPU):
        prediction = torch.full_like(labels, 2)  # background
        prediction[labels == 0] = 0
        prediction[:24][labels[:24] == 2] = 0
        wanted.append(prediction)
        red += (labels == 0).sum().item()
        union += ((prediction == 0) & (labels != IGNORE)).sum().item()
    predictions = iter(wanted)

    def predict(image, size_hw):
        assert size_hw == next(truths).shape
        return next(predictions)

    # Blue was never found: 0. Background's own IoU does not count.
    assert mean_iou(discs, 64, CPU, predict) == pytest.approx((red / union + 0) / 2)


@pytest.mark.filterwarnings("error")
def test_a_split_of_which_no_pixel_counts_has_no_score(data):
    ignoring = replace(read_pixel_set(data / "discs", "val"), ids=(100, 101), other_ids=())
    found = mean_iou(ignoring, 64, CPU, lambda image, size_hw: torch.zeros(size_hw).long())
    assert math.isnan(found)
