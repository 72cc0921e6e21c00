"""How a network looks at photos: resizing, windows, its pass, and what refines its scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.model.network import Network, NetworkOutput, TextFeatures
from ovseg_cli.model.pamr import refined
from ovseg_cli.model.score_map import MaskScores, ScoreMap, score_map
from ovseg_cli.model.tiles import SharpTiledScores, Tile, TiledScores, ramp, window_starts

if TYPE_CHECKING:
    from ovseg_cli.model.config import InputConfig

OVERLAP = 0.25  # share of a window that the next one sees again
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CERTAIN = 30.0  # the logit of a mask that is 0 or 1

# A photo, the unit features (h, w, C) of its patches and a size H×W -> masks (Q, H, W) bool.
MaskSource = Callable[[Frame, np.ndarray, tuple[int, int]], np.ndarray]


@dataclass(frozen=True, eq=False)
class _Prepared:
    pixels: Tensor  # (1, 3, h, w) normalised and padded
    valid_hw: tuple[int, int]  # without the padding


class Scorer:
    """Photos -> score maps."""

    def __init__(
        self,
        network: Network,
        device: torch.device,
        precision: str,
        *,
        tile: int | None = None,
        overlap: float = OVERLAP,
        refine: bool = False,
        masks: MaskSource | None = None,
    ) -> None:
        """precision: one of PRECISIONS; the rest as of `Segmenter`. Raises UsageError."""
        if tile is not None and masks is not None:
            raise UsageError("masks from elsewhere belong to whole photos: leave out --tile")
        if tile is not None and tile < 1 or not 0 <= overlap <= 0.9:
            raise UsageError(f"no windows of {tile} pixels that overlap by {overlap} of themselves")
        self.network = network
        self.device = device
        self.precision = precision
        self.refine = refine
        self.masks = masks
        self.overlap = overlap
        self.tile = None if tile is None else self._padded(tile)
        network.prepare(masks is not None)

    def input_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which the network sees a photo: equal ones can share a batch."""
        height, width = resized(size_hw, self.network.config.input)
        return self._padded(height), self._padded(width)

    def _padded(self, side: int) -> int:
        step = self.network.config.input.size_divisibility
        return math.ceil(side / step) * step

    def score_maps(self, frames: Sequence[Frame], text: TextFeatures) -> list[ScoreMap]:
        """The scores of photos of one input size, at the network's own resolution."""
        prepared = [self._prepare(frame) for frame in frames]
        if self.masks is not None:
            pairs = zip(frames, prepared, strict=True)
            maps = [self._masked(frame, p, text, self.masks) for frame, p in pairs]
        else:
            maps = self._score_maps(prepared, text)
        if not self.refine:
            return maps
        inputs = (p.pixels[0, :, : p.valid_hw[0], : p.valid_hw[1]] for p in prepared)
        return [refined(scores, image) for scores, image in zip(maps, inputs, strict=True)]

    def _score_maps(self, prepared: Sequence[_Prepared], text: TextFeatures) -> list[ScoreMap]:
        images = torch.cat([p.pixels for p in prepared])
        if self.tile is not None and max(images.shape[-2:]) > self.tile:
            return [self._tiled(p, text, self.tile) for p in prepared]
        output, patch = self._pass(images, text)
        return [score_map(output, i, p.valid_hw, patch) for i, p in enumerate(prepared)]

    def _pass(self, images: Tensor, text: TextFeatures) -> tuple[NetworkOutput, int]:
        """The network's output, and the side of its patches in pixels."""
        with self._autocast():
            output = self.network(images, text)
        self._require_finite(output.class_logits)
        return output, images.shape[-1] // output.grid_hw[1]

    def _autocast(self) -> torch.autocast:
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    def _require_finite(self, scores: Tensor) -> None:
        if not scores.isfinite().all():
            raise CheckpointError(
                "the model gives scores that are not finite: its file is damaged, or "
                f"{self.precision} is too coarse for it (--precision fp32)"
            )

    def _masked(
        self, frame: Frame, prepared: _Prepared, text: TextFeatures, source: MaskSource
    ) -> ScoreMap:
        """The scores of one photo whose regions come from elsewhere."""
        patches, seen = self._patches(prepared)
        masks = source(frame, seen.cpu().numpy(), prepared.valid_hw)
        found = torch.from_numpy(masks).to(self.device)
        padding = (
            *(0, prepared.pixels.shape[-1] - prepared.valid_hw[1]),
            *(0, prepared.pixels.shape[-2] - prepared.valid_hw[0]),
        )
        padded = F.pad(found.float(), padding)[None]
        if self.network.looks_at_masks:
            with self._autocast():
                patches = self.network.patch_features(prepared.pixels, CERTAIN * (2 * padded - 1))
        logits = self.network.classify_masks(patches, padded, text).class_logits
        self._require_finite(logits)
        return MaskScores(logits[0].softmax(-1), found)

    def _patches(self, prepared: _Prepared) -> tuple[Tensor, Tensor]:
        """Unit features of all patches (1, h, w, C), and of those that show the photo (., ., C)."""
        with self._autocast():
            patches = self.network.patch_features(prepared.pixels)
        patches = F.normalize(patches.float(), dim=-1)
        side = prepared.pixels.shape[-1] // patches.shape[2]  # of a patch, pixels
        rows, columns = (math.ceil(length / side) for length in prepared.valid_hw)
        return patches, patches[0, :rows, :columns]

    def exemplar(self, frame: Frame, inside: np.ndarray, words: Tensor) -> Tensor:
        """What stands for a class that a picture shows as a text feature does: (C,).

        inside: (H, W) bool, where the class is; words: unit features (P, C) of many nouns. Patches
        are much closer to each other than to any words, so the mean of those inside would take
        every pixel. What tells it from those outside, at the length at which it matches its own
        patches as well as the best words do, competes with words on equal terms.
        """
        _, seen = self._patches(self._prepare(frame))
        patches = seen.flatten(0, 1)
        mask = torch.from_numpy(inside).to(patches)[None, None]
        share = F.adaptive_avg_pool2d(mask, (seen.shape[0], seen.shape[1])).flatten()
        mean = share @ patches / share.sum()
        outside = (1 - share) @ patches / (1 - share).sum().clamp(min=1)
        direction = F.normalize(mean - outside, dim=0)
        best = share @ (patches @ words.T).amax(1) / share.sum()
        return direction * best / (mean @ direction).clamp(min=1e-6)

    def _tiled(self, prepared: _Prepared, text: TextFeatures, side: int) -> ScoreMap:
        """The scores of one photo, seen window by window."""
        whole_hw = prepared.pixels.shape[-2:]
        window_hw = min(whole_hw[0], side), min(whole_hw[1], side)
        step = self.network.config.input.size_divisibility
        rows, columns = (
            window_starts(whole, window, self.overlap, step)
            for whole, window in zip(whole_hw, window_hw, strict=True)
        )
        tiles, unit = [], 1
        for top in rows:
            band = prepared.pixels[..., top : top + window_hw[0], :]
            windows = torch.cat([band[..., left : left + window_hw[1]] for left in columns])
            output, patch = self._pass(windows, text)
            unit = patch if output.mask_logits is None else 1  # pixels between two scores
            for i, left in enumerate(columns):
                scores = score_map(output, i, window_hw, patch)
                margins = [self.overlap * side / unit for side in window_hw]
                down, across = (
                    ramp(torch.arange(length) + 0.5, length, margin)
                    for length, margin in zip(scores.size_hw, margins, strict=True)
                )
                tiles.append(Tile(scores, top // unit, left // unit, down, across))
        size_hw = whole_hw[0] // unit, whole_hw[1] // unit
        span_hw = prepared.valid_hw[0] / unit, prepared.valid_hw[1] / unit
        if output.sharp:
            return SharpTiledScores(tiles, size_hw, span_hw, (margins[0], margins[1]))
        return TiledScores(tiles, size_hw, span_hw)

    def _prepare(self, frame: Frame) -> _Prepared:
        """Resize as the authors' code does (Pillow, bilinear), normalise, then pad with zeros."""
        valid_hw = resized(frame.size_hw, self.network.config.input)
        pixels = frame.view
        if valid_hw != pixels.shape[:2]:
            photo = Image.fromarray(pixels)
            pixels = np.asarray(photo.resize(valid_hw[::-1], Image.Resampling.BILINEAR))
        image = torch.from_numpy(np.array(pixels)).to(self.device)[None].permute(0, 3, 1, 2)
        image = self.network.normalise(image.float())
        height, width = self.input_size(frame.size_hw)
        image = F.pad(image, (0, width - valid_hw[1], 0, height - valid_hw[0]))
        return _Prepared(image, valid_hw)


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
