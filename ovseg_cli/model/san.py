"""SAN: a side adapter beside a frozen CLIP (Xu et al., CVPR 2023, arXiv 2302.12242).

image ─┬──────────────────────────── side adapter ─┬─ mask logits M
       │                              │            └─ attention biases A
       └─ smaller ── CLIP's shallow layers ───────── CLIP's deep layers, a class token a mask ── E
names ── text encoder ── F_T (and the background's embedding) ── class logits of E
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.model.clip import VisualTower
from ovseg_cli.model.config import (
    CLIP_MEAN,
    CLIP_STD,
    ClipVisualConfig,
    InputConfig,
    ModelConfig,
    TextConfig,
)
from ovseg_cli.model.network import Network, NetworkOutput, TextFeatures
from ovseg_cli.model.prompts import TextEncoder
from ovseg_cli.model.recognition import recognise
from ovseg_cli.model.side_adapter import SideAdapter, SideAdapterConfig
from ovseg_cli.vocabulary_files import templates

TEMPLATES = templates("vild")
INPUT = InputConfig(min_size=640, pixel_mean=CLIP_MEAN, pixel_std=CLIP_STD)
# The last layer is severed only where every patch is asked for itself.
VISUAL = ClipVisualConfig(run_grid=None, position_layers=(), severance="gps")
TEXT = TextConfig(prompt_prefix=0, templates=TEMPLATES)


@dataclass(frozen=True)
class SANConfig(ModelConfig):
    """A whole SAN; the defaults are the smaller published one, on CLIP ViT-B/16."""

    input: InputConfig = INPUT
    visual: ClipVisualConfig = VISUAL
    text: TextConfig = TEXT
    shallow_layers: int = 9  # CLIP's blocks that see no masks
    clip_scale: float = 0.5  # of CLIP's copy of the image
    side_adapter: SideAdapterConfig = field(default_factory=SideAdapterConfig)
    kind: str = "san"

    PARTS: ClassVar[dict[str, type]] = {**ModelConfig.PARTS, "side_adapter": SideAdapterConfig}

    @property
    def patch_side(self) -> float:
        """See `ModelConfig`; CLIP's copy of the image is smaller."""
        return self.visual.patch_size / self.clip_scale

    def patches(self, length: int) -> int:
        """See `ModelConfig`."""
        return self.visual.patches(int(length * self.clip_scale))


# Patch size of a CLIP -> its copy's share of the image's size, in the published models.
CLIP_SCALES = {16: 0.5, 14: 0.7}


def config_around(clip: ModelConfig) -> SANConfig:
    """The configuration of a SAN on a plain CLIP of these sizes, as the published ones are made.

    Raises ValueError for a tower that is no ViT, or whose patch size no published model has.
    """
    visual = clip.visual
    if not isinstance(visual, ClipVisualConfig) or visual.patch_size not in CLIP_SCALES:
        raise ValueError(f"a SAN needs a ViT with patches of {list(CLIP_SCALES)} pixels")
    shallow = visual.layers * 3 // 4
    return SANConfig(
        joint_width=clip.joint_width,
        visual=replace(visual, severance="gps", reduced=False),
        text=replace(clip.text, templates=TEMPLATES),
        shallow_layers=shallow,
        clip_scale=CLIP_SCALES[visual.patch_size],
        side_adapter=SideAdapterConfig(fused_layers=fused_layers(shallow, 4)),
    )


