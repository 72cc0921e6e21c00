"""Which format a foreign checkpoint is in, told from the names of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ovseg_cli.errors import CheckpointError
from ovseg_cli.model.config import ModelConfig
from ovseg_cli.model.convert import convert, convert_clip, is_plain_clip
from ovseg_cli.model.san_checkpoint import convert_san, is_san
from ovseg_cli.printable import some_of

Converter = Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[ModelConfig, dict[str, Tensor]]]
# How a format is recognised, and its converter; what is none of these should be DeOP's.
FORMATS: tuple[tuple[Callable[[Mapping[str, Any]], bool], Converter], ...] = (
    (is_plain_clip, convert_clip),
    (is_san, convert_san),
)

DEOP = ("clip_adapter.", "sem_seg_head.", "backbone.", "decoder.", "query_embedding.")
READ = "checkpoints of DeOP's and SAN's authors, and CLIPs with a ViT, by open_clip's names"
# What is known and not read: beginnings that names of its tensors have, and what it seems to be.
STRANGERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("image_encoder.", "mask_decoder."),
        "a Segment-Anything model, which knows no names: its masks are for --proposals sam:FOLDER",
    ),
    (
        ("vision_encoder.", "mask_decoder."),
        "a Segment-Anything model of transformers, which knows no names: its folder is for "
        "--proposals sam:FOLDER",
    ),
    (("visual.layer1.", "token_embedding."), "a CLIP with a ResNet instead of a ViT"),
    (("visual.trunk.",), "an open_clip model with a visual tower of timm's, as SigLIP has"),
    (
        ("visual.", "text."),
        "an open_clip model with a text tower of its own (CustomTextCLIP), as CoCa and EVA have",
    ),
    (("vision_model.", "text_model."), "a CLIP as transformers stores it; take open_clip's file"),
)


def convert_any(
    state_dict: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The configuration and our state dict of a checkpoint in any format that is known.

    options: what its tensors do not tell, see the converters. Raises what they do.
    """
    for beginnings, what in STRANGERS:
        if all(any(name.startswith(begin) for name in state_dict) for begin in beginnings):
            raise CheckpointError(f"it seems to be {what}. What is read: {READ}")
    if not any(fits(state_dict) for fits, _ in FORMATS) and not _may_be_deop(state_dict):
        raise CheckpointError(
            f"no format that is known has tensors of these names: {some_of(_shown(state_dict))}. "
            f"What is read: {READ}"
        )
    known = (converter for fits, converter in FORMATS if fits(state_dict))
    return next(known, convert)(state_dict, options)


def _shown(state_dict: Mapping[str, Any]) -> list[str]:
    """Its names, for a message: each may be as long as the file."""
    return sorted(name if len(name) <= 80 else f"{name[:80]}…" for name in state_dict)


def _may_be_deop(state_dict: Mapping[str, Any]) -> bool:
    return any(name.startswith(DEOP) for name in state_dict)
