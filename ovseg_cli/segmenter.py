"""Photos in, label maps out: resizing, text features, the network's pass, scores to labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ovseg_cli import weights
from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.model.build import skeleton
from ovseg_cli.model.config import PROPOSALS
from ovseg_cli.model.deop import DeOP, DeOPOutput
from ovseg_cli.model.pamr import refined
from ovseg_cli.model.score_map import ScoreMap, full_scores, label_map, score_map
from ovseg_cli.model.tiles import Tile, TiledScores, window_starts
from ovseg_cli.segmentation import UNLABELED, Segmentation
from ovseg_cli.text_cache import text_features
from ovseg_cli.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ovseg_cli.model.config import DeOPConfig, InputConfig

OVERLAP = 0.25  # share of a window that the next one sees again
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_model(
    name_or_path: str | Path = "mini",
    device: str = "auto",
    precision: str = "auto",
    *,
    size: int | None = None,
    proposals: str | None = None,
) -> Model:
    """Load a model by its name in `ovseg models list`, or from a model file.

    device: "auto", "cpu", "cuda" or "mps"; precision: "auto" (bf16 on CUDA, else fp32), "fp32",
    "bf16" or "fp16"; size: shorter side in pixels at which it sees a photo; proposals: "queries"
    (trained mask proposals) or "grid" (every patch for itself); None = the model's own.
    Raises UsageError for what is not there, CheckpointError for a damaged file.
    """
    target = choose_device(device)
    if precision == "auto":
        precision = "bf16" if target.type == "cuda" else "fp32"
    if precision not in PRECISIONS:
        raise UsageError(f"no precision {precision!r}; there are auto, {', '.join(PRECISIONS)}")
    entry = weights.find(name_or_path)
    checkpoint = weights.load(entry.path)
    network = skeleton(_adapted(checkpoint.config, size, proposals))
    try:
        network.load_state_dict(dict(checkpoint.state_dict), assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{entry.path} does not hold the tensors of the model it describes: {error}"
        ) from error
    return Model(network.eval(), entry.name, entry.checksum, target, precision)


def _adapted(config: DeOPConfig, size: int | None, proposals: str | None) -> DeOPConfig:
    """The model's configuration with what the user wants otherwise."""
    if proposals is not None:
        if proposals not in PROPOSALS:
            raise UsageError(f"no proposals {proposals!r}; there are {', '.join(PROPOSALS)}")
        config = replace(config, proposals=proposals)
    if size is not None:
        if size < 1:
            raise UsageError(f"a photo cannot be {size} pixels high")
        usual = config.input.min_size or size
        longest = max(size, round(config.input.max_size * size / usual))
        config = replace(config, input=replace(config.input, min_size=size, max_size=longest))
    return config


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
        raise UsageError(f"no device {name!r}; there are auto, {', '.join(there)}")
    if not there[name]:
        raise UsageError(f"no {name} device here; use --device auto or cpu")
    return torch.device(name)


@dataclass(frozen=True, eq=False)
class _Prepared:
    pixels: Tensor  # (1, 3, h, w) normalised and padded
    valid_hw: tuple[int, int]  # without the padding


