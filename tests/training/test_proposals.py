"""DeOP's stage 2 on discs and horizons."""

from dataclasses import replace

import pytest
import torch

from ovseg_cli.data.mixture import ViewConfig
from ovseg_cli.errors import UsageError
from ovseg_cli.model.build import build
from ovseg_cli.training.proposals import ProposalStage, ProposalStageConfig

CPU = torch.device("cpu")
VIEWS = ViewConfig({"discs": "train", "fields": "train"}, size=64, batch=4, scales=(0.9, 1.2))
CONFIG = ProposalStageConfig(VIEWS, evaluate_size=64)


def test_masks_become_those_of_the_photos(tiny, data, learn):
    views = replace(VIEWS, sets={"fields": "train"})
    config = ProposalStageConfig(
        views, freeze_backbone=True, learn_non_object=False, evaluate_size=64
    )
    effect = learn(ProposalStage(build(tiny), config, data, CPU), 100, 5e-3)
    assert all(effect.after[name] < 0.5 * effect.before[name] for name in effect.before)
    assert effect.scores["fields"] > 0.7  # 0.47 before
    assert all(name.startswith("proposals.") for name in effect.changed)


def test_the_whole_network_learns_but_batch_norm(tiny, data, learn):
    effect = learn(ProposalStage(build(tiny), CONFIG, data, CPU), 20, 5e-3)
    assert effect.after["class"] < 0.6 * effect.before["class"]
    rooms = {"proposals.", "backbone.", "text.non_object_embedding"}
    assert all(name.startswith(tuple(rooms)) for name in effect.changed)
    assert all(any(name.startswith(room) for name in effect.changed) for room in rooms)
    assert not [name for name in effect.changed if name.startswith("backbone") and "norm" in name]


def test_a_frozen_backbone_leaves_nothing_for_autograd(tiny, data):
    stage = ProposalStage(build(tiny), replace(CONFIG, freeze_backbone=True), data, CPU)
    images = torch.randn(1, 3, 64, 64)
    assert not any(level.requires_grad for level in stage.model.backbone(images))
    assert not any(part.training for part in stage.model.modules())


def test_the_backbone_learns_at_its_own_rate(tiny, data):
    stage = ProposalStage(build(tiny), replace(CONFIG, backbone_rate=0.25), data, CPU)
    rates = {}
    for group in stage.parameter_groups():
        rates.update((id(p), group.get("lr_scale", 1.0)) for p in group["params"])
    named = dict(stage.model.named_parameters())
    learning = {name for name, p in named.items() if p.requires_grad}
    assert {id(named[name]) for name in learning} == set(rates)
    for name in learning:
        assert rates[id(named[name])] == (0.25 if name.startswith("backbone") else 1.0)


def test_the_score_is_the_best_iou_of_each_true_mask(tiny, data, monkeypatch):
    stage = ProposalStage(build(tiny), CONFIG, data, CPU)

    def left_half_and_all(features):
        logits = torch.full((1, 2, 16, 24), -9.0)
        logits[0, 0, :, :12] = logits[0, 1] = 9.0
        return type("Proposals", (), {"mask_logits": logits})

    monkeypatch.setattr(stage.model.proposals, "forward", left_half_and_all)
    scores = stage.evaluate(stage.model)
    expected = []
    data_set = stage.views.validation["fields"]
    for key in data_set.keys:
        _, labels = data_set.load(key)
        for label in (0, 1):
            mask = labels == label
            half = mask[:, :32].sum() / (mask[:, 32:].sum() + 32 * 48)
            expected.append(max(half, mask.mean()))
    assert scores["fields"] == pytest.approx(sum(expected) / len(expected))
    assert set(scores) == {"discs", "fields"}


def test_a_class_head_of_another_width_is_refused(tiny, data):
    config = replace(tiny, proposal=replace(tiny.proposal, class_channels=8))
    with pytest.raises(UsageError, match="8 channels.*16"):
        ProposalStage(build(config), CONFIG, data, CPU)


def test_points_belong_to_another_stage(tiny, data):
    config = replace(CONFIG, weights=replace(CONFIG.weights, points=16))
    with pytest.raises(UsageError, match="all pixels, not points"):
        ProposalStage(build(tiny), config, data, CPU)
