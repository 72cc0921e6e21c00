"""Which format a foreign checkpoint is in, told from the names of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ovseg_cli.model.config import ModelConfig
from ovseg_cli.model.convert import convert, convert_clip, is_plain_clip
from ovseg_cli.model.san_checkpoint import convert_san, is_san

Converter = Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[ModelConfig, dict[str, Tensor]]]
# How a format is recognised, and its converter; what is none of these should be DeOP's.
FORMATS: tuple[tuple[Callable[[Mapping[str, Any]], bool], Converter], ...] = (
    (is_plain_clip, convert_clip),
    (is_san, convert_san),
)


def convert_any(
    state_dict: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The configuration and our state dict of a checkpoint in any format that is known.

    options: what its tensors do not tell, see the converters. Raises what they do.
    """
    known = (converter for fits, converter in FORMATS if fits(state_dict))
    return next(known, convert)(state_dict, options)
