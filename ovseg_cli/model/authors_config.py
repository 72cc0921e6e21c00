"""The sizes of a model in the DeOP authors' format, from its tensors and a few options."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ovseg_cli.errors import UsageError
from ovseg_cli.model.config import (
    CLIP_MEAN,
    CLIP_STD,
    LARGEST,
    LOCAL,
    SEVERANCES,
    SMALLEST_STD,
    BackboneConfig,
    ClipVisualConfig,
    DeOPConfig,
    HeatmapConfig,
    InputConfig,
    ProposalConfig,
    TextConfig,
)
from ovseg_cli.model.shapes import Shapes

# Where the parts of the model stand in the authors' names.
CLIP = "clip_adapter.clip_model"
PROMPT = "clip_adapter.prompt_learner"
PREDICTOR = "sem_seg_head.predictor"
PIXELS = "sem_seg_head.pixel_decoder"
CLASSES = f"{PREDICTOR}.class_embed"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, (list, tuple)) and all(fits(entry) for entry in value)


def _is_rgb(value: Any) -> bool:
    return _is_list(value, lambda v: type(v) in (int, float)) and len(value) == 3


NO_PADDING = (0, -1)  # size_divisibility in detectron2's configurations
# Each option: what it must be, in words and as a test.
OPTIONS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **{
        key: ("a positive integer", _is_count)
        for key in (
            "visual_heads",
            "text_heads",
            "proposal_heads",
            "cal_heads",
            "max_size",
        )
    },
    "size_divisibility": (
        "a positive integer, or 0 or -1 for no padding",
        lambda value: _is_count(value) or (type(value) is int and value in NO_PADDING),
    ),
    "min_size": ("a positive integer or null", lambda value: value is None or _is_count(value)),
    "severance": (f"one of {', '.join(SEVERANCES)}", lambda value: value in SEVERANCES),
    "severed_layers": (
        "a list of layer numbers from 0",
        lambda value: _is_list(value, lambda layer: type(layer) is int and layer >= 0),
    ),
    "res5_multi_grid": (
        "a list of positive integers",
        lambda value: _is_list(value, _is_count),
    ),
    "pixel_mean": ("three numbers", _is_rgb),
    "pixel_std": (
        f"three numbers of {SMALLEST_STD} or more",
        lambda value: _is_rgb(value) and min(value) >= SMALLEST_STD,
    ),
}


CLIP_ATTENTIONS = ("gps", *LOCAL)  # those that need no mask proposals
# Of a plain CLIP.
CLIP_OPTIONS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **{
        key: OPTIONS[key]
        for key in (
            *("visual_heads", "text_heads", "severed_layers"),
            *("min_size", "max_size", "size_divisibility", "pixel_mean", "pixel_std"),
        )
    },
    "severance": (f"one of {', '.join(CLIP_ATTENTIONS)}", lambda value: value in CLIP_ATTENTIONS),
    "reduced": ("true or false", lambda value: isinstance(value, bool)),
    "gelu": ("quick or exact", lambda value: value in ("quick", "exact")),
}


def check_options(
    options: Mapping[str, Any],
    known: Mapping[str, tuple[str, Callable[[Any], bool]]] = OPTIONS,
) -> None:
    """Raises UsageError for options that are unknown, of the wrong kind, or at odds."""
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UsageError(
            f"unknown keys in the model's configuration: {', '.join(unknown)}; "
            f"known are {', '.join(sorted(known))}"
        )
    for key, value in options.items():
        kind, fits = known[key]
        if not fits(value):
            raise UsageError(f"{key} in the model's configuration is {value!r}, not {kind}")
    shorter, longer = options.get("min_size"), options.get("max_size")
    if shorter is not None and longer is not None and shorter > longer:
        raise UsageError(
            f"min_size {shorter} in the model's configuration is above max_size {longer}: they are "
            "the shorter side of a photo and the most that the longer one may have"
        )


def derive_config(shapes: Shapes, options: Mapping[str, Any]) -> DeOPConfig:
    """The configuration of a model whose tensors, by the authors' names, have these shapes.

    Raises CheckpointError where no tensor tells a size.
    """
    joint_width = shapes.size(
        f"{CLIP}.visual.proj:1", f"{CLIP}.text_projection:1", "query_embedding.weight:1"
    )
    return DeOPConfig(
        joint_width=joint_width,
        input=input_config(InputConfig(), options),
        backbone=_backbone(shapes, options),
        proposal=_proposal(shapes, options, joint_width),
        visual=_visual(shapes, options),
        text=_text(shapes, options),
        heatmap=_heatmap(shapes, options),
    )


def derive_clip_config(shapes: Shapes, options: Mapping[str, Any]) -> DeOPConfig:
    """The configuration of a plain CLIP whose tensors are named as in the authors' files.

    Without options: MaskCLIP's value path in the last layer, a shorter side of 336 pixels.
    Raises CheckpointError where no tensor tells a size.
    """
    gelu = options.get("gelu", "quick")
    visual = _visual(shapes, {"severance": "gps", **options})
    text = _text(shapes, options)
    return DeOPConfig(
        joint_width=shapes.size(f"{CLIP}.visual.proj:1", f"{CLIP}.text_projection:1"),
        proposals="grid",
        input=input_config(
            InputConfig(
                min_size=336,
                max_size=2048,
                size_divisibility=visual.patch_size,
                pixel_mean=CLIP_MEAN,
                pixel_std=CLIP_STD,
            ),
            options,
        ),
        backbone=None,
        proposal=None,
        visual=replace(visual, reduced=options.get("reduced", False), gelu=gelu),
        text=replace(
            text,
            tokens=shapes.size(f"{CLIP}.token_embedding.weight:0"),
            templates=("a photo of a {}.",),
            gelu=gelu,
        ),
        heatmap=None,
    )


def input_config(given: InputConfig, options: Mapping[str, Any]) -> InputConfig:
    """How photos become input, with what the options say otherwise."""
    divisibility = options.get("size_divisibility", given.size_divisibility)
    return InputConfig(
        min_size=options.get("min_size", given.min_size),
        # Beyond the largest, it says that there is no limit.
        max_size=min(options.get("max_size", given.max_size), LARGEST),
        size_divisibility=1 if divisibility in NO_PADDING else divisibility,
        pixel_mean=tuple(options.get("pixel_mean", given.pixel_mean)),
        pixel_std=tuple(options.get("pixel_std", given.pixel_std)),
    )


def heads_of(key: str, width: int, options: Mapping[str, Any]) -> int:
    """The heads of a tower of CLIP: what the option `key` says, or one for each 64 of its width.

    Raises UsageError for a tower narrower than that, without the option.
    """
    if key not in options and width < 64:
        raise UsageError(
            f"a tower of width {width} does not have CLIP's heads of 64: say {key} in the model's "
            "configuration (--config)"
        )
    return int(options.get(key, width // 64))


def has_class_head(shapes: Shapes) -> bool:
    """Whether the class head, which only training looks at, has the two layers that we know."""
    layers = {f"{CLASSES}.layers.{n}.{kind}" for n in (0, 1) for kind in ("weight", "bias")}
    return layers == {name for name in shapes if name.startswith(f"{CLASSES}.")}


def _backbone(shapes: Shapes, options: Mapping[str, Any]) -> BackboneConfig:
    bottleneck = any(re.match(r"backbone\.res\d\.\d+\.conv3", name) for name in shapes)
    last = "conv3" if bottleneck else "conv2"

    def width(conv: str) -> int:
        places = (f"{conv}.weight:0", f"{conv}.norm.weight:0", f"{conv}.norm.bias:0")
        return shapes.size(*places)

    res2, res3, res4, res5 = (f"backbone.res{stage}" for stage in (2, 3, 4, 5))
    stages = (res2, res3, res4, res5)
    depths = [shapes.count(rf"{re.escape(stage)}\.(\d+)\.") for stage in stages]
    inner = [width(f"{stage}.0.conv1") for stage in stages]
    out = [width(f"{stage}.0.{last}") for stage in stages]
    stem = [width(f"backbone.stem.conv{index}") for index in (1, 2, 3)]
    return BackboneConfig(
        stem_channels=(stem[0], stem[1], stem[2]),
        block="bottleneck" if bottleneck else "basic",
        depths=(depths[0], depths[1], depths[2], depths[3]),
        inner_channels=(inner[0], inner[1], inner[2], inner[3]),
        out_channels=(out[0], out[1], out[2], out[3]),
        res5_multi_grid=tuple(options.get("res5_multi_grid", BackboneConfig.res5_multi_grid)),
    )


def _proposal(shapes: Shapes, options: Mapping[str, Any], joint_width: int) -> ProposalConfig:
    layer = f"{PREDICTOR}.transformer.decoder.layers.0"
    masks, memory = f"{PIXELS}.mask_features", f"{PREDICTOR}.input_proj"
    hidden = shapes.size(
        f"{memory}.weight:0", f"{memory}.bias:0", f"{PREDICTOR}.query_embed.weight:1"
    )
    class_hidden, class_channels = _class_widths(shapes, joint_width)
    return ProposalConfig(
        pixel_channels=shapes.size(
            f"{PIXELS}.layer_4.weight:0",
            f"{PIXELS}.layer_4.norm.weight:0",
            f"{masks}.weight:1",
        ),
        mask_channels=shapes.size(
            f"{masks}.weight:0",
            f"{masks}.bias:0",
            f"{PREDICTOR}.mask_embed.layers.2.weight:0",
        ),
        # Masks of one network meet queries of the other: both tell how many there are.
        queries=shapes.size(f"{PREDICTOR}.query_embed.weight:0", "query_embedding.weight:0"),
        hidden=hidden,
        # MaskFormer has none where res5 is as wide as the transformer already.
        input_proj=any(name.startswith(f"{memory}.") for name in shapes)
        or _backbone(shapes, options).out_channels[-1] != hidden,
        heads=options.get("proposal_heads", ProposalConfig.heads),
        layers=shapes.count(rf"{re.escape(PREDICTOR)}\.transformer\.decoder\.layers\.(\d+)\."),
        feedforward=shapes.size(
            f"{layer}.linear1.weight:0",
            f"{layer}.linear1.bias:0",
            f"{layer}.linear2.weight:1",
        ),
        class_hidden=class_hidden,
        class_channels=class_channels,
    )


def _class_widths(shapes: Shapes, joint_width: int) -> tuple[int, int]:
    """Hidden and output width of the class head; of one that is unlike ours, the usual ones."""
    if not has_class_head(shapes):
        return ProposalConfig.class_hidden, joint_width
    first, last = f"{CLASSES}.layers.0", f"{CLASSES}.layers.1"
    return (
        shapes.size(f"{first}.weight:0", f"{first}.bias:0", f"{last}.weight:1"),
        shapes.size(f"{last}.weight:0", f"{last}.bias:0"),
    )


def _heatmap(shapes: Shapes, options: Mapping[str, Any]) -> HeatmapConfig:
    layer, layers = "decoder.layers.0", shapes.count(r"decoder\.layers\.(\d+)\.")
    places = (f"{layer}.linear1.weight:0", f"{layer}.linear1.bias:0", f"{layer}.linear2.weight:1")
    return HeatmapConfig(
        heads=options.get("cal_heads", HeatmapConfig.heads),
        layers=layers,  # none is one of the authors' settings
        feedforward=shapes.size(*places) if layers else HeatmapConfig.feedforward,
    )


def _visual(shapes: Shapes, options: Mapping[str, Any]) -> ClipVisualConfig:
    tower = f"{CLIP}.visual"
    block = rf"{re.escape(tower)}\.transformer\.resblocks\.(\d+)"
    first = f"{tower}.transformer.resblocks.0"
    width = shapes.size(
        f"{tower}.conv1.weight:0", f"{tower}.class_embedding:0", f"{tower}.ln_post.weight:0"
    )
    layers = shapes.count(rf"{block}\.")
    position_layers = shapes.indices(rf"{block}\.learned_position$")
    tables = [f"{tower}.learned_position"] if f"{tower}.learned_position" in shapes else []
    tables += [
        f"{tower}.transformer.resblocks.{layer}.learned_position" for layer in position_layers
    ]
    return ClipVisualConfig(
        patch_size=shapes.size(f"{tower}.conv1.weight:2", f"{tower}.conv1.weight:3"),
        width=width,
        layers=layers,
        heads=heads_of("visual_heads", width, options),
        mlp_width=shapes.size(
            f"{first}.mlp.c_fc.weight:0",
            f"{first}.mlp.c_fc.bias:0",
            f"{first}.mlp.c_proj.weight:1",
        ),
        grid=shapes.grid(f"{tower}.positional_embedding:0"),
        run_grid=shapes.grid(*(f"{table}:0" for table in tables)) if tables else None,
        position_layers=position_layers,
        severed_layers=tuple(options.get("severed_layers", (layers - 1,))),
        severance=options.get("severance", ClipVisualConfig.severance),
    )


def _text(shapes: Shapes, options: Mapping[str, Any]) -> TextConfig:
    width = shapes.size(
        f"{CLIP}.ln_final.weight:0",
        f"{CLIP}.text_projection:0",
        f"{CLIP}.positional_embedding:1",
    )
    prompts = {
        part: shapes.get(f"{PROMPT}.{part}_prompt", (0,))[0] for part in ("prefix", "suffix")
    }
    return TextConfig(
        width=width,
        heads=heads_of("text_heads", width, options),
        layers=shapes.count(rf"{re.escape(CLIP)}\.transformer\.resblocks\.(\d+)\."),
        context=shapes.size(f"{CLIP}.positional_embedding:0"),
        prompt_prefix=prompts["prefix"],
        prompt_suffix=prompts["suffix"],
    )
