"""The SAN authors' checkpoints -> ours, strictly (see `strict`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ovseg_cli.errors import UsageError
from ovseg_cli.model.authors_config import OPTIONS, check_options, heads_of, input_config
from ovseg_cli.model.config import ClipVisualConfig, TextConfig
from ovseg_cli.model.san import CLIP_SCALES, INPUT, TEXT, VISUAL, SANConfig, fused_layers
from ovseg_cli.model.shapes import Shapes
from ovseg_cli.model.side_adapter import SideAdapterConfig
from ovseg_cli.model.strict import compare, shapes_of, sources_of, taken

# Where the parts of the model stand in the authors' names.
SHALLOW = "clip_visual_extractor"
DEEP = "clip_rec_head"
TEXT_TOWER = "ov_classifier"
SIDE = "side_adapter_network"
VIT = f"{SIDE}.vit_model"
DECODER = f"{SIDE}.mask_decoder"

# Our names become the authors' by these substitutions, one after the other; CLIP's image tower,
# which they keep in two parts, comes before.
RENAMES = (
    (r"^visual\.(ln_post|proj)", rf"{DEEP}.\1"),
    (r"^visual", SHALLOW),
    (r"^text\.non_object_embedding", f"{TEXT_TOWER}.bg_embed"),
    (r"^text\.tower\.blocks", f"{TEXT_TOWER}.transformer.resblocks"),
    (r"^text\.tower", TEXT_TOWER),
    (r"^logit_scale", f"{TEXT_TOWER}.logit_scale"),
    (r"^side_adapter\.query_position", f"{SIDE}.query_pos_embed"),
    (r"^side_adapter\.query", f"{SIDE}.query_embed"),
    (r"^side_adapter\.patch_position", f"{VIT}.pos_embed"),
    (r"^side_adapter\.patch_embed", f"{VIT}.patch_embed.proj"),
    (r"^side_adapter\.fusions\.(\d+)\.norm", rf"{SIDE}.fusion_layers.layer_\1.input_proj.0"),
    (r"^side_adapter\.fusions\.(\d+)\.proj", rf"{SIDE}.fusion_layers.layer_\1.input_proj.1"),
    (r"^side_adapter\.decoder", DECODER),
    (r"^(side_adapter\.blocks\.\d+)\.ln_", r"\1.norm"),
    (r"^(side_adapter\.blocks\.\d+\.attn)\.in_proj_", r"\1.qkv."),
    (r"^(side_adapter\.blocks\.\d+\.attn)\.out_proj", r"\1.proj"),
    (r"^(side_adapter\.blocks\.\d+\.mlp)\.c_fc", r"\1.fc1"),
    (r"^(side_adapter\.blocks\.\d+\.mlp)\.c_proj", r"\1.fc2"),
    (r"^side_adapter\.blocks", f"{VIT}.blocks"),
)

# Entries that a file may hold beyond the model's; none has influence at inference.
TOLERATED = (
    r"criterion\.empty_weight",  # class weights of the training loss
    rf"{TEXT_TOWER}\.attn_mask",  # the causal mask, rebuilt
    r"pixel_(mean|std)",  # detectron2's buffers; ours are in the configuration
)

SAN_OPTIONS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **{
        key: OPTIONS[key]
        for key in (
            *("visual_heads", "text_heads", "min_size", "max_size", "size_divisibility"),
            *("pixel_mean", "pixel_std"),
        )
    },
    "side_heads": OPTIONS["visual_heads"],
    "clip_scale": (
        "a number above 0, at most 1",
        lambda value: type(value) in (int, float) and 0 < value <= 1,
    ),
}


def is_san(state_dict: Mapping[str, Any]) -> bool:
    """Whether the names are those of the SAN authors' files."""
    return any(name.startswith(f"{SIDE}.") for name in state_dict)


