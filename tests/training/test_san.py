"""SAN's stage on discs and horizons."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ovseg_cli.data.mixture import ViewConfig
from ovseg_cli.model.build import build
from ovseg_cli.model.label_map import label_map
from ovseg_cli.model.score_map import score_map
from ovseg_cli.training.criterion import SetWeights
from ovseg_cli.training.san import SANStage, SANStageConfig

CPU = torch.device("cpu")
VIEWS = ViewConfig({"discs": "train", "fields": "train"}, size=64, batch=4, scales=(0.9, 1.2))
CONFIG = SANStageConfig(VIEWS, evaluate_size=64)


def test_the_published_weights_are_the_default():
    assert CONFIG.weights == SetWeights(2, 5, 5, 0.1, "cross_entropy", match_names=True)
    assert CONFIG.supervised == 2


def test_the_side_adapter_learns_masks_and_clip_keeps_its_bytes(tiny_san, data, learn):
    config = replace(CONFIG, views=replace(VIEWS, sets={"fields": "train"}))
    effect = learn(SANStage(build(tiny_san), config, data, CPU), 150, 5e-3)
    assert all(effect.after[name] < 0.5 * effect.before[name] for name in effect.before)
    assert effect.scores["fields"] > 0.8
    rooms = ("side_adapter.", "text.non_object_embedding", "visual.positional_embedding")
    assert all(name.startswith(rooms) for name in effect.changed)
    learning = {name for name in build(tiny_san).state_dict() if name.startswith(rooms)}
    assert effect.changed == learning


def test_the_adapter_alone(tiny_san, data, learn):
    config = replace(CONFIG, learn_positions=False, learn_non_object=False)
    stage = SANStage(build(tiny_san), config, data, CPU)
    streams, _ = stage.model.shallow(torch.randn(1, 3, 32, 32))
    assert not any(tokens.requires_grad for tokens in streams)  # nothing for autograd to keep
    effect = learn(stage, 3, 1e-3)
    assert {name.partition(".")[0] for name in effect.changed} == {"side_adapter"}


def test_what_a_mask_is_called_teaches_where_to_look(tiny_san, data):
    """The gradient of the class loss goes through CLIP's deep layers into the attention biases."""
    weights = replace(CONFIG.weights, mask=0, dice=0)
    stage = SANStage(build(tiny_san), replace(CONFIG, weights=weights), data, CPU)
    sum(stage.losses(stage.batch(0)).values()).backward()
    decoder = stage.model.side_adapter.decoder
    assert all(p.grad.abs().max() > 0 for p in decoder.attn_mlp.parameters() if p.ndim > 1)
    assert all(p.grad is None or not p.grad.any() for p in decoder.pix_mlp.parameters())
    assert all(p.grad is None for p in stage.model.visual.blocks.parameters())


def test_each_parameter_has_one_group_and_positions_do_not_decay(tiny_san, data):
    stage = SANStage(build(tiny_san), CONFIG, data, CPU)
    names = {id(p): name for name, p in stage.model.named_parameters() if p.requires_grad}
    groups = stage.parameter_groups()
    assert sorted(names) == sorted(id(p) for group in groups for p in group["params"])
    for group in groups:
        decays = group.get("weight_decay") != 0.0
        for p in group["params"]:
            assert decays == (p.ndim > 1 and "position" not in names[id(p)]), names[id(p)]


def test_the_loss_is_that_of_the_last_blocks(tiny_san, data):
    """Two blocks cost what each of them costs alone, added up."""
    model = build(tiny_san)
    both = SANStage(model, replace(CONFIG, supervised=2), data, CPU)
    last = SANStage(model, replace(CONFIG, supervised=1), data, CPU)
    batch = both.batch(0)
    one, two = last.losses(batch), both.losses(batch)
    dropped = dict(two)
    streams = model.side_adapter.streams

    def without_the_last(images, clip_patches):
        return list(streams(images, clip_patches))[:-1]

    model.side_adapter.streams = without_the_last
    earlier = last.losses(batch)
    for name, loss in dropped.items():
        torch.testing.assert_close(loss, one[name] + earlier[name])


def test_points_are_a_function_of_the_step(tiny_san, data):
    weights = replace(CONFIG.weights, points=40)
    stage = SANStage(build(tiny_san), replace(CONFIG, weights=weights), data, CPU)
    losses = [float(stage.losses(stage.batch(step))["mask"].detach()) for step in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_the_scores_are_those_of_the_labels_it_gives(tiny_san, data):
    stage = SANStage(build(tiny_san), CONFIG, data, CPU)
    model, found = stage.model, stage.views.validation["fields"]
    scores = stage.evaluate(model)
    assert set(scores) == {"discs", "fields"}
    hits, unions = np.zeros(2), np.zeros(2)
    for key in found.keys:
        image, labels = found.load(key)  # 48×64, seen as 64×96
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        resized = torch.nn.functional.interpolate(tensor, (64, 96), mode="bilinear", antialias=True)
        with torch.no_grad():
            output = model(model.normalise(resized), stage.views.text["fields"])
        predicted = label_map(score_map(output, 0, (64, 96), 8), (48, 64))[0].numpy()
        for label in (0, 1):
            hits[label] += ((labels == label) & (predicted == label)).sum()
            unions[label] += ((labels == label) | (predicted == label)).sum()
    assert scores["fields"] == pytest.approx((hits / unions).mean(), abs=1e-6)
