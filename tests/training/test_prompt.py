"""DeOP's stage 1 on discs of two colours."""

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ovseg_cli.errors import UsageError
from ovseg_cli.model.build import build
from ovseg_cli.training.prompt import PromptStage, PromptStageConfig

CPU = torch.device("cpu")
CONFIG = PromptStageConfig("discs", batch=8, samples=4, smallest=100, size=32)


@pytest.fixture
def stage(tiny_clip, data):
    return PromptStage(build(tiny_clip), CONFIG, data, CPU)


def test_the_vectors_learn_and_nothing_else(stage, learn):
    effect = learn(stage, 80, 0.3, optimizer="sgd")
    assert effect.changed == {"text.prompt.prefix"}
    assert effect.after["class"] < 0.3 * effect.before["class"]
    assert effect.scores == {"discs": 1.0}


def test_each_class_has_so_many_cut_outs_and_their_mirror_images(stage):
    assert Counter(stage.cut_outs.classes.tolist()) == {0: 8, 1: 8}  # red, blue


def enlarged(photo, top, left, side, size):
    """A square of a photo at `size` pixels, bilinear, one pixel at a time."""
    view = np.zeros((size, size, 3))
    for i, j in np.ndindex(size, size):
        y, x = (np.array((i, j)) + 0.5) * side / size - 0.5 + (top, left)
        for row, column in ((r, c) for r in (int(y), int(y) + 1) for c in (int(x), int(x) + 1)):
            weight = (1 - abs(y - row)) * (1 - abs(x - column))
            view[i, j] += weight * photo[row, column]
    return view


def test_cut_outs_are_what_clip_sees_of_a_mask(stage, data):
    """Of the val split: every mask, cut by hand from the photos."""
    expected = []
    for key in ("val0", "val1"):
        image = np.asarray(Image.open(data / "discs" / "images" / f"{key}.png")).astype(float)
        labels = np.asarray(Image.open(data / "discs" / "labels" / f"{key}.png"))
        for label in (1, 7):
            alone = np.where((labels == label)[..., None], image, (123.675, 116.28, 103.53))
            rows, columns = np.nonzero(labels == label)
            assert np.ptp(rows) == np.ptp(columns) == 22  # a disc of radius 12: already square
            view = enlarged(alone, rows.min(), columns.min(), 23, 32)
            for pixels in (view, view[:, ::-1]):
                tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
                feature = stage.visual.image_features(stage.model.normalise(tensor))
                expected.append(F.normalize(feature[0], dim=0))
    found = stage.validation.features
    assert len(found) == len(expected)
    # The photos are looked at in an order of their own; pixels are rounded to 8 bits.
    assert torch.cdist(torch.stack(expected), found).amin(1).max() < 3e-3
    assert stage.validation.classes.tolist() == [0, 0, 1, 1] * 2


def test_a_batch_is_a_function_of_its_step(stage):
    assert torch.equal(stage.batch(3), stage.batch(3))
    assert not torch.equal(stage.batch(3), stage.batch(4))


def test_the_loss_is_the_cross_entropy_over_the_names(stage):
    batch = stage.batch(0)
    text = stage.model.text.encode(["red", "blue"])
    total = 0.0
    for row in batch.tolist():
        logits = 20 * (text @ stage.cut_outs.features[row])
        total -= logits.log_softmax(0)[stage.cut_outs.classes[row]].item()
    assert stage.losses(batch)["class"].item() == pytest.approx(total / len(batch), rel=1e-4)


def test_a_model_without_clip_or_prompt_is_refused(tiny, data):
    with pytest.raises(UsageError, match="CLIP's image tower and a learned prompt.*--init"):
        PromptStage(build(tiny), CONFIG, data, CPU)


def test_masks_that_are_all_too_small(tiny_clip, data):
    config = PromptStageConfig("discs", smallest=10_000)
    with pytest.raises(UsageError, match="discs: no mask has 10000 pixels"):
        PromptStage(build(tiny_clip), config, data, CPU)