def convert_san(
    state_dict: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[SANConfig, dict[str, Tensor]]:
    """The configuration and the state dict of `SAN` from the authors' state dict.

    options: what shapes do not tell, see SAN_OPTIONS; all may be left out for published sizes.
    Raises UsageError for an option that is unknown or does not fit, CheckpointError for tensors
    that are missing, surplus, misshapen or no floating-point numbers; the message names them.
    """
    check_options(options, SAN_OPTIONS)
    shapes = shapes_of(state_dict, "SAN")
    config = derive_san_config(shapes, options)
    sources, expected = sources_of(config, lambda name: san_source_name(name, config))
    compare(shapes, expected, "a SAN model", TOLERATED)
    return config, taken(state_dict, sources)


def san_source_name(name: str, config: SANConfig) -> str:
    """The authors' name of one of our tensors."""
    if found := re.match(r"visual\.blocks\.(\d+)(.*)", name):
        block, rest = int(found[1]), found[2]
        deep = block >= config.shallow_layers
        part, first = (DEEP, config.shallow_layers) if deep else (SHALLOW, 0)
        return f"{part}.resblocks.{block - first}{rest}"
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def derive_san_config(shapes: Shapes, options: Mapping[str, Any]) -> SANConfig:
    """The configuration of a SAN whose tensors, by the authors' names, have these shapes.

    Raises CheckpointError where no tensor tells a size, UsageError for a patch size of which only
    an option could tell how small CLIP sees the image.
    """
    shallow = shapes.count(rf"{SHALLOW}\.resblocks\.(\d+)\.")
    visual = _visual(shapes, options, shallow)
    scale = options.get("clip_scale", CLIP_SCALES.get(visual.patch_size))
    if scale is None:
        raise UsageError(
            f"how small CLIP sees an image is not known for patches of {visual.patch_size} pixels: "
            "say clip_scale in the model's configuration (--config)"
        )
    return SANConfig(
        joint_width=shapes.size(
            f"{DEEP}.proj:1", f"{TEXT_TOWER}.text_projection:1", f"{TEXT_TOWER}.bg_embed:1"
        ),
        input=input_config(INPUT, options),
        visual=visual,
        text=_text(shapes, options),
        shallow_layers=shallow,
        clip_scale=float(scale),
        side_adapter=_side_adapter(shapes, options, shallow),
    )


def _visual(shapes: Shapes, options: Mapping[str, Any], shallow: int) -> ClipVisualConfig:
    first = f"{SHALLOW}.resblocks.0.mlp"
    width = shapes.size(
        f"{SHALLOW}.conv1.weight:0", f"{SHALLOW}.class_embedding:0", f"{DEEP}.ln_post.weight:0"
    )
    layers = shallow + shapes.count(rf"{DEEP}\.resblocks\.(\d+)\.")
    return replace(
        VISUAL,
        patch_size=shapes.size(f"{SHALLOW}.conv1.weight:2", f"{SHALLOW}.conv1.weight:3"),
        width=width,
        layers=layers,
        heads=heads_of("visual_heads", width, options),
        mlp_width=shapes.size(
            f"{first}.c_fc.weight:0", f"{first}.c_fc.bias:0", f"{first}.c_proj.weight:1"
        ),
        grid=shapes.grid(f"{SHALLOW}.positional_embedding:0"),
        severed_layers=(layers - 1,),
    )


def _text(shapes: Shapes, options: Mapping[str, Any]) -> TextConfig:
    width = shapes.size(
        f"{TEXT_TOWER}.ln_final.weight:0",
        f"{TEXT_TOWER}.text_projection:0",
        f"{TEXT_TOWER}.positional_embedding:1",
    )
    return replace(
        TEXT,
        width=width,
        heads=heads_of("text_heads", width, options),
        layers=shapes.count(rf"{TEXT_TOWER}\.transformer\.resblocks\.(\d+)\."),
        context=shapes.size(f"{TEXT_TOWER}.positional_embedding:0"),
    )


def _side_adapter(shapes: Shapes, options: Mapping[str, Any], shallow: int) -> SideAdapterConfig:
    first, patches = f"{VIT}.blocks.0.mlp", f"{VIT}.patch_embed.proj.weight"
    queries, positions = f"{SIDE}.query_embed", f"{SIDE}.query_pos_embed"
    fusions = shapes.count(rf"{SIDE}\.fusion_layers\.layer_(\d+)\.")
    hidden, last = (f"{DECODER}.{{}}_mlp.layers.{layer}" for layer in (0, 2))
    return SideAdapterConfig(
        width=shapes.size(f"{queries}:2", f"{positions}:2", f"{patches}:0"),
        layers=shapes.count(rf"{VIT}\.blocks\.(\d+)\."),
        heads=options.get("side_heads", SideAdapterConfig.heads),
        mlp_width=shapes.size(
            f"{first}.fc1.weight:0", f"{first}.fc1.bias:0", f"{first}.fc2.weight:1"
        ),
        patch_size=shapes.size(f"{patches}:2", f"{patches}:3"),
        grid=shapes.grid(f"{VIT}.pos_embed:1", others=0),
        queries=shapes.size(f"{queries}:1", f"{positions}:1"),
        fused_layers=fused_layers(shallow, fusions),
        decoder_width=shapes.size(
            *(f"{hidden.format(part)}.weight:0" for part in ("query", "pix", "attn"))
        ),
        mask_channels=shapes.size(
            *(
                f"{last.format(part)}.{kind}:0"
                for part in ("query", "pix")
                for kind in ("weight", "bias")
            )
        ),
    )
