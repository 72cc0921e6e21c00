"""DeOP: the paper's figure as one forward (Han et al., ICCV 2023, arXiv 2304.01198).

image ── backbone ── mask proposals ── mask logits M ──┐
  └───── visual encoder, patches severed by M ── F_V ──┴─ heatmap decoder ── F_I ── class logits
names ── text encoder ── F_T (and the non-object embedding) ─────────────────────────┘
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.model.backbone import Backbone
from ovseg_cli.model.clip import VisualTower
from ovseg_cli.model.config import DeOPConfig
from ovseg_cli.model.heatmap_decoder import HeatmapDecoder
from ovseg_cli.model.mask_former import MaskProposals
from ovseg_cli.model.network import Network, NetworkOutput, TextFeatures, every_patch, grid_of
from ovseg_cli.model.prompts import TextEncoder
from ovseg_cli.model.pyramid import PyramidVisual


@dataclass(frozen=True, eq=False)
class Regions:
    """The parts that find mask proposals and pool patches for them."""

    backbone: Backbone
    proposals: MaskProposals
    heatmap_decoder: HeatmapDecoder


class DeOP(Network):
    """One pass through each network for all names and all masks.

    Without `Regions` it is a plain CLIP whose patches stay local: it has none of the attributes
    `backbone`, `proposals` and `heatmap_decoder`, and `has_regions` is False.
    """

    config: DeOPConfig
    backbone: Backbone
    proposals: MaskProposals
    heatmap_decoder: HeatmapDecoder

    def __init__(
        self,
        config: DeOPConfig,
        visual: VisualTower | PyramidVisual,
        text: TextEncoder,
        regions: Regions | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.has_regions = regions is not None
        if regions is not None:
            self.backbone = regions.backbone
            self.proposals = regions.proposals
        self.visual = visual
        if regions is not None:
            self.heatmap_decoder = regions.heatmap_decoder
        self.text = text

    def forward(
        self, images: Tensor, text: TextFeatures, proposals: str | None = None
    ) -> NetworkOutput:
        """Regions of normalised and padded images, and their class logits.

        images: (B, 3, H, W), H and W multiples of `config.input.size_divisibility`;
        proposals: "queries" (trained mask proposals, named through heatmaps) or "grid" (every
        patch for itself); None = the model's own.
        """
        proposals = proposals or self.config.proposals
        if proposals == "grid":
            if isinstance(self.visual, PyramidVisual) and not self.looks_at_masks:
                logits = self.visual.cosines(self.backbone(images), self.directions(text))
                return every_patch(text.best(logits))
            return self.classify_patches(self.patch_features(images), text)
        features = self.backbone(images)
        mask_logits = self.proposals(features).mask_logits
        seen = features if isinstance(self.visual, PyramidVisual) else images
        patches = F.normalize(self.visual(seen, mask_logits), dim=-1)
        # Here the sigmoid comes before the resizing, in the visual encoder after it.
        masks = F.interpolate(
            mask_logits.sigmoid(), patches.shape[1:3], mode="bilinear", align_corners=False
        )
        regions = self.heatmap_decoder(patches.permute(0, 3, 1, 2), masks)  # (B, Q, C)
        return NetworkOutput(
            mask_logits,
            self.class_logits(regions, text),
            grid_of(patches),
            input_hw=(images.shape[2], images.shape[3]),
        )

    def patch_features(self, images: Tensor, mask_logits: Tensor | None = None) -> Tensor:
        """Patch features (B, h, w, C) of normalised images, not normalised to unit length.

        mask_logits: (B, N, ., .) masks from elsewhere, for a severance that looks at masks; None =
        the model's own proposals, where it has them and is one that looks at them.
        """
        pyramid = isinstance(self.visual, PyramidVisual)
        own_masks = mask_logits is None and self.looks_at_masks and self.has_regions
        features = self.backbone(images) if pyramid or own_masks else None
        if own_masks:
            mask_logits = self.proposals(features).mask_logits
        return self.visual(features if pyramid else images, mask_logits)

    def image_features(self, images: Tensor) -> Tensor:
        """One feature (B, C) of each normalised image as a whole, not normalised to unit length."""
        if isinstance(self.visual, PyramidVisual):
            return self.visual.image_features(self.backbone(images))
        return self.visual.image_features(images)

    def image_encoder(self) -> list[nn.Module]:
        """See `Network`."""
        return [self.visual, self.backbone] if self.has_regions else [self.visual]

    def logit_factor(self) -> float:
        """See `Network`; DeOP does not use the scale that CLIP learned."""
        return self.config.logit_scale
