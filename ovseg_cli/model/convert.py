"""The DeOP authors' checkpoints, and those of a plain CLIP -> ours, strictly (see `strict`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ovseg_cli.errors import CheckpointError
from ovseg_cli.model.authors_config import (
    CLASSES,
    CLIP,
    CLIP_OPTIONS,
    PIXELS,
    PREDICTOR,
    PROMPT,
    check_options,
    derive_clip_config,
    derive_config,
    has_class_head,
)
from ovseg_cli.model.config import DeOPConfig, TextConfig
from ovseg_cli.model.mask_former import class_head
from ovseg_cli.model.prompts import signal_rows
from ovseg_cli.model.shapes import Shapes
from ovseg_cli.model.strict import compare, shapes_of, sources_of, taken

# Our names become the authors' by these substitutions, one after the other.
RENAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (
        r"^proposals\.pixel_decoder\.(adapter|layer)s\.(\d+)",
        lambda found: f"{PIXELS}.{found[1]}_{int(found[2]) + 1}",
    ),
    (r"^proposals\.pixel_decoder", PIXELS),
    (r"^proposals\.transformer", f"{PREDICTOR}.transformer.decoder"),
    (r"^proposals", PREDICTOR),
    (r"^heatmap_decoder\.query_embedding", "query_embedding"),
    (r"^heatmap_decoder\.out_layer\.in_proj", "decoder.outlayer.multihead_attn_my.in_proj"),
    (r"^heatmap_decoder\.out_layer", "decoder.outlayer"),
    (r"^heatmap_decoder\.layers\.(\d+)\.multihead_attn", r"decoder.layers.\1.multihead_attn_my"),
    (r"^heatmap_decoder", "decoder"),
    (r"^text\.tower", CLIP),
    (r"^text\.prompt\.(prefix|suffix)", rf"{PROMPT}.\1_prompt"),
    (r"^text\.prompt\.(start|dot|end)", rf"{PROMPT}.\1_signal"),
    (r"^text", "clip_adapter"),
    (r"^visual", f"{CLIP}.visual"),
    (r"\.layer_positions\.(\d+)", r".transformer.resblocks.\1.learned_position"),
    (r"\.blocks\.", ".transformer.resblocks."),
)

# Entries that a file may hold or lack, of any shape; none has influence at inference.
TOLERATED = (
    r"criterion\.empty_weight",  # class weights of the training loss
    r"(clip_adapter\.)?pixel_(mean|std)",  # detectron2's buffers; ours are in the configuration
    r".*\.num_batches_tracked",  # batch norm's step counter
    r"clip_adapter\.clip_model\.(.*\.)?attn_mask",  # the causal mask, rebuilt
    r"clip_adapter\.clip_model\.(input_resolution|context_length|vocab_size)",  # OpenAI's integers
    rf"{re.escape(CLIP)}\.logit_scale",  # the class logits have a fixed scale
    r"decoder\.norm\..*",  # normalises what only training looks at
    rf"{re.escape(PROMPT)}\.pad_signal",  # after the end token, where a causal tower does not look
    rf"{re.escape(CLASSES)}\..*",  # the class head of the training losses
    r"kd_proj\..*",  # of a loss that distils CLIP
)


def convert(
    state_dict: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[DeOPConfig, dict[str, Tensor]]:
    """The configuration and the state dict of `DeOP` from the authors' state dict.

    options: what shapes do not tell, see `authors_config.OPTIONS`; all may be left out.
    Raises UsageError for an option that is unknown or does not fit, CheckpointError for tensors
    that are missing, surplus, misshapen or no floating-point numbers; the message names them.
    """
    check_options(options)
    shapes = shapes_of(state_dict, "DeOP")
    config = derive_config(shapes, options)
    sources, expected = sources_of(config, source_name)
    state_dict = {**_signals(state_dict, config), **state_dict, **_class_head(shapes, config)}
    compare(shapes_of(state_dict, "DeOP"), expected, "a DeOP model", TOLERATED)
    return config, taken(state_dict, sources)


def is_plain_clip(state_dict: Mapping[str, Any]) -> bool:
    """Whether the names are those of a CLIP as OpenAI and open_clip store it."""
    return "visual.proj" in state_dict and "text_projection" in state_dict


def convert_clip(
    state_dict: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[DeOPConfig, dict[str, Tensor]]:
    """The same of a CLIP with a ViT, which classifies each patch for itself.

    options: see `authors_config.CLIP_OPTIONS`. CLIP has no non-object embedding; the one here is
    zero, so that what fits no name is not told apart: `--threshold` serves for that.
    Raises what `convert` does.
    """
    check_options(options, CLIP_OPTIONS)
    state_dict = {f"{CLIP}.{name}": value for name, value in state_dict.items()}
    shapes = shapes_of(state_dict, "CLIP")
    config = derive_clip_config(shapes, options)
    if config.text.tokens != TextConfig.tokens:
        raise CheckpointError(
            f"its text tower has {config.text.tokens} tokens, CLIP's tokenizer "
            f"{TextConfig.tokens}: names would be read as other words"
        )
    sources, expected = sources_of(config, source_name)
    non_object = "clip_adapter.non_object_embedding"
    shape = expected.pop(non_object)
    compare(shapes, expected, "a CLIP with a ViT", TOLERATED, f"{CLIP}.")
    state_dict[non_object] = torch.zeros(shape)
    return config, taken(state_dict, sources, f"{CLIP}.")


def source_name(name: str) -> str:
    """The authors' name of one of our tensors."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _signals(state_dict: Mapping[str, Tensor], config: DeOPConfig) -> dict[str, Tensor]:
    """Start, "." and end of a learned prompt, by the authors' names: rows of the token table.

    For files that do not store what the authors' program takes from there. None where there is no
    such table, or no prompt.
    """
    table = state_dict.get(f"{CLIP}.token_embedding.weight")
    prompted = config.text.prompt_prefix or config.text.prompt_suffix
    if not prompted or table is None or table.shape != (config.text.tokens, config.text.width):
        return {}
    rows = signal_rows(config.text.tokens)
    return {f"{PROMPT}.{name}_signal": table[row : row + 1] for name, row in rows.items()}


def _class_head(shapes: Shapes, config: DeOPConfig) -> dict[str, Tensor]:
    """A new class head, by the authors' names, in place of one that is not there or unlike ours.

    Only training looks at it. It is the same one each time.
    """
    assert config.proposal is not None
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        fresh = class_head(config.proposal).state_dict()
    head = {f"{CLASSES}.{name}": value for name, value in fresh.items()}
    known = all(shapes.get(name) == tuple(value.shape) for name, value in head.items())
    return {} if known and has_class_head(shapes) else head
