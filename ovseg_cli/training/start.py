"""The model that a stage starts from: a finished one, or a fresh one with pretrained parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovseg_cli import weights
from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.importing import read_tensors
from ovseg_cli.model.build import MINI, VARIANTS, build, skeleton
from ovseg_cli.model.convert import source_name
from ovseg_cli.model.deop import DeOP
from ovseg_cli.model.network import Network
from ovseg_cli.model.san import SAN, config_around

# Where the pretrained parts stand in our model, and in the authors' files.
CLIP = {"visual.": "clip_adapter.clip_model.", "text.tower.": "clip_adapter.clip_model."}
BACKBONE = {"backbone.": "backbone."}


@dataclass(frozen=True)
class FreshModel:
    """The `[model]` table: a model without --init; the bundled model's sizes where it is absent."""

    sizes: dict[str, Any] = field(default_factory=dict)  # of `DeOPConfig`; default: the variant's
    clip: str = ""  # file of CLIP's tensors, named as OpenAI and open_clip name them
    backbone: str = ""  # file of a ResNet's, named as detectron2 does (stem.conv1.weight, ...)
    text: str = ""  # name or file of a model whose text encoder is taken
    variant: str = "deop"  # one of VARIANTS; "deop" and "san" are the published ones


def finished(init: Path) -> weights.ModelEntry:
    """The model of a finished stage's folder, a model file, or an imported model's name.

    Raises UsageError where there is none, CheckpointError where it is damaged.
    """
    if not init.is_dir():
        return weights.find(init)
    path = init / weights.MODEL_FILE
    if not path.exists():
        raise UsageError(
            f"--init {init}: there is no {weights.MODEL_FILE}; finish that stage first"
        )
    return weights.entry_of(path)


def finished_model(init: Path) -> Network:
    """What `finished` finds, built; raises the same."""
    path = finished(init).path
    checkpoint = weights.load(path)
    model = build(checkpoint.config)
    try:
        model.load_state_dict(dict(checkpoint.state_dict))
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not hold the model it describes: {error}") from error
    return model


def fresh_model(table: FreshModel | None) -> Network:
    """A model with random weights, but for the parts that `table` has files for."""
    if table is None:
        return build(MINI)
    if table.variant not in VARIANTS:
        known = ", ".join(VARIANTS)
        raise UsageError(f"[model]: no variant {table.variant!r}; there are {known}")
    try:
        sizes = VARIANTS[table.variant]
        if table.sizes:
            sizes = type(sizes).from_dict(table.sizes)
        parts = skeleton(sizes).named_parameters()
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"[model.sizes]: {error}") from error
    empty = [name for name, tensor in parts if not tensor.numel()]
    if empty:
        raise UsageError(f"[model.sizes]: {empty[0]} would have no number in it")
    model = build(sizes)
    for file, places in ((table.clip, CLIP), (table.backbone, BACKBONE)):
        if file:
            _fill(model, read_tensors(Path(file)), places, file)
    if table.text:
        _adopt_text(model, finished_model(Path(table.text)), table.text)
    if table.clip and model.text.prompt is not None:
        model.text.prompt.adopt_signals(model.text.tower.token_embedding.weight)
    return model


def san_around(clip: Network) -> Network:
    """A plain CLIP with a fresh side adapter of the published sizes; other models as they are.

    Raises UsageError for a CLIP that no published SAN is like.
    """
    if not isinstance(clip, DeOP) or clip.has_regions:
        return clip
    try:
        model = SAN(config_around(clip.config))
    except ValueError as error:
        raise UsageError(f"no side adapter for this CLIP: {error}") from error
    model.load_state_dict(clip.state_dict(), strict=False)
    return model


def _adopt_text(model: Network, donor: Network, name: str) -> None:
    """Take a model's text encoder, and how much its cosines count."""
    try:
        model.text.load_state_dict(donor.text.state_dict())
    except RuntimeError as error:
        raise CheckpointError(
            f"{name} does not hold a text encoder of this size: {error}"
        ) from error
    if isinstance(model, SAN):
        with torch.no_grad():
            model.logit_scale.copy_(torch.as_tensor(donor.logit_factor()).log())


def _fill(model: Network, tensors: Mapping[str, Tensor], places: dict[str, str], file: str) -> None:
    """Copy the tensors of some parts; what the file holds beyond them is left alone."""
    for name, value in model.state_dict().items():
        place = next((theirs for ours, theirs in places.items() if name.startswith(ours)), None)
        if place is None or "learned_position" in name or "layer_positions" in name:
            continue
        source = source_name(name).removeprefix(place)
        if source not in tensors:
            raise CheckpointError(f"{file} does not hold {source}")
        if tensors[source].shape != value.shape:
            found, wanted = list(tensors[source].shape), list(value.shape)
            raise CheckpointError(f"{file}: {source} is {found}, not {wanted}; see [model.sizes]")
        value.copy_(tensors[source])
