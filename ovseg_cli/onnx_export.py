"""A network as an ONNX file: images and text features in, logits out, all sizes open.

By torch's tracing exporter: for `mini` it takes 2 s, the newer one (`dynamo=True`) 20 s for a graph
of the same speed, too long for what `--runtime onnx` does at its first run.
"""

from __future__ import annotations

import inspect
import io
import json
import math
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ovseg_cli import __version__
from ovseg_cli.errors import UsageError
from ovseg_cli.model.network import Network, TextFeatures
from ovseg_cli.prepared import padded

if TYPE_CHECKING:
    from ovseg_cli.weights import ModelEntry

OPSET = 17
INSTALL = "pip install 'ovseg-cli[onnx]'"
SILENT = 4  # of onnxruntime's own log; its exceptions tell the same
TOLERANCE = 1e-3  # of a graph's numbers, relative to the largest of the network's
# Images, phrases or masks, and height and width in steps of what holds LEAST pixels and a patch and
# is a multiple of the size divisibility. What is traced has neither a square's sides nor a square's
# number of patches: no position table fits it as it is, so the graph holds the resizing. The other
# is what the graph is tried on.
TRACED, TRIED = (2, 3, 3, 5), (1, 2, 4, 3)
LEAST = 32  # of smaller photos a backbone's coarsest map would be a single number

Axes = tuple[str | int, ...]
IMAGES: Axes = ("images", 3, "height", "width")
TEXT: Axes = ("phrases", "channels")
PATCHES: Axes = ("images", "rows", "columns", "channels")
LOGITS = "phrases_and_non_object"  # one more than phrases, the last of them the non-object
FIXED = {"channels", "queries"}  # axes whose length the model decides; all others are open


@dataclass(frozen=True)
class Part:
    """One way through a network, as a graph: its inputs and outputs with their axes."""

    run: Callable[..., tuple[Tensor, ...]]  # of a network and the inputs
    inputs: dict[str, Axes]
    outputs: dict[str, Axes]


def _queries(network: Network, images: Tensor, text: Tensor) -> tuple[Tensor, ...]:
    output = network(images, TextFeatures(text), "queries")
    return output.mask_logits, output.class_logits


def _grid(network: Network, images: Tensor, text: Tensor) -> tuple[Tensor, ...]:
    return (network.patch_logits(network.patch_features(images), TextFeatures(text)),)


def _patches(network: Network, *inputs: Tensor) -> tuple[Tensor, ...]:
    return (network.patch_features(*inputs),)


# "queries" and "grid" are a model's proposals; the others serve masks from elsewhere and exemplars.
PARTS = {
    "queries": Part(
        _queries,
        {"images": IMAGES, "text_features": TEXT},
        {
            "mask_logits": ("images", "queries", "mask_rows", "mask_columns"),
            "class_logits": ("images", "queries", LOGITS),
        },
    ),
    "grid": Part(
        _grid,
        {"images": IMAGES, "text_features": TEXT},
        {"patch_logits": ("images", "rows", "columns", LOGITS)},
    ),
    "patches": Part(_patches, {"images": IMAGES}, {"patch_features": PATCHES}),
    "masked_patches": Part(
        _patches,
        {"images": IMAGES, "mask_logits": ("images", "masks", "height", "width")},
        {"patch_features": PATCHES},
    ),
}