class Model:
    """A network on its device, ready for photos and any names."""

    def __init__(
        self, network: DeOP, name: str, checksum: str, device: torch.device, precision: str
    ) -> None:
        self.name = name
        self.checksum = checksum
        self.device = device
        self.precision = precision
        # Weights stay float32; autocast rounds what gains from it.
        self.network = network.to(device).to(memory_format=torch.channels_last)

    @property
    def config(self) -> DeOPConfig:
        """The network's sizes."""
        return self.network.config

    def segment(
        self,
        image: str | Path | Image.Image | np.ndarray,
        names: Sequence[str] | Vocabulary,
        *,
        other: str | None = None,
        threshold: float | None = None,
        tile: int | None = None,
        overlap: float = OVERLAP,
        refine: bool = False,
    ) -> Segmentation:
        """Label every pixel of a photo.

        image: a path, a PIL image, or an H×W×3 uint8 RGB array; the rest as of `Segmenter`.
        Raises InputError for a photo that cannot be read.
        """
        segmenter = Segmenter(
            self,
            _vocabulary(names),
            other=other,
            threshold=threshold,
            tile=tile,
            overlap=overlap,
            refine=refine,
        )
        return segmenter(_frame(image))

    @torch.inference_mode()
    def scores(
        self, image: str | Path | Image.Image | np.ndarray, names: Sequence[str] | Vocabulary
    ) -> Tensor:
        """S of deop.md for a photo: (K, H, W) float32 at its own size, on the CPU.

        With mask proposals S is not normalised and may exceed 1.
        """
        frame = _frame(image)
        segmenter = Segmenter(self, _vocabulary(names))
        (scores,) = segmenter.score_maps([frame])
        return full_scores(scores, frame.size_hw)[:-1].cpu()


