"""The small models' visual encoder: what its coarsest level says, alone and in the patches."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_models import PYRAMID

from ovseg_cli.model.build import build


@pytest.fixture
def model():
    return build(PYRAMID).eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 96)


def _coarse(model, images):
    """What the coarsest level says before the projection, step by step: (B, h, w, channels)."""
    visual = model.visual
    decoder = visual.pixel_decoder
    feature = decoder.layers[-1](visual._in_context(model.backbone(images)[-1]))
    patches = decoder.mask_features(feature).permute(0, 2, 3, 1)
    for layer in visual.severed:
        patches = layer(patches)
    return visual.norm(patches)


def test_image_features_are_the_mean_of_what_the_coarsest_level_says(model, images):
    whole = model.image_features(images)
    assert whole.shape == (2, 16)
    means = model.visual.projection(_coarse(model, images)).flatten(1, 2).mean(1)
    torch.testing.assert_close(whole, means)


def test_patches_have_what_the_coarsest_level_says_in_them(model, images):
    """Its own share, brought to the patches' grid, on top of what there is without it."""
    config = replace(PYRAMID, visual=replace(PYRAMID.visual, coarse_weight=0.5))
    weighted = build(config).eval()
    weighted.load_state_dict(model.state_dict())
    added = weighted.patch_features(images) - model.patch_features(images)
    assert added.shape == (2, 16, 24, 16)
    said = _coarse(model, images) @ model.visual.projection.weight.T / 2  # (B, h, w, C)
    assert said.shape[1:3] == (2, 3)
    expected = F.interpolate(said.permute(0, 3, 1, 2), (16, 24), mode="bilinear")
    torch.testing.assert_close(added, expected.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-4)
