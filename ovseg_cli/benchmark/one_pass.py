"""DeOP at its published sizes, with random weights: one pass against the two-stream way.

The two-stream way (zsseg, the paper's baseline) sends each mask through CLIP by itself, as a crop
of the photo; here through the very same tower, unsevered. Ways are timed in turn and compared by
the medians, for the speed of a machine drifts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg_cli.benchmark.figure import Figure
from ovseg_cli.cores import keep_freed_memory
from ovseg_cli.data.transforms import masked_crop, to_tensor
from ovseg_cli.frame import Frame
from ovseg_cli.model.build import build
from ovseg_cli.model.clip import VisualTower
from ovseg_cli.model.config import DeOPConfig
from ovseg_cli.model.deop import DeOP, TextFeatures
from ovseg_cli.model.label_map import label_map
from ovseg_cli.scoring import Scorer

SIDE = 512  # of the photo, pixels
CROP = 224  # of a mask's crop, as CLIP was trained
FEW, USUAL, MANY = 20, 171, 847  # names
CROPS = 20  # that go through the tower at once

Way = Callable[[], object]


@torch.inference_mode()
def one_pass(runs: int, config: DeOPConfig | None = None) -> Iterator[Figure]:
    """Seconds a photo of 512×512 pixels and what they go into; text features are at hand.

    config: other sizes than the published ones.
    """
    keep_freed_memory()  # as the commands do
    torch.manual_seed(0)
    network = build(config or DeOPConfig()).eval().to(memory_format=torch.channels_last)
    photo = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    bench = _Bench(network, photo)
    whole = {str(count): bench.labels(count) for count in (FEW, USUAL, MANY)}
    parts = bench.parts()
    seconds = _medians({**whole, **parts}, runs)
    (two_stream,) = _medians({"": bench.two_stream}, 1).values()
    deop, forwards = seconds[str(USUAL)], seconds["the two networks alone"]
    yield Figure(f"one pass, {USUAL} names", deop, "s")
    for name in parts:
        yield Figure(f"  {name}", seconds[name], "s")
    masks = network.config.proposal.queries if network.config.proposal else 0
    yield Figure(f"two-stream, {masks} masks", two_stream, "s")
    yield Figure("two-stream against one pass", two_stream / deop, "×")
    yield Figure("added to the two networks' own passes", deop / forwards - 1, "of them")
    yield Figure(f"{MANY} names against {FEW}", seconds[str(MANY)] / seconds[str(FEW)], "×")


class _Bench:
    """The ways to be timed."""

    def __init__(self, network: DeOP, photo: np.ndarray) -> None:
        assert isinstance(network.visual, VisualTower)
        self.network = network
        self.tower = network.visual
        self.photo = photo
        self.scorer = Scorer(network, torch.device("cpu"), "fp32")
        self.image = network.normalise(to_tensor(photo[None], torch.device("cpu")))

    def labels(self, names: int) -> Way:
        """From the photo to its label map."""
        text = self._text(names)

        def run() -> object:
            (scores,) = self.scorer.score_maps([Frame(self.photo)], text)
            return label_map(scores, (SIDE, SIDE))

        return run

    def _text(self, names: int) -> TextFeatures:
        width = self.network.config.joint_width
        return TextFeatures(F.normalize(torch.randn(names, width), dim=-1))

    def parts(self) -> dict[str, Way]:
        """What the one pass is made of."""
        network, image = self.network, self.image
        features = network.backbone(image)
        proposals = network.proposals(features)
        masks = proposals.mask_logits
        patches = self.tower(image, masks).permute(0, 3, 1, 2)
        shares = F.interpolate(masks.sigmoid(), patches.shape[-2:])
        text = self._text(USUAL)
        (scores,) = self.scorer.score_maps([Frame(self.photo)], text)
        return {
            "the two networks alone": lambda: (
                self.tower.image_features(image),
                network.proposals(network.backbone(image)),
            ),
            "backbone": lambda: network.backbone(image),
            "pixel decoder": lambda: network.proposals.pixel_decoder(features),
            "mask proposals in all": lambda: network.proposals(features),
            "visual encoder, severed": lambda: self.tower(image, masks),
            "visual encoder, as CLIP has it": lambda: self.tower.image_features(image),
            "heatmap decoder": lambda: network.heatmap_decoder(patches, shares),
            "scores to labels": lambda: label_map(scores, (SIDE, SIDE)),
        }

    def two_stream(self) -> Tensor:
        """Each mask's class from its own crop through CLIP, summed over the masks as S is."""
        network = self.network
        proposals = network.proposals(network.backbone(self.image))
        masks = F.interpolate(proposals.mask_logits, (SIDE, SIDE), mode="bilinear")[0].sigmoid()
        colour = network.config.input.pixel_mean
        # With random weights masks may be anything; the largest halves of them are never empty.
        chosen = (masks >= masks.flatten(1).median(1).values[:, None, None]).numpy()
        crops = np.stack([masked_crop(self.photo, mask, CROP, colour) for mask in chosen])
        views = network.normalise(to_tensor(crops, self.image.device))
        regions = torch.cat([self.tower.image_features(part) for part in views.split(CROPS)])
        logits = network.class_logits(F.normalize(regions, dim=-1), self._text(USUAL))
        return torch.einsum("qk,qyx->kyx", logits.softmax(-1)[:, :-1], masks).argmax(0)


def _medians(ways: dict[str, Way], runs: int) -> dict[str, float]:
    """Median seconds of each, after one unmeasured turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(runs + (runs > 1)):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn or runs == 1:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}