class Segmenter:
    """A model with a vocabulary: text features are computed once, then any number of photos."""

    def __init__(
        self,
        model: Model,
        vocabulary: Vocabulary,
        *,
        other: str | None = None,
        threshold: float | None = None,
        tile: int | None = None,
        overlap: float = OVERLAP,
        refine: bool = False,
    ) -> None:
        """other: name of a class that takes the pixels for which the model's non-object mass R
        beats every name; threshold: pixels whose confidence S_k / (Σ_k S_k + R) falls below it
        stay unlabelled; tile: the network sees what is larger, after resizing, in windows of so
        many pixels (rounded up to what it can take), each overlapping the next by the share
        `overlap`, 0..0.9; refine: let labels follow the photo's edges (see `model.pamr`).
        Raises VocabularyError for a name the model cannot read, UsageError for a threshold, tile
        or overlap out of range.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise UsageError(f"a threshold lies between 0 and 1, not at {threshold}")
        if tile is not None and tile < 1 or not 0 <= overlap <= 0.9:
            raise UsageError(f"no windows of {tile} pixels that overlap by {overlap} of themselves")
        self.model = model
        self.vocabulary = vocabulary if other is None else vocabulary.with_class(other)
        self.other = other is not None
        self.threshold = threshold
        self.refine = refine
        self.overlap = overlap
        self.tile = None if tile is None else self._padded(tile)
        self._text = text_features(
            model.network.text, vocabulary, model.checksum, weights.home() / "text"
        ).to(model.device)

    def __call__(self, frame: Frame) -> Segmentation:
        """Segment one photo."""
        return self.segment([frame])[0]

    def input_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which the network sees a photo: equal ones can share a batch."""
        height, width = resized(size_hw, self.model.config.input)
        return self._padded(height), self._padded(width)

    def _padded(self, side: int) -> int:
        step = self.model.config.input.size_divisibility
        return math.ceil(side / step) * step

    @torch.inference_mode()
    def segment(self, frames: Sequence[Frame]) -> list[Segmentation]:
        """Segment photos of one input size in one pass; each result depends on its photo alone."""
        return [
            self._segmentation(scores, frame)
            for scores, frame in zip(self.score_maps(frames), frames, strict=True)
        ]

    def score_maps(self, frames: Sequence[Frame]) -> list[ScoreMap]:
        """The scores of photos of one input size, at the network's own resolution."""
        prepared = [self._prepare(frame) for frame in frames]
        maps = self._score_maps(prepared)
        if not self.refine:
            return maps
        inputs = (p.pixels[0, :, : p.valid_hw[0], : p.valid_hw[1]] for p in prepared)
        return [refined(scores, image) for scores, image in zip(maps, inputs, strict=True)]

    def _score_maps(self, prepared: Sequence[_Prepared]) -> list[ScoreMap]:
        images = torch.cat([p.pixels for p in prepared])
        if self.tile is not None and max(images.shape[-2:]) > self.tile:
            return [self._tiled(p, self.tile) for p in prepared]
        output, patch = self._pass(images)
        return [score_map(output, i, p.valid_hw, patch) for i, p in enumerate(prepared)]

    def _pass(self, images: Tensor) -> tuple[DeOPOutput, int]:
        """The network's output, and the side of its patches in pixels."""
        model = self.model
        dtype = PRECISIONS[model.precision]
        with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
            output = model.network(images, self._text)
        if not output.class_logits.isfinite().all():
            raise CheckpointError(
                f"the model {model.name} gives scores that are not finite: its file is damaged, or "
                f"{model.precision} is too coarse for it (--precision fp32)"
            )
        return output, images.shape[-1] // output.grid_hw[1]

    def _tiled(self, prepared: _Prepared, side: int) -> ScoreMap:
        """The scores of one photo, seen window by window."""
        whole_hw = prepared.pixels.shape[-2:]
        window_hw = min(whole_hw[0], side), min(whole_hw[1], side)
        step = self.model.config.input.size_divisibility
        rows, columns = (
            window_starts(whole, window, self.overlap, step)
            for whole, window in zip(whole_hw, window_hw, strict=True)
        )
        tiles, unit = [], 1
        for top in rows:
            band = prepared.pixels[..., top : top + window_hw[0], :]
            windows = torch.cat([band[..., left : left + window_hw[1]] for left in columns])
            output, patch = self._pass(windows)
            unit = patch if output.mask_logits is None else 1  # pixels between two scores
            for i, left in enumerate(columns):
                scores = score_map(output, i, window_hw, patch)
                tiles.append(Tile(scores, top // unit, left // unit))
        height, width = (side // unit for side in whole_hw)
        span_y, span_x = (side / unit for side in prepared.valid_hw)
        margin_y, margin_x = (self.overlap * side / unit for side in window_hw)
        return TiledScores(tiles, (margin_y, margin_x), (height, width), (span_y, span_x))

    def _prepare(self, frame: Frame) -> _Prepared:
        """Resize as the authors' code does (Pillow, bilinear), normalise, then pad with zeros."""
        model = self.model
        valid_hw = resized(frame.size_hw, model.config.input)
        pixels = frame.pixels
        if valid_hw != frame.size_hw:
            photo = Image.fromarray(pixels)
            pixels = np.asarray(photo.resize(valid_hw[::-1], Image.Resampling.BILINEAR))
        image = torch.from_numpy(np.array(pixels)).to(model.device)[None].permute(0, 3, 1, 2)
        image = model.network.normalise(image.float())
        height, width = self.input_size(frame.size_hw)
        image = F.pad(image, (0, width - valid_hw[1], 0, height - valid_hw[0]))
        return _Prepared(image, valid_hw)

    def _segmentation(self, scores: ScoreMap, frame: Frame) -> Segmentation:
        labels, confidence = label_map(scores, frame.size_hw, self.other)
        if self.threshold is not None:
            labels[confidence < self.threshold] = UNLABELED
        return Segmentation(labels.cpu().numpy(), confidence.cpu().numpy(), self.vocabulary)


def resized(size_hw: tuple[int, int], config: InputConfig) -> tuple[int, int]:
    """A photo's size in the network's input: shorter side `min_size`, longer at most `max_size`."""
    if config.min_size is None:
        return size_hw
    scale = config.min_size / min(size_hw)
    height, width = (side * scale for side in size_hw)
    if max(height, width) > config.max_size:
        scale = config.max_size / max(height, width)
        height, width = height * scale, width * scale
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))


def _vocabulary(names: Sequence[str] | Vocabulary) -> Vocabulary:
    return names if isinstance(names, Vocabulary) else Vocabulary(names)


def _frame(image: Any) -> Frame:
    if isinstance(image, np.ndarray):
        return Frame(image)
    if isinstance(image, Image.Image):
        return Frame(np.asarray(image.convert("RGB")))
    from ovseg_cli.media.images import read_image

    return read_image(Path(image))
