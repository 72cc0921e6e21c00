"""Networks to be timed; at published sizes with random weights, for only their cost matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from ovseg_cli.benchmark.ways import Way
from ovseg_cli.frame import Frame
from ovseg_cli.loading import choose_device
from ovseg_cli.model.build import build
from ovseg_cli.model.config import (
    CLIP_MEAN,
    CLIP_STD,
    ClipVisualConfig,
    DeOPConfig,
    InputConfig,
    ModelConfig,
)
from ovseg_cli.model.label_map import label_map
from ovseg_cli.model.network import Network, TextFeatures
from ovseg_cli.model.san import SANConfig
from ovseg_cli.scoring import Scorer

SIDE = 512  # of a photo, pixels
DEOP = DeOPConfig()
SAN = SANConfig()
CLIP = replace(  # ViT-B/16, each patch for itself; the shorter side that an imported CLIP sees
    DEOP,
    proposals="grid",
    input=InputConfig(336, size_divisibility=16, pixel_mean=CLIP_MEAN, pixel_std=CLIP_STD),
    backbone=None,
    proposal=None,
    heatmap=None,
    visual=ClipVisualConfig(run_grid=None, position_layers=(), severance="gps"),
)


def random_network(config: ModelConfig) -> Network:
    """A network of these sizes, ready for inference, the same one each time."""
    torch.manual_seed(0)
    return build(config).eval().to(memory_format=torch.channels_last)


def scorer(network: Network, device: str) -> Scorer:
    """A network on a device ("auto", "cpu", ...), in the precision that `load_model` chooses."""
    target = choose_device(device)
    return Scorer(network.to(target), target, "bf16" if target.type == "cuda" else "fp32")


def random_text(names: int, scorer: Scorer) -> TextFeatures:
    """So many names as unit vectors: what a photo costs depends on their number alone.

    Seen with `mini` and 1000 names: labels take about as long with these as with nouns (a tenth).
    """
    draw = torch.Generator().manual_seed(names)
    rows = torch.randn(names, scorer.network.config.joint_width, generator=draw)
    return TextFeatures(F.normalize(rows, dim=-1)).to(scorer.device)


def labelling(scorer: Scorer, photos: Sequence[np.ndarray], text: TextFeatures) -> Way:
    """From photos of one size, (H, W, 3) uint8 each, to their label maps."""
    frames = [Frame(photo) for photo in photos]

    def run() -> object:
        maps = scorer.score_maps(frames, text)
        return [label_map(s, f.size_hw) for s, f in zip(maps, frames, strict=True)]

    return run
