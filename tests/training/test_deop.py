"""DeOP's stage 3: what learns, and what the loss compares."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ovseg_cli.data.batches import PixelBatch
from ovseg_cli.data.mixture import ViewConfig
from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.model.build import build
from ovseg_cli.model.network import NetworkOutput
from ovseg_cli.training.criterion import score_losses
from ovseg_cli.training.deop import DeOPStage, DeOPStageConfig

CPU = torch.device("cpu")
VIEWS = ViewConfig({"discs": "train", "fields": "train"}, size=64, batch=4, scales=(0.9, 1.2))
CONFIG = DeOPStageConfig(VIEWS, evaluate_size=64)
POSITIONS = {"visual.learned_position", "visual.layer_positions.1"}


def test_with_clip_the_heatmaps_the_positions_and_the_non_object_learn(tiny_clip, data, learn):
    stage = DeOPStage(build(tiny_clip), CONFIG, data, CPU)
    effect = learn(stage, 30, 1e-2)
    assert effect.after["focal"] < 0.6 * effect.before["focal"]
    others = {name for name in effect.changed if not name.startswith("heatmap_decoder.")}
    assert others == POSITIONS | {"text.non_object_embedding"}
    assert "heatmap_decoder.query_embedding.weight" in effect.changed


def test_with_a_pyramid_the_visual_encoder_is_frozen_altogether(tiny, data, learn):
    stage = DeOPStage(build(tiny), replace(CONFIG, learn_non_object=False), data, CPU)
    effect = learn(stage, 30, 1e-2)
    assert effect.after["focal"] < 0.9 * effect.before["focal"]
    assert all(name.startswith("heatmap_decoder.") for name in effect.changed)
    assert not stage.model.patch_features(torch.randn(1, 3, 64, 64)).requires_grad
    assert not any(part.training for part in stage.model.modules())


def test_the_score_is_the_miou_of_the_best_names(tiny, data, monkeypatch):
    """Two proposals, upper and lower half of the photo, named sky and grass."""
    stage = DeOPStage(
        build(tiny), replace(CONFIG, views=replace(VIEWS, sets={"fields": "train"})), data, CPU
    )

    def halves(images, text, proposals):
        assert proposals == "queries"
        masks = torch.full((1, 2, 16, 24), -9.0)
        masks[0, 0, :8] = masks[0, 1, 8:] = 9.0
        return NetworkOutput(masks, torch.tensor([[[9.0, 0, 0], [0, 9.0, 0]]]), (16, 24))

    monkeypatch.setattr(stage.model, "forward", halves)
    found = stage.evaluate(stage.model)
    hit, union = np.zeros(2), np.zeros(2)
    for key in ("val0", "val1"):
        _, labels = stage.views.validation["fields"].load(key)
        predicted = np.repeat([0, 1], 24)[:, None].repeat(64, axis=1)
        for k in (0, 1):
            hit[k] += ((labels == k) & (predicted == k)).sum()
            union[k] += ((labels == k) | (predicted == k)).sum()
    assert found == {"fields": pytest.approx((hit / union).mean())}


def test_the_loss_sees_scores_at_the_size_of_the_ground_truth(tiny, data):
    stage = DeOPStage(build(tiny), replace(CONFIG, focal_weight=3.0, dice_weight=0.5), data, CPU)
    batch = stage.views.mixture.batch(0)
    labels = batch.labels.copy()
    labels[:, :8] = IGNORE
    found = stage.losses(PixelBatch(batch.set_name, batch.images, labels))

    images = torch.from_numpy(batch.images.copy()).permute(0, 3, 1, 2).float()
    output = stage.model(stage.model.normalise(images), stage.views.text[batch.set_name], "queries")
    probabilities = output.class_logits.softmax(-1)
    assert probabilities.shape[1:] == (5, 3)  # queries, two names and non-object
    masks = F.interpolate(output.mask_logits, (64, 64), mode="bilinear").sigmoid()
    scores = torch.zeros(4, 3, 64, 64)
    for query in range(5):
        for k in range(3):
            scores[:, k] += probabilities[:, query, k, None, None] * masks[:, query]
    truth = torch.from_numpy(labels).long()
    truth[truth == IGNORE] = 2  # one-hot in the last channel
    expected = score_losses(scores, truth)
    assert found["focal"].item() == pytest.approx(3.0 * expected["focal"].item(), rel=1e-4)
    assert found["dice"].item() == pytest.approx(0.5 * expected["dice"].item(), rel=1e-4)


def test_the_published_weights_are_the_default():
    config = DeOPStageConfig(VIEWS)
    assert (config.focal_weight, config.dice_weight) == (2.0, 0.8)
