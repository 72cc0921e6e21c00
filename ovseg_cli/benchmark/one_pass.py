"""DeOP at its published sizes, with random weights: one pass against the two-stream way.

The two-stream way (zsseg, the paper's baseline) sends each mask through CLIP by itself, as a crop
of the photo; here through the very same tower, unsevered.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ovseg_cli.benchmark.figure import LOWER, Figure
from ovseg_cli.benchmark.fresh import in_fresh_process
from ovseg_cli.benchmark.networks import (
    DEOP,
    SIDE,
    labelling,
    random_network,
    random_text,
    scorer,
)
from ovseg_cli.benchmark.plan import Plan
from ovseg_cli.benchmark.ways import Way, medians
from ovseg_cli.cores import keep_freed_memory
from ovseg_cli.data.transforms import masked_crop, to_tensor
from ovseg_cli.frame import Frame
from ovseg_cli.model.clip import VisualTower
from ovseg_cli.model.config import DeOPConfig
from ovseg_cli.model.deop import DeOP
from ovseg_cli.model.label_map import label_map
from ovseg_cli.prepared import prepare
from ovseg_cli.scoring import Scorer

CROP = 224  # of a mask's crop, as CLIP was trained
FEW, USUAL, MANY = 20, 171, 847  # names
CROPS = 20  # that go through the tower at once


def section(plan: Plan) -> Iterator[Figure]:
    """The figures of `one_pass`, measured in a process of its own."""
    yield from in_fresh_process(one_pass, plan.runs, plan.device)


@torch.inference_mode()
def one_pass(runs: int, device: str = "cpu", config: DeOPConfig = DEOP) -> list[Figure]:
    """Seconds a photo of 512×512 pixels and what they go into; text features are at hand.

    config: other sizes than the published ones.
    """
    keep_freed_memory()  # as the commands do
    ways = scorer(random_network(config), device)
    photo = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    counts = (FEW, USUAL, MANY)
    whole = {str(count): labelling(ways, [photo], random_text(count, ways)) for count in counts}
    bench = TwoStream(ways, photo)
    parts = bench.parts()
    seconds = medians({**whole, **parts}, runs)
    (two_stream,) = medians({"": bench.labels}, 1).values()
    deop, forwards = seconds[str(USUAL)], seconds["the two networks alone"]
    masks = config.proposal.queries if config.proposal else 0
    added = deop / forwards - 1
    names = seconds[str(MANY)] / seconds[str(FEW)]
    return [
        Figure("one-pass.deop", f"one pass, {USUAL} names", deop, "s", LOWER),
        *(
            Figure(f"one-pass.part.{name.replace(' ', '-')}", f"  {name}", seconds[name], "s")
            for name in parts
        ),
        Figure("one-pass.two-stream", f"two-stream, {masks} masks", two_stream, "s"),
        Figure("one-pass.ratio", "two-stream against one pass", two_stream / deop, "×"),
        Figure("one-pass.added", "added to the two networks' own passes", added, "of them"),
        Figure("one-pass.names", f"{MANY} names against {FEW}", names, "×"),
    ]


class TwoStream:
    """A network's mask proposals, named one by one; and what its own one pass is made of."""

    def __init__(self, scorer: Scorer, photo: np.ndarray) -> None:
        """photo: (H, W, 3) uint8."""
        assert isinstance(scorer.network, DeOP)
        assert isinstance(scorer.network.visual, VisualTower)
        self.network = scorer.network
        self.tower = scorer.network.visual
        self.scorer = scorer
        prepared = prepare(Frame(photo), scorer.network, scorer.device)
        self.image, self.size_hw = prepared.pixels, prepared.valid_hw
        size_wh = self.size_hw[::-1]
        self.photo = np.asarray(Image.fromarray(photo).resize(size_wh, Image.Resampling.BILINEAR))
        self.text = random_text(USUAL, scorer)

    def parts(self) -> dict[str, Way]:
        """What the one pass is made of."""
        network, image = self.network, self.image
        features = network.backbone(image)
        proposals = network.proposals(features)
        masks = proposals.mask_logits
        patches = self.tower(image, masks).permute(0, 3, 1, 2)
        shares = F.interpolate(masks.sigmoid(), patches.shape[-2:])
        (scores,) = self.scorer.score_maps([Frame(self.photo)], self.text)
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
            "scores to labels": lambda: label_map(scores, self.size_hw),
        }

    def labels(self) -> Tensor:
        """Each mask's class from its own crop through CLIP, summed over the masks as S is."""
        network = self.network
        logits = network.proposals(network.backbone(self.image)).mask_logits
        logits = F.interpolate(logits.float(), self.image.shape[-2:], mode="bilinear")
        masks = logits[0, :, : self.size_hw[0], : self.size_hw[1]].sigmoid()
        colour = network.config.input.pixel_mean
        # With random weights masks may be anything; the largest halves of them are never empty.
        chosen = (masks >= masks.flatten(1).median(1).values[:, None, None]).cpu().numpy()
        crops = np.stack([masked_crop(self.photo, mask, CROP, colour) for mask in chosen])
        views = network.normalise(to_tensor(crops, self.image.device))
        regions = torch.cat([self.tower.image_features(part) for part in views.split(CROPS)])
        class_logits = network.class_logits(F.normalize(regions, dim=-1), self.text)
        return torch.einsum("qk,qyx->kyx", class_logits.softmax(-1)[:, :-1], masks).argmax(0)
