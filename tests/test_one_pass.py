"""The benchmark of one pass against two streams, on a model of toy size."""

import numpy as np
import pytest
import torch
from small_models import CLIP

from ovseg_cli.benchmark import one_pass as module
from ovseg_cli.benchmark.networks import random_network, scorer
from ovseg_cli.benchmark.one_pass import TwoStream, one_pass
from ovseg_cli.benchmark.ways import medians


def test_the_figures_are_ratios_of_what_was_timed():
    figures = {figure.name.strip(): figure for figure in one_pass(1, "cpu", CLIP)}
    value = {name: figure.value for name, figure in figures.items()}
    assert all(v > 0 for name, v in value.items() if not name.startswith("added"))
    ratio = value["two-stream, 5 masks"] / value["one pass, 171 names"]
    assert value["two-stream against one pass"] == ratio
    assert {"backbone", "heatmap decoder", "scores to labels"} <= set(value)
    assert value["backbone"] < value["the two networks alone"] * 2


@pytest.mark.parametrize("size_hw", [(64, 64), (96, 128), (50, 70)])
def test_the_two_streams_see_every_mask_once(monkeypatch, size_hw):
    monkeypatch.setattr(module, "CROPS", 4)
    photo = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    bench = TwoStream(scorer(random_network(CLIP), "cpu"), photo)
    seen = []
    features = bench.tower.image_features

    def counted(images):
        seen.append(tuple(images.shape))
        return features(images)

    monkeypatch.setattr(bench.tower, "image_features", counted)
    with torch.inference_mode():
        labels = bench.labels()
    assert seen == [(4, 3, 224, 224), (1, 3, 224, 224)]
    shorter, longer = sorted(size_hw)
    assert tuple(sorted(labels.shape)) == (64, round(64 * longer / shorter))


def test_medians_leave_out_the_first_turn():
    turns = []
    found = medians({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, 3)
    assert turns == ["a", "b"] * 4
    assert set(found) == {"a", "b"}
