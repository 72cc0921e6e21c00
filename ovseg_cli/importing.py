"""Checkpoints of other programs become models of ours. No code that a file brings along is run."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ovseg_cli import weights
from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.json_files import read_json

if TYPE_CHECKING:
    from torch import Tensor


def import_checkpoint(
    path: Path,
    name: str,
    options: Mapping[str, Any] = MappingProxyType({}),
    *,
    description: str = "",
    licence: str = "unknown",
) -> weights.ModelEntry:
    """Turn a checkpoint of DeOP's or SAN's authors, or a plain CLIP, into a model of this name.

    options: sizes that shapes do not tell (README, "Importing a checkpoint").
    Raises UsageError for a bad name or option, CheckpointError for tensors that are missing,
    surplus, of another shape or not finite, OutputError where the model cannot be written.
    """
    from ovseg_cli.model.foreign import convert_any

    target = weights.place_of(name)
    tensors = read_tensors(path)
    config, state = convert_any(tensors, options)
    description = description or f"imported from {path.name}"
    weights.save(weights.Checkpoint(config, state, description, licence), target)
    return weights.entry_of(target)


def read_options(path: Path) -> dict[str, Any]:
    """The JSON object of `ovseg models import --config`. Raises UsageError."""
    try:
        options = read_json(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(options, dict):
        raise UsageError(f"{path} must hold a JSON object")
    return options


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a foreign file (safetensors, or torch's), without running code from it.

    Raises UsageError where there is no file, CheckpointError where it holds anything else.
    """
    import torch
    from safetensors.torch import load_file

    if not path.is_file():
        raise UsageError(f"no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            _refuse_compressed(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers fail in many ways on what is no checkpoint
        # The first sentence: torch goes on with the advice to let the file's code run.
        reason = str(error).partition("\n")[0].partition(". ")[0]
        told = f" ({reason})" if " " in reason else ""  # else it is a bare number, or key
        raise CheckpointError(
            f"{path} cannot be read as plain tensors{told}; code in checkpoints is never run: "
            "save it as a dict of tensors, or as safetensors"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path} holds no dict of tensors (key 'model')")
    strangers = [
        f"{str(key)[:80]!r} is not a tensor"
        for key, value in state.items()
        if not isinstance(key, str) or not isinstance(value, torch.Tensor)
    ] or [f"{key[:80]!r} {fault}" for key, value in state.items() if (fault := _fault(value))]
    if strangers:
        raise CheckpointError(f"{path}: {strangers[0]}")
    return state


def _fault(tensor: Tensor) -> str:
    """What is wrong with a tensor, in words; it is plain numbers, all of them in the file."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        return "is not a plain tensor"
    if tensor.dtype.itemsize > 8 or (tensor.is_floating_point() and tensor.dtype.itemsize < 2):
        return f"holds numbers of a kind that models have none of, {tensor.dtype}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"is said to be {list(tensor.shape)}, of which the file holds a part"  # a trap
    return ""


def _refuse_compressed(path: Path) -> None:
    """torch stores tensors as they are; an archive that claims to hold far more is a trap."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > path.stat().st_size:
        raise ValueError(f"it would unpack to {size / 1e6:.0f} MB")
