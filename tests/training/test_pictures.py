"""Stage "pictures": whole pictures point at the features of their names."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ovseg_cli.errors import UsageError
from ovseg_cli.model.build import build
from ovseg_cli.model.deop import TextFeatures
from ovseg_cli.training import pictures as module
from ovseg_cli.training.pictures import PicturesConfig, PicturesStage, cutmix, random_views

CPU = torch.device("cpu")
CONFIG = PicturesConfig(("moods",), batch=8, sizes=(32, 64))


@pytest.fixture
def stage(tiny, pictures):
    return PicturesStage(build(tiny), CONFIG, pictures, 100, CPU)


def test_pictures_learn_and_text_and_proposals_stay(tiny, pictures, learn):
    config = replace(CONFIG, batch=16, sizes=(64,), cutmix_share=0.0)
    effect = learn(PicturesStage(build(tiny), config, pictures, 100, CPU), 80, 3e-3)
    assert effect.after["pictures"] < 0.9 * effect.before["pictures"]
    assert effect.scores == {"moods": 1.0}
    rooms = ("backbone.", "visual.")
    assert all(name.startswith(rooms) for name in effect.changed)
    assert all(any(name.startswith(room) for name in effect.changed) for room in rooms)


def test_a_published_models_own_image_tower_learns_too(tiny_clip, pictures, learn):
    effect = learn(PicturesStage(build(tiny_clip), CONFIG, pictures, 100, CPU), 3, 1e-2)
    assert any(name.startswith("visual.") for name in effect.changed)
    assert not any(name.startswith("text.") for name in effect.changed)


def test_a_batch_is_a_function_of_its_step_and_sizes_take_turns(stage):
    for step in (0, 7):
        one, other = stage.batch(step), stage.batch(step)
        assert np.array_equal(one.images, other.images)
        assert one.draw.random() == other.draw.random()
    assert [stage.batch(step).size for step in (0, 49, 50, 99, 100)] == [32, 32, 64, 64, 64]
    for image, label in zip(stage.batch(3).images, stage.batch(3).classes, strict=True):
        assert label == (image.mean() < 128)  # dark is 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_loss_is_the_smoothed_cross_entropy_of_what_a_view_shows(
    tiny, pictures, monkeypatch, share
):
    monkeypatch.setattr(module, "jitter_colour", lambda images, draw: images)
    monkeypatch.setattr(module, "random_views", lambda images, size, least, draw: images)
    config = PicturesConfig(("moods",), batch=6, cutmix_share=share, synonym_share=0.0)
    stage = PicturesStage(build(tiny), config, pictures, 100, CPU)
    batch = stage.batch(0)
    mixed = {}

    def keep(images, draw):
        mixed["images"], mixed["kept"] = cutmix(images, np.random.default_rng(5))
        return mixed["images"], mixed["kept"]

    monkeypatch.setattr(module, "cutmix", keep)
    found = stage.losses(batch)["pictures"].item()
    assert bool(mixed) == (share == 1.0)
    images = mixed.get("images", torch.from_numpy(batch.images).permute(0, 3, 1, 2).float())
    kept = mixed.get("kept", 1.0)
    model = stage.model.train()
    text = TextFeatures(torch.cat([model.text.encode([name]) for name in ("sunny", "dark")]))
    features = F.normalize(model.image_features(model.normalise(images)), dim=-1)
    logs = model.class_logits(features, text)[:, :2].log_softmax(1)
    expected = 0.0
    for row, own, guest in zip(logs, batch.classes, batch.classes[::-1], strict=True):
        truth = torch.full((2,), 0.05)
        truth[own] += 0.9 * kept
        truth[guest] += 0.9 * (1 - kept)
        expected -= (truth * row).sum().item() / len(logs)
    assert found == pytest.approx(expected, rel=1e-4)


def test_image_features_are_the_mean_of_what_the_coarsest_level_says(tiny):
    model = build(tiny).eval()
    images = torch.randn(2, 3, 64, 96)
    visual, features = model.visual, model.backbone(images)
    whole = model.image_features(images)
    assert whole.shape == (2, 16)
    coarse = visual._in_context(features[-1])
    decoder = visual.pixel_decoder
    patches = decoder.mask_features(decoder.layers[-1](coarse)).permute(0, 2, 3, 1)
    for layer in visual.severed:
        patches = layer(patches)
    means = visual.projection(visual.norm(patches)).flatten(1, 2).mean(1)
    torch.testing.assert_close(whole, means)


def test_views_lie_inside_the_picture_and_every_second_one_is_mirrored():
    ramp = torch.arange(64.0).expand(1, 1, 64, 64)  # a pixel's value is its column
    images = torch.cat([ramp, ramp.transpose(2, 3), ramp], 1).expand(400, 3, 64, 64)
    views = random_views(images, 32, 0.25, np.random.default_rng(0))
    assert views.shape == (400, 3, 32, 32)
    assert views.min() >= 0
    assert views.max() <= 63
    columns, rows = views[:, 0], views[:, 1]
    torch.testing.assert_close(columns, columns[:, :1].expand_as(columns), atol=0.01, rtol=0)
    across = (columns[:, 0, -1] - columns[:, 0, 0]) * 32 / 31  # pixels that a view spans
    down = (rows[:, -1, 0] - rows[:, 0, 0]) * 32 / 31
    assert 0.4 < (across < 0).float().mean() < 0.6
    assert (down > 0).all()
    area = across.abs() * down / 64**2
    assert 0.2 < area.min() < 0.4
    assert 0.8 < area.max() < 1.02
    aspect = across.abs() / down
    assert 0.6 < aspect.min() < 0.8
    assert 1.25 < aspect.max() < 1.6


def test_cutmix_says_how_much_is_a_pictures_own():
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 20, 20)
    shares = []
    for seed in range(200):
        mixed, kept = cutmix(images, np.random.default_rng(seed))
        for index in range(6):
            own = (mixed[index] == index).float().mean().item()
            guest = (mixed[index] == 5 - index).float().mean().item()
            assert own == pytest.approx(kept)
            assert guest == pytest.approx(1 - kept)
        shares.append(kept)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)
    assert torch.equal(images[0], torch.zeros(3, 20, 20))  # the input is as it was


def test_what_photos_show_is_learnt_beside_the_pictures(tiny, pictures):
    config = replace(
        CONFIG, cut_outs={"discs": "train"}, shares={"moods": 1.0, "discs": 3.0}, sizes=(64,)
    )
    stage = PicturesStage(build(tiny), config, pictures, 100, CPU)
    drawn = [stage.batch(step).set_name for step in range(200)]
    assert 0.65 < drawn.count("discs") / 200 < 0.85
    batch = next(b for b in map(stage.batch, range(50)) if b.set_name == "discs")
    for image, label in zip(batch.images, batch.classes, strict=True):
        red, _, blue = image[28:36, 28:36].reshape(-1, 3).mean(0)  # the disc fills its square
        assert (blue > red) == label
    assert set(stage.losses(batch)) == {"pictures"}
    assert set(stage.evaluate(stage.model)) == {"moods", "discs"}


@pytest.mark.parametrize("values", [{"sizes": ()}, {"least_area": 0.0}])
def test_impossible_views_are_refused(values):
    with pytest.raises(ValueError, match="sizes"):
        PicturesConfig(("moods",), **values)


def test_a_missing_split_is_named(tiny, tmp_path):
    with pytest.raises(UsageError, match=r"train-\*\.tar\.gz"):
        PicturesStage(build(tiny), CONFIG, tmp_path, 100, CPU)
