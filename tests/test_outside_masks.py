"""Masks from elsewhere, many of them: in portions, and to the bit what all at once give."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import openai_style_state

from ovseg_cli import outside_masks
from ovseg_cli.errors import InputError
from ovseg_cli.frame import Frame
from ovseg_cli.importing import import_checkpoint
from ovseg_cli.loading import load_model
from ovseg_cli.model.network import TextFeatures
from ovseg_cli.model.views import mean_of_patches
from ovseg_cli.prepared import Prepared, prepare
from ovseg_cli.segmenter import Segmenter

NAMES = ["sky", "traffic light", "grass"]
PHOTO = Frame(np.random.default_rng(2).integers(0, 255, (70, 101, 3), np.uint8), source="a.jpg")


@pytest.fixture(scope="module", autouse=True)
def a_plain_clip(tmp_path_factory):
    """As the model `plain`."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVSEG_HOME", str(folder))
        torch.save(openai_style_state(), folder / "clip.pt")
        options = {"visual_heads": 2, "text_heads": 2, "min_size": 64, "max_size": 160}
        import_checkpoint(folder / "clip.pt", "plain", options)
        yield


def blots(frame, features, size_hw):
    return np.random.default_rng(1).random((7, *size_hw)) > 0.6


@torch.inference_mode()
def probabilities_of_all_at_once(scorer):
    """Of each mask, with every mask as floats at every look's size: the plain way."""
    network = scorer.network
    text = TextFeatures(network.text.encode(NAMES))
    prepared = [prepare(PHOTO, network, scorer.device, scale) for scale, _ in scorer.looks]
    masks = torch.from_numpy(blots(PHOTO, None, prepared[0].valid_hw)).float()[None]
    looks = []
    for (_, mirrors), seen in zip(scorer.looks, prepared, strict=True):
        shown = F.pad(F.interpolate(masks, seen.valid_hw, mode="nearest-exact"), seen.padding)
        for mirrored in mirrors:
            image, regions = (x.flip(-1) if mirrored else x for x in (seen.pixels, shown))
            logits = 30 * (2 * regions - 1) if network.looks_at_masks else None
            patches = network.patch_features(image, logits)
            if logits is None and not looks:  # the first look has been taken before, at unit length
                patches = F.normalize(patches, dim=-1)
            looks.append(network.classify_masks(patches, regions, text).class_logits[0].softmax(-1))
    return mean_of_patches(looks, -1)


@pytest.mark.parametrize("attention", [None, "mask"])
@pytest.mark.parametrize("quality", ["fast", "high"])
@pytest.mark.parametrize("portion", [1, 3 * 80 * 128, 1 << 30])
def test_portions_of_masks_change_no_bit(monkeypatch, attention, quality, portion):
    monkeypatch.setattr(outside_masks, "PORTION", portion)
    model = load_model("plain", "cpu", attention=attention, quality=quality)
    segmenter = Segmenter(model, NAMES, masks=blots)
    found = segmenter.score_maps([PHOTO])[0].probabilities
    assert torch.equal(found, probabilities_of_all_at_once(segmenter._scorer))


def test_no_more_masks_than_a_portion_are_numbers_at_once(monkeypatch):
    """4096 masks of a photo seen at 640 pixels took 20 GB when all were."""
    monkeypatch.setattr(outside_masks, "PORTION", 3 * 64 * 96)
    photo = Prepared(torch.zeros(1, 3, 64, 96), (60, 90), (0, 6, 0, 4), (64, 96))
    masks = torch.rand(8, 30, 45) > 0.5
    portions = outside_masks._portions(masks, photo, mirrored=True)
    assert [part.shape[1] for _, part in portions] == [3, 3, 2]


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_fills_no_patch_is_in_no_share_of_one(mirrored):
    """Patches of 20 pixels see 80 of 96 columns, in a mirror, too; the mask lies on the second."""
    photo = Prepared(torch.zeros(1, 3, 64, 96), (60, 90), (0, 6, 0, 4), (60, 80))
    mask = torch.zeros(1, 60, 90, dtype=torch.bool)
    mask[..., 20:40] = True
    shares = outside_masks.pooled(mask, photo, mirrored, (3, 4))
    expected = torch.tensor([0.0, 0, 1, 0] if mirrored else [0.0, 1, 0, 0])
    assert torch.equal(shares, expected.expand(1, 1, 3, 4))


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_mask_that_no_patch_sees_is_what_the_patches_beside_it_are(mirrored):
    photo = Prepared(torch.zeros(1, 3, 64, 96), (60, 90), (0, 6, 0, 4), (60, 80))
    masks = torch.zeros(2, 60, 90, dtype=torch.bool)
    masks[:, :, 82:88] = True
    masks[1, :, 60:70] = True  # the other is seen in part
    shares = outside_masks.pooled(masks, photo, mirrored, (3, 4))[0]
    shares = shares.flip(-1) if mirrored else shares
    assert (shares[0, :, 3] > 0).all() and not shares[0, :, :3].any()
    torch.testing.assert_close(shares[1, 1], torch.tensor([0.0, 0, 0, 0.5]))


def test_more_masks_than_patches_can_look_at(monkeypatch):
    monkeypatch.setattr(outside_masks, "MOST_LOOKED_AT", 6 * 64 * 96)
    model = load_model("plain", "cpu", attention="mask")
    with pytest.raises(InputError, match=r"a\.jpg: 7 masks are more than the 6 .* --attention"):
        Segmenter(model, NAMES, masks=blots)(PHOTO)
    monkeypatch.setattr(outside_masks, "MOST_LOOKED_AT", 7 * 64 * 96)
    assert Segmenter(model, NAMES, masks=blots)(PHOTO).labels.max() >= 0  # as many as that
