"""Assembles models: the numbers of the bundled variant stand here, the published ones in config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, overload

import torch
from torch.overrides import TorchFunctionMode

from ovseg_cli.model.backbone import Backbone
from ovseg_cli.model.clip import VisualTower
from ovseg_cli.model.config import (
    BackboneConfig,
    ClipVisualConfig,
    DeOPConfig,
    HeatmapConfig,
    InputConfig,
    ModelConfig,
    OtherWeight,
    ProposalConfig,
    PyramidVisualConfig,
    TextConfig,
)
from ovseg_cli.model.deop import DeOP, Regions
from ovseg_cli.model.heatmap_decoder import HeatmapDecoder
from ovseg_cli.model.mask_former import MaskProposals
from ovseg_cli.model.network import Network
from ovseg_cli.model.prompts import TextEncoder
from ovseg_cli.model.pyramid import PyramidVisual
from ovseg_cli.model.san import INPUT, SAN, VISUAL, SANConfig
from ovseg_cli.model.side_adapter import SideAdapterConfig

MINI = DeOPConfig(
    joint_width=256,
    logit_scale=25.0,
    proposals="grid",
    # weights/EXPERIMENTS.md, "Non-object weighed by the number of names"
    other_weight=OtherWeight(scale=0.75, power=0.39),
    # weights/EXPERIMENTS.md, "Looks at a photo"
    input=InputConfig(
        min_size=240, max_size=1024, size_divisibility=8, mirror=True, mirror_scale=0.6667
    ),
    backbone=BackboneConfig(
        stem_channels=(24, 24, 48),
        block="basic",
        depths=(2, 2, 3, 2),
        inner_channels=(48, 96, 192, 320),
        out_channels=(48, 96, 192, 320),
        res5_multi_grid=(1, 2),
    ),
    proposal=ProposalConfig(
        pixel_channels=96,
        mask_channels=96,
        norm_groups=16,
        queries=50,
        hidden=128,
        heads=8,
        layers=3,
        feedforward=512,
        class_channels=256,
        class_hidden=256,
    ),
    visual=PyramidVisualConfig(
        channels=96, norm_groups=16, context_width=192, context_layers=2, context_heads=6
    ),
    text=TextConfig(
        width=192, heads=6, layers=3, context=32, tokens=16896, prompt_prefix=0, prompt_suffix=0
    ),
    heatmap=HeatmapConfig(heads=8, layers=1, feedforward=512),
)


# A SAN as small and as fast as MINI; it names things by the same text encoder.
MINI_SAN = SANConfig(
    joint_width=MINI.joint_width,
    input=replace(INPUT, min_size=352, max_size=1408),
    visual=replace(
        VISUAL, width=256, layers=8, heads=4, mlp_width=1024, grid=16, severed_layers=(7,)
    ),
    text=MINI.text,
    shallow_layers=6,
    clip_scale=0.67,
    side_adapter=SideAdapterConfig(
        width=160,
        layers=4,
        heads=4,
        mlp_width=640,
        grid=22,
        queries=32,
        fused_layers=(0, 2, 4, 6),
        decoder_width=128,
        mask_channels=64,
    ),
)
# The sizes that a recipe may ask for by name.
VARIANTS: dict[str, ModelConfig] = {
    "mini": MINI,
    "deop": DeOPConfig(),
    "san-mini": MINI_SAN,
    "san": SANConfig(),
}


@overload
def build(config: DeOPConfig) -> DeOP: ...


@overload
def build(config: ModelConfig) -> Network: ...


def build(config: ModelConfig) -> Network:
    """A model of these sizes with fresh weights. Raises ValueError for parts that do not fit."""
    return next(model for sizes, model in MODELS.values() if isinstance(config, sizes))(config)


def config_from_dict(values: dict[str, Any]) -> ModelConfig:
    """The configuration that `to_dict` gave; raises ValueError for a kind or key unknown here."""
    kind = values.get("kind", "deop")
    if kind not in MODELS:
        raise ValueError(f"a model of the kind {kind!r}; there are {', '.join(MODELS)}")
    return MODELS[kind][0].from_dict(values)


def _deop(config: DeOPConfig) -> DeOP:
    if config.backbone is None or config.proposal is None or config.heatmap is None:
        return DeOP(config, _plain_clip(config), TextEncoder(config.text, config.joint_width))
    backbone = Backbone(config.backbone)
    channels = config.backbone.out_channels
    visual: VisualTower | PyramidVisual
    if isinstance(config.visual, ClipVisualConfig):
        visual = VisualTower(config.visual, config.joint_width)
    else:
        visual = PyramidVisual(config.visual, channels, config.joint_width)
    regions = Regions(
        backbone,
        MaskProposals(config.proposal, channels),
        HeatmapDecoder(config.heatmap, config.joint_width, config.proposal.queries),
    )
    return DeOP(config, visual, TextEncoder(config.text, config.joint_width), regions)


def _plain_clip(config: DeOPConfig) -> VisualTower:
    if config.backbone or config.proposal or config.heatmap:
        raise ValueError("backbone, proposal and heatmap belong together: all of them or none")
    if not isinstance(config.visual, ClipVisualConfig):
        raise ValueError("without mask proposals a model needs CLIP's own image tower")
    if config.proposals != "grid":
        raise ValueError('without mask proposals there is "grid" alone')
    return VisualTower(config.visual, config.joint_width)


# Kind of model -> its configuration, and what assembles it.
MODELS: dict[str, tuple[type[ModelConfig], Callable[[Any], Network]]] = {
    "deop": (DeOPConfig, _deop),
    "san": (SANConfig, SAN),
}


def skeleton(config: ModelConfig) -> Network:
    """A model of these sizes whose tensors have shapes but no values yet, for a state dict.

    Not on the device "meta": there each operation goes through Python, and the first one makes
    torch import its compiler, which took as long as all the rest of loading a small model.
    Raises ValueError for sizes of which no model can be made.
    """
    try:
        with _WithoutDraws():
            return build(config)
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(f"no model can have these sizes: {error}") from error


class _WithoutDraws(TorchFunctionMode):
    """Memory is taken but neither filled nor touched."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn:
            func = torch.empty
        elif func.__name__.endswith(("normal_", "uniform_")):  # those of nn.init, too
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
