"""The benchmark of one pass against two streams, on a model of toy size."""

import torch

from ovseg_cli.benchmark import one_pass as module
from ovseg_cli.benchmark.one_pass import _Bench, _medians, one_pass
from ovseg_cli.model.build import build
from ovseg_cli.model.config import (
    BackboneConfig,
    ClipVisualConfig,
    DeOPConfig,
    HeatmapConfig,
    InputConfig,
    ProposalConfig,
    TextConfig,
)

TOY = DeOPConfig(
    joint_width=16,
    input=InputConfig(min_size=64),
    backbone=BackboneConfig(
        stem_channels=(4, 4, 8), depths=(1, 1, 1, 1), inner_channels=(4, 4, 4, 4),
        out_channels=(8, 8, 8, 8), res5_multi_grid=(1,),
    ),
    proposal=ProposalConfig(
        pixel_channels=8, mask_channels=8, norm_groups=2, queries=6, hidden=8, heads=2, layers=1,
        feedforward=16, class_hidden=8, class_channels=16,
    ),
    visual=ClipVisualConfig(
        width=16, layers=2, heads=2, mlp_width=32, grid=2, run_grid=4, position_layers=(1,),
        severed_layers=(1,),
    ),
    text=TextConfig(width=16, heads=2, layers=1, prompt_prefix=2),
    heatmap=HeatmapConfig(heads=2, feedforward=16),
)  # fmt: skip


def test_the_figures_are_ratios_of_what_was_timed():
    figures = {figure.name.strip(): figure for figure in one_pass(1, TOY)}
    value = {name: figure.value for name, figure in figures.items()}
    assert all(v > 0 for name, v in value.items() if not name.startswith("added"))
    ratio = value["two-stream, 6 masks"] / value["one pass, 171 names"]
    assert value["two-stream against one pass"] == ratio
    assert {"backbone", "heatmap decoder", "scores to labels"} <= set(value)
    assert value["backbone"] < value["the two networks alone"] * 2


def test_the_two_streams_see_every_mask_once(monkeypatch):
    monkeypatch.setattr(module, "CROPS", 4)
    network = build(TOY).eval()
    bench = _Bench(network, torch.randint(0, 256, (512, 512, 3), dtype=torch.uint8).numpy())
    seen = []
    features = bench.tower.image_features

    def counted(images):
        seen.append(tuple(images.shape))
        return features(images)

    monkeypatch.setattr(bench.tower, "image_features", counted)
    with torch.inference_mode():
        labels = bench.two_stream()
    assert seen == [(4, 3, 224, 224), (2, 3, 224, 224)]
    assert labels.shape == (512, 512)


def test_medians_leave_out_the_first_turn():
    turns = []
    found = _medians({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, 3)
    assert turns == ["a", "b"] * 4
    assert set(found) == {"a", "b"}
