"""A SAN's CLIP learns to name true masks."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.errors import UsageError
from ovseg_cli.model.build import build
from ovseg_cli.model.network import TextFeatures
from ovseg_cli.training.dense import DenseStage
from ovseg_cli.training.dense_config import DenseConfig, Phase
from ovseg_cli.training.pictures import PicturesConfig, PicturesStage
from ovseg_cli.training.true_masks import Encoded, look, mask_loss

CPU = torch.device("cpu")
MIXED = Phase(until=1.0, size=64, batch=4, sets={"discs": 1.0, "fields": 1.0, "moods": 1.0})
CONFIG = DenseConfig(
    phases=(MIXED,),
    pixel_sets={"discs": "train", "fields": "train"},
    image_sets={"moods": "train"},
    evaluate_size=64,
    mask_weight=1.0,
)


@pytest.fixture
def model(tiny_san):
    return build(tiny_san)


@pytest.fixture
def text():
    return TextFeatures(F.normalize(torch.randn(3, 16), dim=-1))


def test_patches_are_those_of_the_model_itself(model):
    images = torch.randn(2, 3, 64, 96)
    encoded = look(model, images, tokens=True)
    torch.testing.assert_close(encoded.patches, model.patch_features(images))
    assert look(model, images, tokens=False).tokens is None
    parts = encoded.chunk(2)
    assert torch.equal(parts[1].patches, encoded.patches[1:])
    assert torch.equal(parts[1].tokens, encoded.tokens[1:])


def test_the_loss_names_each_mask_by_what_lies_under_it(model, text):
    """Against a recognition for one mask at a time."""
    images = torch.randn(2, 3, 64, 64)
    labels = torch.full((2, 64, 64), IGNORE)
    labels[0, :, :24], labels[0, :, 24:40], labels[0, :40, 40:] = 0, 1, 3  # 3: none of the names
    labels[1, 32:] = 2
    weights = torch.tensor([1.0, 2.0, 0.5, 0.25])
    encoded = look(model, images, tokens=True)
    found = mask_loss(model, encoded, labels, text, weights)

    expected = []
    for view, label in ((0, 0), (0, 1), (0, 3), (1, 2)):
        mask = (labels[view] == label).float()[None, None]
        share = F.avg_pool2d(mask, 16)  # a patch of 8 pixels at half the size
        biases = share.clamp(min=1e-4).log().expand(2, 1, 4, 4)[None]
        tokens = encoded.tokens[view : view + 1]
        logits = model.name(tokens, biases, (4, 4), text)[0, 0]
        expected.append(-weights[label] * logits.log_softmax(0)[label])
    torch.testing.assert_close(found, sum(expected) / 4)


def test_what_no_mask_covers_has_no_part(model, text):
    images = torch.randn(1, 3, 64, 64)
    encoded = look(model, images, tokens=True)
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    labels[..., 32:] = IGNORE
    far = Encoded(encoded.patches, encoded.tokens.clone())
    far.tokens[:, 1:].unflatten(1, (4, 4))[:, :, 2:] += 1.0
    before, after = (mask_loss(model, s, labels, text).item() for s in (encoded, far))
    # A patch outside has a ten-thousandth of the weight of one inside.
    assert math.isclose(before, after, rel_tol=0.05)


def test_views_without_masks_cost_nothing(model, text):
    encoded = look(model, torch.randn(2, 3, 64, 64), tokens=True)
    loss = mask_loss(model, encoded, torch.full((2, 64, 64), IGNORE), text)
    assert loss.item() == 0
    loss.backward()


def test_patches_masks_and_pictures_are_learnt_together(model, pictures, learn, tmp_path):
    stage = DenseStage(model, CONFIG, pictures, 100, CPU, tmp_path, "")
    found = set()
    for step in range(6):
        found |= set(stage.losses(stage.batch(step)))
    assert found == {"masks", "pixels", "pictures"}
    effect = learn(stage, 60, 5e-3)
    assert effect.after["masks"] < 0.6 * effect.before["masks"]
    rooms = ("visual.", "text.non_object_embedding")
    assert all(name.startswith(rooms) for name in effect.changed)
    assert all(any(name.startswith(room) for name in effect.changed) for room in rooms)


def test_whole_pictures_teach_the_class_token(model, pictures, learn):
    config = PicturesConfig(("moods",), batch=8, sizes=(32,))
    effect = learn(PicturesStage(model, config, pictures, 40, CPU), 40, 5e-3)
    assert effect.scores["moods"] == 1.0
    assert {name.partition(".")[0] for name in effect.changed} == {"visual"}


def test_only_a_san_looks_at_masks(tiny, pictures, tmp_path):
    with pytest.raises(UsageError, match="mask_weight is for a SAN"):
        DenseStage(build(tiny), replace(CONFIG, mask_weight=0.5), pictures, 100, CPU, tmp_path, "")
