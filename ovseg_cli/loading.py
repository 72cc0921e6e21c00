"""A model by its name or from a file: its network, as it was asked for, on a device."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ovseg_cli import weights
from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.model.bfloat16 import multiplies_bfloat16
from ovseg_cli.model.build import skeleton
from ovseg_cli.model.convolution import fold_batch_norms
from ovseg_cli.model.network import Network
from ovseg_cli.model.variants import with_attention, with_input
from ovseg_cli.onnx_runtime import TORCH, on_cpu, onnx_network
from ovseg_cli.scoring import PRECISIONS
from ovseg_cli.segmenter import Model

if TYPE_CHECKING:
    from ovseg_cli.model.config import ModelConfig

log = logging.getLogger(__name__)


def load_model(
    name_or_path: str | Path = "mini",
    device: str | torch.device = "auto",
    precision: str = "auto",
    *,
    size: int | None = None,
    proposals: str | None = None,
    attention: str | None = None,
    last_block: str | None = None,
    runtime: str = "torch",
    quality: str | None = None,
) -> Model:
    """Load a model by its name in `ovseg models list`, or from a model file.

    device: "auto", "cpu", "cuda" or "mps", or torch's own; precision: "auto" (bf16 on CUDA, else
    fp32), "fp32", "bf16" or "fp16"; size: shorter side in pixels at which it sees a photo;
    proposals: "queries" (trained mask proposals) or "grid" (every patch for itself); attention:
    what the last layer in which patches mix does instead, one of `variants.ATTENTIONS`; last_block:
    "full", or "reduced" to what that attention gives, without residual and MLP. None = the model's
    own, and for last_block what is usual with that attention. runtime: "torch", "onnx"
    (onnxruntime, on the CPU in fp32; exported once into the user's folder), or a file of `ovseg
    export-model`. quality: "fast" looks at a photo once, "high" at three sizes and at each in a
    mirror, too.
    Raises UsageError for what is not there, CheckpointError for a damaged file.
    """
    device = str(device)
    if device in ("cpu:0", "mps:0") or (device == "cuda:0" and torch.cuda.device_count() < 2):
        device = device.removesuffix(":0")  # as torch calls the only one
    if runtime != TORCH:
        device, precision = on_cpu(device, precision)
    target = choose_device(device)
    if precision == "auto":
        precision = "bf16" if target.type == "cuda" else "fp32"
    if precision not in PRECISIONS:
        raise UsageError(f"no precision {precision!r}; there are auto, {', '.join(PRECISIONS)}")
    if precision == "bf16" and not multiplies_bfloat16(target):
        log.warning("this machine does not multiply in bfloat16: --precision fp32 is quicker here")
    entry = weights.find(name_or_path)
    checkpoint = weights.load(entry.path)
    config = with_input(checkpoint.config, size, proposals, quality)
    config = with_attention(config, attention, last_block)
    network: Network
    if runtime == TORCH:
        network = _network(entry.path, checkpoint, config)
    else:
        adapted = any(value is not None for value in (size, proposals, attention, last_block))
        network = onnx_network(
            runtime,
            entry,
            config,
            lambda config: _network(entry.path, weights.load(entry.path), config),
            adapted,
        )
    asked = attention or last_block
    return Model(network, entry.name, entry.checksum, target, precision, asked)


def _network(path: Path, checkpoint: weights.Checkpoint, config: ModelConfig) -> Network:
    """The network of a checkpoint from `path`, in another configuration than its own."""
    try:
        network = skeleton(config)
        network.load_state_dict(dict(checkpoint.state_dict), assign=True)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path} does not hold the tensors of the model it describes: {error}"
        ) from error
    fold_batch_norms(network)
    return network.eval()


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" is the fastest kind there is. Raises UsageError."""
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    if name not in there:
        kind, _, index = name.partition(":")
        several = f"; CUDA_VISIBLE_DEVICES={index} makes that one cuda" if kind == "cuda" else ""
        raise UsageError(f"no device {name!r}; there are auto, {', '.join(there)}{several}")
    if not there[name]:
        raise UsageError(f"no {name} device here; use --device auto or cpu")
    return torch.device(name)
