"""The sizes of a model; DeOP's in full. A checkpoint carries its configuration as JSON."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

PROPOSALS = ("queries", "grid")
SEVERANCES = ("gps_mask", "gps", "mps")  # DeOP's
LOCAL = ("csa", "self", "neighbour")  # those of training-free works on CLIP
MASKED = ("gps_mask", "mps")  # those that look at mask proposals
# OpenAI's, 0.4815, 0.4578, 0.4082 and 0.2686, 0.2613, 0.2758 of the full range.
CLIP_MEAN = (122.7709383, 116.7460125, 104.09373615)
CLIP_STD = (68.5005327, 66.6321579, 70.32316305)

# No model has larger sizes, nor so many layers: a file that says so is damaged, or a trap.
LARGEST, MOST_LAYERS = 10_000_000, 1000
SMALLEST_STD = 1e-3  # of pixels; float32 could not hold what is divided by far less
COUNTS = ("context_layers", "depths", "layers", "severed_layers", "shallow_layers")


@dataclass(frozen=True)
class InputConfig:
    """How a photo becomes the network's input; see `scoring.Scorer`."""

    min_size: int | None = 512  # shorter side after resizing, pixels; None = keep the photo's size
    max_size: int = 2560  # longer side at most
    size_divisibility: int = 32  # zero padding at the right and bottom to a multiple of this
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # RGB, 0..255
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    mirror: bool = False  # look at the mirror image, too
    mirror_scale: float = 1.0  # by which the mirror image is seen larger than the photo
    scales: tuple[float, ...] = (1.0,)  # of these sizes: one look each

    def __post_init__(self) -> None:
        if not self.scales or not all(0.1 <= scale <= 10 for scale in self.scales):
            raise ValueError(f"scales are between 0.1 and 10, at least one, not {self.scales}")
        if (
            self.size_divisibility < 1
            or self.max_size < 1
            or (self.min_size is not None and self.min_size < 1)
        ):
            raise ValueError("min_size, max_size and size_divisibility are at least one pixel")
        if not min(self.pixel_std) >= SMALLEST_STD:
            raise ValueError(f"pixel_std is {SMALLEST_STD} or more, not {self.pixel_std}")
        if not 0.1 <= self.mirror_scale <= 10:
            raise ValueError(f"mirror_scale is between 0.1 and 10, not {self.mirror_scale}")

    def longest(self, shorter: int) -> int:
        """Longer side at most, pixels, of photos that are seen with another shorter side."""
        return max(shorter, round(self.max_size * shorter / (self.min_size or shorter)))


@dataclass(frozen=True)
class BackboneConfig:
    """ResNet with the deeplab stem; the defaults are ResNet-101c."""

    stem_channels: tuple[int, int, int] = (64, 64, 128)
    block: str = "bottleneck"  # or "basic": two 3×3 convolutions (ResNet-18 and -34)
    depths: tuple[int, int, int, int] = (3, 4, 23, 3)  # blocks in res2..res5
    inner_channels: tuple[int, int, int, int] = (64, 128, 256, 512)  # of the 3×3 convolutions
    out_channels: tuple[int, int, int, int] = (256, 512, 1024, 2048)
    res5_multi_grid: tuple[int, ...] = (1, 2, 4)  # dilation of each block of res5


@dataclass(frozen=True)
class ProposalConfig:
    """MaskFormer: FPN pixel decoder and query transformer."""

    pixel_channels: int = 256  # of the FPN levels
    mask_channels: int = 256  # of the mask features and mask embeddings
    norm_groups: int = 32  # of the FPN's GroupNorm
    queries: int = 100
    hidden: int = 256  # transformer width
    input_proj: bool = True  # False: res5 has this width, and goes to the transformer as it is
    heads: int = 8
    layers: int = 6
    feedforward: int = 2048
    class_hidden: int = 1024  # of the class head, used in training only
    class_channels: int = 512  # of what the class head gives


@dataclass(frozen=True)
class ClipVisualConfig:
    """CLIP's image tower (ViT) with patch severance."""

    patch_size: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    grid: int = 14  # side of CLIP's own position table
    run_grid: int | None = 24  # side of the learned position tables; None = there are none
    position_layers: tuple[int, ...] = (1, 2, 3, 4, 5)  # layers that have one at their entry
    severed_layers: tuple[int, ...] = (11,)
    severance: str = "gps_mask"  # one of SEVERANCES or LOCAL
    reduced: bool = False  # severed layers give their attention alone: no residual, no MLP
    gelu: str = "quick"  # OpenAI's approximation; "exact" in many of open_clip's own models
    kind: str = "clip"

    def patches(self, length: int) -> int:
        """Patches along an axis of so many pixels: what fills none is not seen."""
        return length // self.patch_size


