"""What a user may want otherwise of a model's configuration."""

from __future__ import annotations

from dataclasses import replace

from ovseg_cli.errors import UsageError
from ovseg_cli.model.config import (
    PROPOSALS,
    ClipVisualConfig,
    ModelConfig,
    PyramidVisualConfig,
)

# What the last layer may do (DeOP, arXiv 2304.01198, and training-free works on CLIP): its
# severance, and whether its residual and MLP are usually left out.
ATTENTIONS = {
    "severed": ("gps", False),
    "mask": ("mps", False),
    "csa": ("csa", False),
    "self": ("self", True),
    "neighbour": ("neighbour", True),
}
LAST_BLOCKS = ("full", "reduced")
SMALLEST, LARGEST = 32, 4096  # shorter side, pixels, at which a photo may be seen
# How often a photo is looked at: once; or at three sizes, each time in a mirror, too.
QUALITIES: dict[str, tuple[bool, tuple[float, ...]]] = {
    "fast": (False, (1.0,)),
    "high": (True, (1.25, 1.0, 0.875)),
}


def with_input(
    config: ModelConfig, size: int | None, proposals: str | None, quality: str | None = None
) -> ModelConfig:
    """The configuration with other looks at photos or other regions; None = its own.

    size: shorter side, pixels; proposals: one of PROPOSALS; quality: one of QUALITIES. Raises
    UsageError.
    """
    if quality is not None:
        if quality not in QUALITIES:
            raise UsageError(f"no quality {quality!r}; there are {', '.join(QUALITIES)}")
        mirror, scales = QUALITIES[quality]
        looks = replace(config.input, mirror=mirror, mirror_scale=1.0, scales=scales)
        config = replace(config, input=looks)
    if proposals is not None:
        if proposals not in PROPOSALS:
            raise UsageError(f"no proposals {proposals!r}; there are {', '.join(PROPOSALS)}")
        if proposals == "queries" and not config.has_proposals:
            raise UsageError("this model is a plain CLIP without mask proposals: it has only grid")
        config = replace(config, proposals=proposals)
    if size is not None:
        if not SMALLEST <= size <= LARGEST:
            raise UsageError(f"a photo is seen at {SMALLEST} to {LARGEST} pixels, not at {size}")
        looks = replace(config.input, min_size=size, max_size=config.input.longest(size))
        config = replace(config, input=looks)
    return config


def with_attention(
    config: ModelConfig, attention: str | None, last_block: str | None
) -> ModelConfig:
    """The configuration with another attention in the visual encoder's last layer.

    attention: one of ATTENTIONS; last_block: one of LAST_BLOCKS; None = the model's own, or what
    is usual with that attention. Raises UsageError.
    """
    for value, known in ((attention, ATTENTIONS), (last_block, LAST_BLOCKS)):
        if value is not None and value not in known:
            raise UsageError(f"no {value!r} for the last layer; there are {', '.join(known)}")
    visual = config.visual
    if attention is not None:
        severance, reduced = ATTENTIONS[attention]
        visual = replace(visual, severance=severance, reduced=reduced)
        if isinstance(visual, ClipVisualConfig):  # a checkpoint's may be others, or none
            visual = replace(visual, severed_layers=(visual.layers - 1,))
    if last_block is not None:
        if not _is_last_severed(visual):
            raise UsageError("this model's last layer is not severed: name an --attention, too")
        visual = replace(visual, reduced=last_block == "reduced")
    return replace(config, visual=visual)


def _is_last_severed(visual: ClipVisualConfig | PyramidVisualConfig) -> bool:
    if isinstance(visual, ClipVisualConfig):
        return visual.severed_layers == (visual.layers - 1,)
    return visual.severance is not None