def export(network: Network, part: str, entry: ModelEntry) -> bytes:
    """An ONNX file of one of PARTS, tried on a size that it was not traced at.

    entry: whose network it is. The file's metadata tell all that is needed to run it. Raises
    UsageError where onnx or onnxruntime is missing, where torch's exporter fails, and where the
    graph does not give what the network gives.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"an export to ONNX needs onnx and onnxruntime ({error}): {INSTALL}"
        ) from error
    network, way = network.cpu().eval(), PARTS[part]
    model = onnx.load_from_string(_traced(network, way))
    inputs = _example(network, way, TRIED)
    with torch.no_grad():
        wanted = way.run(network, *inputs)
    for value, axes, output in zip(model.graph.output, way.outputs.values(), wanted, strict=True):
        lengths = value.type.tensor_type.shape.dim
        for axis, length, found in zip(axes, lengths, output.shape, strict=True):
            if axis in FIXED:  # tracing does not always find out
                length.dim_value = found
    model.producer_name, model.producer_version = "ovseg", __version__
    model.doc_string = DESCRIPTION
    onnx.helper.set_model_props(model, metadata(network, part, entry))
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    _try(content, way, inputs, wanted)
    return content


DESCRIPTION = """\
Open-vocabulary semantic segmentation, exported by ovseg.
images: RGB, 0..255, resized so that the shorter side has min_size and the longer at most max_size
pixels, (value - pixel_mean) / pixel_std, then zeros at the right and the bottom up to multiples of
size_divisibility. text_features: a row of length 1 for each phrase, as the model's text encoder
gives it. Logits have a column for each phrase and a last one for what is none of them; a class of
several phrases has the largest of theirs; then a softmax over classes and non-object.
mask_logits: one map for each query at mask_stride; pixel scores are the sum over queries of
sigmoid(mask) times class probability. patch_logits: a row for each patch, whose scores are its
class probabilities. ovseg looks at a photo, at its mirror image (if mirror says so; its sizes are
mirror_scale times the photo's), and at both at min_size and max_size times each of scales, and
takes the mean of the pixel scores. Of patches that is, with m the sum of a look's scores of all
classes: the classes have the mean of m, and share it as the products over all looks of
score ** (m / sum of m).
"""


def metadata(network: Network, part: str, entry: ModelEntry) -> dict[str, str]:
    """What an exported file says of itself, as ONNX has it: texts by name."""
    sizes = network.config.input
    facts = {
        "model": entry.name,
        "model_sha256": entry.checksum,
        "licence": entry.licence,
        "ovseg_version": __version__,
        "part": part,
        "config": json.dumps(network.config.to_dict(), sort_keys=True),
        "pixel_mean": json.dumps(sizes.pixel_mean),
        "pixel_std": json.dumps(sizes.pixel_std),
        "size_divisibility": str(sizes.size_divisibility),
        "min_size": json.dumps(sizes.min_size),
        "max_size": str(sizes.max_size),
        "mirror": json.dumps(sizes.mirror),
        "mirror_scale": json.dumps(sizes.mirror_scale),
        "scales": json.dumps(sizes.scales),
    }
    if part == "queries":
        images, text = _example(network, PARTS[part], TRIED)
        with torch.no_grad():
            output = network(images, TextFeatures(text), part)
        facts |= {"mask_stride": str(output.stride), "sharp_masks": json.dumps(output.sharp)}
    return facts


class _Traced(nn.Module):
    """A part of a network as the exporter wants it."""

    def __init__(self, network: Network, part: Part) -> None:
        super().__init__()
        self.network = network
        self.run = part.run

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `Part`."""
        return self.run(self.network, *inputs)


def _traced(network: Network, part: Part) -> bytes:
    """The graph as torch exports it."""
    axes = {
        name: {
            axis: length
            for axis, length in enumerate(lengths)
            if isinstance(length, str) and length not in FIXED
        }
        for name, lengths in {**part.inputs, **part.outputs}.items()
    }
    options: dict[str, Any] = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:  # from torch 2.5 on
        options["dynamo"] = False
    with TemporaryDirectory(prefix="ovseg-onnx-") as folder:
        file = Path(folder, "graph.onnx")
        try:
            # `_try` tells whether a warning was right; of a failure the exporter prints the graph.
            with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    _Traced(network, part).eval(),
                    _example(network, part, TRACED),
                    str(file),
                    opset_version=OPSET,
                    input_names=list(part.inputs),
                    output_names=list(part.outputs),
                    dynamic_axes=axes,
                    **options,
                )
        except (RuntimeError, TypeError, ValueError, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(
                f"torch {torch.__version__} cannot export this model to ONNX: {reason}"
            ) from error
        return file.read_bytes()


def _example(network: Network, part: Part, sizes: tuple[int, int, int, int]) -> tuple[Tensor, ...]:
    """Random inputs of a part; sizes as of TRACED."""
    step = padded(max(LEAST, math.ceil(network.config.patch_side)), network.config.input)
    images, rows, height, width = sizes
    lengths = {
        "images": images,
        "phrases": rows,
        "masks": rows,
        "height": height * step,
        "width": width * step,
        "channels": network.config.joint_width,
    }
    draw = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(*(lengths.get(axis, axis) for axis in axes), generator=draw)  # type: ignore
        for axes in part.inputs.values()
    )


def _try(
    content: bytes, part: Part, inputs: tuple[Tensor, ...], wanted: tuple[Tensor, ...]
) -> None:
    """Raise UsageError unless a graph gives what its network gives."""
    import onnxruntime

    feeds = {name: value.numpy() for name, value in zip(part.inputs, inputs, strict=True)}
    options, passing = onnxruntime.SessionOptions(), onnxruntime.RunOptions()
    options.log_severity_level = passing.log_severity_level = SILENT
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        given = session.run(None, feeds, passing)
    except Exception as error:  # onnxruntime's have no common class
        raise UsageError(f"onnxruntime refuses what was exported: {error}") from error
    for name, mine, theirs in zip(part.outputs, wanted, given, strict=True):
        limit = TOLERANCE * float(mine.abs().max())
        if mine.shape != theirs.shape or not np.abs(mine.numpy() - theirs).max() <= limit:
            raise UsageError(
                f"what torch {torch.__version__} exports is not this model: its {name} differ"
            )


def described(content: bytes) -> dict[str, str]:
    """What to know of an exported file: opset, inputs and outputs with their shapes, metadata."""
    import onnx

    model = onnx.load_from_string(content)
    facts = {"opset": ", ".join(str(entry.version) for entry in model.opset_import)}
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            lengths = (d.dim_param or str(d.dim_value) for d in value.type.tensor_type.shape.dim)
            facts[f"{kind} {value.name}"] = f"float32 ({', '.join(lengths)})"
    return facts | {entry.key: entry.value for entry in model.metadata_props}