@dataclass(frozen=True)
class PyramidVisualConfig:
    """A small visual encoder on the proposal network's own backbone."""

    channels: int = 128  # of its FPN levels
    norm_groups: int = 32
    context_width: int = 256  # of the transformer layers on res5
    context_layers: int = 2
    context_heads: int = 8
    severed_layers: int = 2  # per-patch residual MLPs at the end: nothing mixes any more
    severance: str | None = None  # of the last transformer layer: one of SEVERANCES or LOCAL
    reduced: bool = False  # that layer gives its attention alone: no residual, no MLP
    kind: str = "pyramid"
    patch_size: ClassVar[int] = 4  # the stride of what it gives

    def patches(self, length: int) -> int:
        """Patches along an axis of so many pixels: the last one may be seen in part."""
        return -(-length // self.patch_size)


@dataclass(frozen=True)
class TextConfig:
    """CLIP's text tower and its prompt."""

    width: int = 512
    heads: int = 8
    layers: int = 12
    context: int = 77  # tokens, start and end included
    tokens: int = 49408  # rows of the embedding table
    prompt_prefix: int = 16  # learned vectors before the name; 0 with suffix 0 = templates
    prompt_suffix: int = 0
    templates: tuple[str, ...] = ("{}",)  # used where no prompt was learned
    gelu: str = "quick"  # as in `ClipVisualConfig`


@dataclass(frozen=True)
class HeatmapConfig:
    """The heatmap decoder (classification anchor learning)."""

    heads: int = 8
    layers: int = 1  # before the output layer
    feedforward: int = 1024


@dataclass(frozen=True)
class OtherWeight:
    """What a pixel's non-object mass is multiplied by where K names compete: scale · K^power.

    By chance K names collect more than one does. See `label_map`.
    """

    scale: float = 1.0
    power: float = 0.0

    def __post_init__(self) -> None:
        if not 1e-3 <= self.scale <= 100:
            raise ValueError(f"scale lies in 0.001..100, not at {self.scale}")
        if not 0 <= self.power <= 2:
            raise ValueError(f"power lies in 0..2, not at {self.power}")

    def __call__(self, names: int) -> float:
        """For that many names, 1 or more."""
        return float(self.scale * names**self.power)


@dataclass(frozen=True)
class ModelConfig:
    """What the configurations of all models have; the defaults are DeOP's."""

    joint_width: int = 512  # C: width of patch, mask and text features
    proposals: str = "queries"  # what is classified, one of PROPOSALS; "grid": each patch
    other_weight: OtherWeight = field(default_factory=OtherWeight)
    input: InputConfig = field(default_factory=InputConfig)
    visual: ClipVisualConfig | PyramidVisualConfig = field(default_factory=ClipVisualConfig)
    text: TextConfig = field(default_factory=TextConfig)

    PARTS: ClassVar[dict[str, type]] = {
        "other_weight": OtherWeight,
        "input": InputConfig,
        "text": TextConfig,
    }

    @property
    def has_proposals(self) -> bool:
        """Whether the model finds regions itself."""
        return True

    @property
    def patch_side(self) -> float:
        """Of a patch of the visual encoder, pixels of the network's input."""
        return self.visual.patch_size

    def patches(self, length: int) -> int:
        """How many of them lie along an axis of so many pixels."""
        return self.visual.patches(length)

    def seen(self, length: int) -> int:
        """The pixels that they cover of an axis of so many: its first ones."""
        return min(length, round(self.patches(length) * self.patch_side))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
        """The inverse of `to_dict`; raises ValueError for an unknown key."""
        pyramid = values.get("visual", {}).get("kind") == "pyramid"
        parts = {**cls.PARTS, "visual": PyramidVisualConfig if pyramid else ClipVisualConfig}
        built = {
            key: _from_dict(parts[key], value) if key in parts and value is not None else value
            for key, value in values.items()
        }
        found: Config = _from_dict(cls, built)
        return found


Config = TypeVar("Config", bound=ModelConfig)


@dataclass(frozen=True)
class DeOPConfig(ModelConfig):
    """A whole model; the defaults are the published one.

    A plain CLIP has neither `backbone` nor `proposal` nor `heatmap`: every patch for itself.
    """

    logit_scale: float = 100.0  # of the class logits
    backbone: BackboneConfig | None = field(default_factory=BackboneConfig)
    proposal: ProposalConfig | None = field(default_factory=ProposalConfig)
    heatmap: HeatmapConfig | None = field(default_factory=HeatmapConfig)

    PARTS: ClassVar[dict[str, type]] = {
        **ModelConfig.PARTS,
        "backbone": BackboneConfig,
        "proposal": ProposalConfig,
        "heatmap": HeatmapConfig,
    }

    @property
    def has_proposals(self) -> bool:
        """See `ModelConfig`."""
        return self.proposal is not None


def _from_dict(kind: type, values: dict[str, Any]) -> Any:
    known = {entry.name for entry in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown keys in the {kind.__name__}: {', '.join(unknown)}")
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    hints = typing.get_type_hints(kind)
    for key, value in given.items():
        if not _fits(value, hints[key], MOST_LAYERS if key in COUNTS else LARGEST):
            raise ValueError(f"{key} of the {kind.__name__} cannot be {str(value)[:60]!r}")
    return kind(**given)


def _fits(value: Any, hint: Any, most: int) -> bool:
    """Whether a value is of a field's type, and no number in it absurd."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return any(_fits(value, one, most) for one in inner)
    if origin is tuple:
        kinds = inner[:1] * len(value) if isinstance(value, tuple) and ... in inner else inner
        return (
            isinstance(value, tuple)
            and len(value) == len(kinds)
            and all(_fits(entry, one, most) for entry, one in zip(value, kinds, strict=True))
        )
    if hint is float or hint is int:
        allowed = (int, float) if hint is float else (int,)
        return type(value) in allowed and abs(value) <= most
    return isinstance(value, hint)
