"""Stage "text": a small tower learns the vectors of some phrases."""

import numpy as np
import pytest
import torch

from ovseg_cli.model.build import build
from ovseg_cli.training.teacher import TextTargets
from ovseg_cli.training.text import TextStage, TextStageConfig

CPU = torch.device("cpu")
PHRASES = ("sky", "grass", "dog", "big dog", "a very long name", "cat", "car", "cars")


@pytest.fixture
def stage(tiny):
    features = np.random.default_rng(0).normal(size=(len(PHRASES), 16)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    targets = TextTargets(PHRASES, features, named=2)
    config = TextStageConfig(wordnet="", batch=32, named_share=0.25)
    return TextStage(build(tiny), config, targets, CPU)


def test_the_tower_learns_and_nothing_else(stage, learn):
    effect = learn(stage, 120, 1e-2)
    assert effect.after["distance"] < 0.3 * effect.before["distance"]
    assert effect.after["contrast"] < 0.3 * effect.before["contrast"]
    assert all(name.startswith("text.tower.") for name in effect.changed)
    assert effect.scores["named"] > 0.8


def test_a_share_of_each_batch_are_names_and_like_lengths_stand_together(stage):
    rows = stage.batch(5)
    assert torch.equal(rows, stage.batch(5))
    assert len(rows) == 32
    lengths = [len(PHRASES[row]) for row in rows.tolist()]
    assert lengths == sorted(lengths)
    named = np.mean([(stage.batch(step) < 2).float().mean().item() for step in range(200)])
    assert named == pytest.approx(0.25 + 0.75 * 2 / 8, abs=0.03)


def test_losses_follow_their_definitions(stage):
    rows = stage.batch(0)
    features = torch.stack([stage.model.text.features(stage.tokens[row][None])[0] for row in rows])
    targets = stage.features[rows]
    losses = stage.losses(rows)
    distance = np.mean([1 - (f @ t).item() for f, t in zip(features, targets, strict=True)])
    assert losses["distance"].item() == pytest.approx(distance, rel=1e-4)
    divergence = 0.0  # Kullback-Leibler, of what the teacher says from what the tower says
    for one, feature in zip(targets, features, strict=True):
        wanted = (20 * targets @ one).softmax(0)
        said = (20 * targets @ feature).softmax(0)
        divergence += (wanted * (wanted / said).log()).sum().item() / len(rows)
    assert losses["contrast"].item() == pytest.approx(divergence, rel=1e-3)


def test_scores_are_mean_cosines(stage):
    text = stage.model.text
    with torch.inference_mode():
        cosines = (text.features(text.tokenize(PHRASES)) * stage.features).sum(1)
        scores = stage.evaluate(stage.model)
    assert scores["named"] == pytest.approx(cosines[:2].mean().item(), rel=1e-4)
    assert scores["all"] == pytest.approx(cosines[0].item(), rel=1e-4)  # every 50th
