"""The benchmark of one pass against two streams, on a model of toy size."""

import torch
from small_models import CLIP

from ovseg_cli.benchmark import one_pass as module
from ovseg_cli.benchmark.one_pass import _Bench, _medians, one_pass
from ovseg_cli.model.build import build


def test_the_figures_are_ratios_of_what_was_timed():
    figures = {figure.name.strip(): figure for figure in one_pass(1, CLIP)}
    value = {name: figure.value for name, figure in figures.items()}
    assert all(v > 0 for name, v in value.items() if not name.startswith("added"))
    ratio = value["two-stream, 5 masks"] / value["one pass, 171 names"]
    assert value["two-stream against one pass"] == ratio
    assert {"backbone", "heatmap decoder", "scores to labels"} <= set(value)
    assert value["backbone"] < value["the two networks alone"] * 2


def test_the_two_streams_see_every_mask_once(monkeypatch):
    monkeypatch.setattr(module, "CROPS", 4)
    network = build(CLIP).eval()
    bench = _Bench(network, torch.randint(0, 256, (512, 512, 3), dtype=torch.uint8).numpy())
    seen = []
    features = bench.tower.image_features

    def counted(images):
        seen.append(tuple(images.shape))
        return features(images)

    monkeypatch.setattr(bench.tower, "image_features", counted)
    with torch.inference_mode():
        labels = bench.two_stream()
    assert seen == [(4, 3, 224, 224), (1, 3, 224, 224)]
    assert labels.shape == (512, 512)


def test_medians_leave_out_the_first_turn():
    turns = []
    found = _medians({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, 3)
    assert turns == ["a", "b"] * 4
    assert set(found) == {"a", "b"}
