"""DeOP: the paper's figure as one forward (Han et al., ICCV 2023, arXiv 2304.01198).

image ── backbone ── mask proposals ── mask logits M ──┐
  └───── visual encoder, patches severed by M ── F_V ──┴─ heatmap decoder ── F_I ── class logits
names ── text encoder ── F_T (and the non-object embedding) ─────────────────────────┘
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.model.backbone import Backbone
from ovseg_cli.model.clip import VisualTower
from ovseg_cli.model.config import MASKED, DeOPConfig
from ovseg_cli.model.heatmap_decoder import HeatmapDecoder
from ovseg_cli.model.mask_former import MaskProposals
from ovseg_cli.model.prompts import TextEncoder
from ovseg_cli.model.pyramid import PyramidVisual


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """A vocabulary as the model sees it: one row a phrase, one or more phrases a class."""

    features: Tensor  # (P, C), L2-normalised; shorter for what is shown by pictures
    class_of: Tensor | None = None  # (P,) int64 class of each phrase; None: phrase = class

    @property
    def classes(self) -> int:
        """K."""
        return len(self.features) if self.class_of is None else int(self.class_of.max()) + 1

    def to(self, device: torch.device) -> TextFeatures:
        """The same on another device."""
        class_of = None if self.class_of is None else self.class_of.to(device)
        return TextFeatures(self.features.to(device), class_of)


@dataclass(frozen=True, eq=False)
class DeOPOutput:
    """Regions and what they are; `score_map` turns them into scores of pixels."""

    mask_logits: Tensor | None  # (B, Q, h, w) at stride 4; None: other regions than proposals
    class_logits: Tensor  # (B, Q, K+1), the last column non-object
    grid_hw: tuple[int, int]  # the visual encoder's patch grid


@dataclass(frozen=True, eq=False)
class Regions:
    """The parts that find mask proposals and pool patches for them."""

    backbone: Backbone
    proposals: MaskProposals
    heatmap_decoder: HeatmapDecoder


class DeOP(nn.Module):
    """One pass through each network for all names and all masks.

    Without `Regions` it is a plain CLIP whose patches stay local: it has none of the attributes
    `backbone`, `proposals` and `heatmap_decoder`, and `has_regions` is False.
    """

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

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in 0..255 -> the input of both networks."""
        mean, std = (
            images.new_tensor(values).view(3, 1, 1)
            for values in (self.config.input.pixel_mean, self.config.input.pixel_std)
        )
        return (images - mean) / std

    def forward(
        self, images: Tensor, text: TextFeatures, proposals: str | None = None
    ) -> DeOPOutput:
        """Regions of normalised and padded images, and their class logits.

        images: (B, 3, H, W), H and W multiples of `config.input.size_divisibility`;
        proposals: "queries" (trained mask proposals, named through heatmaps) or "grid" (every
        patch for itself); None = the model's own.
        """
        proposals = proposals or self.config.proposals
        if proposals == "grid":
            return self._classify_patches(self.patch_features(images), text)
        features = self.backbone(images)
        mask_logits = self.proposals(features).mask_logits
        seen = features if isinstance(self.visual, PyramidVisual) else images
        patches = F.normalize(self.visual(seen, mask_logits), dim=-1)
        # Here the sigmoid comes before the resizing, in the visual encoder after it.
        masks = F.interpolate(
            mask_logits.sigmoid(), patches.shape[1:3], mode="bilinear", align_corners=False
        )
        regions = self.heatmap_decoder(patches.permute(0, 3, 1, 2), masks)  # (B, Q, C)
        return DeOPOutput(mask_logits, self.class_logits(regions, text), _grid(patches))

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

    @property
    def looks_at_masks(self) -> bool:
        """Whether patch features depend on masks."""
        return self.config.visual.severance in MASKED

    def image_features(self, images: Tensor) -> Tensor:
        """One feature (B, C) of each normalised image as a whole, not normalised to unit length."""
        if isinstance(self.visual, PyramidVisual):
            return self.visual.image_features(self.backbone(images))
        return self.visual.image_features(images)

    def _classify_patches(self, patches: Tensor, text: TextFeatures) -> DeOPOutput:
        return DeOPOutput(None, self.patch_logits(patches, text).flatten(1, 2), _grid(patches))

    def classify_masks(self, patches: Tensor, masks: Tensor, text: TextFeatures) -> DeOPOutput:
        """Regions from elsewhere, named by the mean of their patches' features.

        patches: (B, h, w, C) of any length; masks: (B, Q, ., .) in [0, 1]. An empty
        mask has the feature zero.
        """
        patches = F.normalize(patches.float(), dim=-1)
        shares = F.interpolate(masks.float(), patches.shape[1:3], mode="area").flatten(2)
        means = shares @ patches.flatten(1, 2)  # (B, Q, C); their length does not matter
        return DeOPOutput(None, self.class_logits(F.normalize(means, dim=-1), text), _grid(patches))

    def patch_logits(self, patches: Tensor, text: TextFeatures) -> Tensor:
        """Class logits (B, h, w, K+1) of patch features (B, h, w, C) of any length."""
        # The cosine's division comes last: K+1 numbers a patch are fewer than C.
        length = patches.float().norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return self.class_logits(patches, text) / length

    def class_logits(self, features: Tensor, text: TextFeatures) -> Tensor:
        """Scaled cosines (..., K+1) of unit features (..., C); the last column is non-object.

        A class of several phrases has the logit of its best one.
        """
        scale = self.config.logit_scale
        # At this scale bfloat16 would round logits to steps of up to a half.
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            logits = scale * features @ text.features.T  # (..., P)
            if text.class_of is not None:
                best = logits.new_full((*logits.shape[:-1], text.classes), -torch.inf)
                index = text.class_of.expand_as(logits)
                logits = best.scatter_reduce(-1, index, logits, "amax")
            non_object = F.normalize(self.text.non_object_embedding, dim=-1)
            return torch.cat([logits, scale * features @ non_object.T], -1)


def _grid(patches: Tensor) -> tuple[int, int]:
    return patches.shape[1], patches.shape[2]
