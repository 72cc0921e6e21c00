"""Scores on val splits against counting by hand."""

import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

from ovseg_cli.data.mixture import ViewConfig
from ovseg_cli.data.pixel_set import IGNORE, read_pixel_set
from ovseg_cli.model.build import build
from ovseg_cli.model.config import InputConfig
from ovseg_cli.model.network import TextFeatures
from ovseg_cli.training.proposals import ProposalStage, ProposalStageConfig
from ovseg_cli.training.validation import mean_iou, photos, region_ious

CPU = torch.device("cpu")
LONG = Image.new("L", (3000, 2), 1)  # labels


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


@pytest.mark.parametrize("stage", [None, "proposals"])
def test_a_long_thin_photo_is_seen_no_larger_than_in_prediction(tiny, tmp_path, stage):
    root = tmp_path / "wide"
    for folder, picture in (("images", Image.new("RGB", (3000, 2))), ("labels", LONG)):
        (root / folder).mkdir(parents=True)
        picture.save(root / folder / "a.png")
    (root / "classes.json").write_text('{"1": "wall"}')
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("a")
    model = build(replace(tiny, input=InputConfig(min_size=64, max_size=256)))
    seen = []
    inner = model.backbone.forward
    model.backbone.forward = lambda images: seen.append(images.shape) or inner(images)
    if stage is None:
        wide = read_pixel_set(root, "val")
        text = {"wide": TextFeatures(model.text.encode(["wall"]))}
        region_ious(model, {"wide": wide}, text, 128, CPU, "queries")
    else:
        views = ViewConfig(size=32, batch=2, sets={"wide": "train"})
        config = ProposalStageConfig(views=views, evaluate_size=128)
        ProposalStage(model, config, tmp_path, CPU).evaluate(model)
    assert seen == [(1, 3, 32, 512)]