def fused_layers(shallow: int, fusions: int) -> tuple[int, ...]:
    """The CLIP blocks passed before each fusion: evenly from none to all the shallow ones."""
    return tuple(i * shallow // max(fusions - 1, 1) for i in range(fusions))


class SAN(Network):
    """One pass through CLIP and a small network beside it."""

    config: SANConfig

    def __init__(self, config: SANConfig) -> None:
        """Raises ValueError for sizes that do not fit."""
        super().__init__()
        side, shallow = config.side_adapter, config.shallow_layers
        if not 0 < shallow < config.visual.layers:
            raise ValueError(f"{shallow} shallow layers of a tower of {config.visual.layers}")
        if not set(side.fused_layers) <= set(range(shallow + 1)):
            raise ValueError(f"fused layers {side.fused_layers} after {shallow} shallow layers")
        if len(side.fused_layers) > side.layers + 1:
            raise ValueError(f"{len(side.fused_layers)} fusions in {side.layers} layers")
        self.config = config
        self.visual = VisualTower(config.visual, config.joint_width)
        self.side_adapter = SideAdapter(side, config.visual.width, config.visual.heads)
        self.text = TextEncoder(config.text, config.joint_width)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(100)))

    def forward(
        self, images: Tensor, text: TextFeatures, proposals: str | None = None
    ) -> NetworkOutput:
        """See `Network`; "queries" are those of the side adapter, named by CLIP's deep layers."""
        if (proposals or self.config.proposals) == "grid":
            return self.classify_patches(self.patch_features(images), text)
        streams, grid_hw = self.shallow(self.clip_images(images))
        mask_logits, biases = self.propose(images, streams, grid_hw)
        return NetworkOutput(
            mask_logits,
            self.name(streams[-1], biases, grid_hw, text),
            grid_hw,
            stride=self.config.side_adapter.patch_size,
            sharp=True,
            input_hw=(images.shape[2], images.shape[3]),
        )

    @property
    def names_by_patches(self) -> bool:
        """See `Network`: class tokens name the queries, and the last layer's patches reach none."""
        return self.config.proposals == "grid"

    def clip_images(self, images: Tensor) -> Tensor:
        """CLIP's smaller copy (B, 3, ⌊rH⌋, ⌊rW⌋) of normalised and padded images."""
        # By factor, not by size: positions are divided by r itself.
        factor = self.config.clip_scale
        return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)

    def shallow(self, images: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """CLIP's tokens (B, 1 + h·w, D) before its blocks and after each shallow one, and h, w.

        images: of `clip_images`.
        """
        x, grid_hw = self.visual.embed(images)
        streams = [self.visual.ln_pre(x)]
        for block in self.visual.blocks[: self.config.shallow_layers]:
            streams.append(block(streams[-1], severed=False))
        return streams, grid_hw

    def propose(
        self, images: Tensor, streams: Sequence[Tensor], grid_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Mask logits (B, N, H/16, W/16) and attention biases (B, heads, N, H/16, W/16).

        images: (B, 3, H, W), normalised and padded; streams, grid_hw: of `shallow`.
        """
        return self.propose_each(images, streams, grid_hw, 1)[-1]

    def propose_each(
        self, images: Tensor, streams: Sequence[Tensor], grid_hw: tuple[int, int], count: int
    ) -> list[tuple[Tensor, Tensor]]:
        """What `propose` gives after each of the side adapter's last `count` blocks."""
        fused = [
            streams[layer][:, 1:].transpose(1, 2).unflatten(2, grid_hw)
            for layer in self.config.side_adapter.fused_layers
        ]
        return self.side_adapter.each_block(images, fused, count)

    def name(
        self,
        tokens: Tensor,
        biases: Tensor,
        grid_hw: tuple[int, int],
        text: TextFeatures,
    ) -> Tensor:
        """Class logits (B, N, K+1) of masks; arguments as of `recognise`."""
        features = self.recognise(tokens, biases, grid_hw)
        return self.class_logits(F.normalize(features.float(), dim=-1), text)

    def recognise(self, tokens: Tensor, biases: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """Features (B, N, C) of masks, not normalised to unit length, from shallow tokens."""
        deep = self.visual.blocks[self.config.shallow_layers :]
        seen = recognise(deep, tokens, biases, grid_hw)
        return self.visual.ln_post(seen) @ self.visual.proj

    def read_patches(self, tokens: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """Patch features (B, h, w, C) from shallow tokens, not normalised, by CLIP alone."""
        for block in self.visual.blocks[self.config.shallow_layers :]:
            tokens = block(tokens, grid_hw=grid_hw)
        return (self.visual.ln_post(tokens[:, 1:]) @ self.visual.proj).unflatten(1, grid_hw)

    def patch_features(self, images: Tensor, mask_logits: Tensor | None = None) -> Tensor:
        """See `Network`: those of CLIP alone, at its smaller copy of the images."""
        smaller = self.clip_images(images)
        if mask_logits is None and self.looks_at_masks:
            mask_logits, _ = self.propose(images, *self.shallow(smaller))
        return self.visual(smaller, mask_logits)

    def image_features(self, images: Tensor) -> Tensor:
        """See `Network`."""
        return self.visual.image_features(self.clip_images(images))

    def image_encoder(self) -> list[nn.Module]:
        """See `Network`."""
        return [self.visual]

    def logit_factor(self) -> Tensor:
        """See `Network`."""
        return self.logit_scale.exp()
