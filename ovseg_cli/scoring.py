"""How a network looks at photos: scales, mirrors, windows, its pass, refined scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.model.network import Network, NetworkOutput, TextFeatures
from ovseg_cli.model.pamr import refined
from ovseg_cli.model.score_map import MaskScores, ScoreMap, score_map
from ovseg_cli.model.tiles import SharpTiledScores, Tile, TiledScores, ramp, window_starts
from ovseg_cli.model.views import mean, mean_of_patches, unmirrored
from ovseg_cli.outside_masks import MaskSource, certain_logits, pooled, require_masks
from ovseg_cli.prepared import Prepared, in_mirror, padded, prepare, resized

if TYPE_CHECKING:
    from ovseg_cli.model.config import InputConfig, ModelConfig

OVERLAP = 0.25  # share of a window that the next one sees again
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Look = tuple[float, tuple[bool, ...]]  # scale, and whether the photo is seen there in a mirror


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
        least = math.ceil(network.config.patch_side)
        self.tile = None if tile is None else padded(max(tile, least), network.config.input)
        self.looks = _looks(network.config.input)
        network.prepare(masks is not None)

    def input_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which the network sees a photo: equal ones can share a batch.

        Of several looks the largest.
        """
        config, largest = self.network.config.input, self.looks[0][0]
        height, width = resized(size_hw, config, largest)
        return padded(height, config), padded(width, config)

    def _prepared(self, frame: Frame, scale: float = 1.0) -> Prepared:
        return prepare(frame, self.network, self.device, scale)

    def score_maps(self, frames: Sequence[Frame], text: TextFeatures) -> list[ScoreMap]:
        """The scores of photos of one input size, at the network's own resolution."""
        if self.masks is not None:
            maps = [self._masked(frame, text, self.masks) for frame in frames]
        else:
            looks = [self._seen(frames, *look, text) for look in self.looks]
            maps = [mean(of_photo) for of_photo in zip(*looks, strict=True)]
        if not self.refine:
            return maps
        inputs = (self._prepared(frame).shown for frame in frames)
        return [refined(scores, image) for scores, image in zip(maps, inputs, strict=True)]

    def _seen(
        self,
        frames: Sequence[Frame],
        scale: float,
        mirrored: Sequence[bool],
        text: TextFeatures,
    ) -> list[ScoreMap]:
        """The photos' scores at one scale; those of several looks are joined, being of one size."""
        prepared = [self._prepared(frame, scale) for frame in frames]
        found: list[ScoreMap] = []
        # What has one size at the largest scale may differ by a few pixels at another.
        for _, group in groupby(prepared, key=lambda photo: photo.pixels.shape):
            photos = list(group)
            looks = [self._score_maps(photos, text, mirror) for mirror in mirrored]
            found += [mean(of_photo) for of_photo in zip(*looks, strict=True)]
        return found

    def _score_maps(
        self, prepared: Sequence[Prepared], text: TextFeatures, mirrored: bool
    ) -> list[ScoreMap]:
        images = torch.cat([p.pixels for p in prepared])
        if self.tile is not None and max(images.shape[-2:]) > self.tile:
            return [self._tiled(p, text, self.tile, mirrored) for p in prepared]
        output, patch = self._pass(images, text, mirrored), self.network.config.patch_side
        return [score_map(output, i, p.valid_hw, patch) for i, p in enumerate(prepared)]

    def _pass(self, images: Tensor, text: TextFeatures, mirrored: bool) -> NetworkOutput:
        config, seen = self.network.config, images.shape[-1]
        if config.proposals == "grid":
            seen = config.seen(seen)
        with self._autocast():
            output = self.network(in_mirror(images, seen) if mirrored else images, text)
        self._require_finite(output.class_logits)
        return unmirrored(output) if mirrored else output

    def _autocast(self) -> torch.autocast:
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    def _require_finite(self, scores: Tensor) -> None:
        if not scores.isfinite().all():
            coarse = f", or {self.precision} is too coarse for it (--precision fp32)"
            raise CheckpointError(
                "the model gives scores that are not finite: its file is damaged"
                + (coarse if self.precision != "fp32" else "")
            )

    def _masked(self, frame: Frame, text: TextFeatures, source: MaskSource) -> ScoreMap:
        """The scores of one photo whose regions come from elsewhere."""
        prepared = [self._prepared(frame, scale) for scale, _ in self.looks]
        first = prepared[0]
        plain, seen = self._patches(first)
        masks = source(frame, seen.cpu().numpy(), first.valid_hw)
        require_masks(masks, first.valid_hw)
        found = torch.from_numpy(masks).to(self.device)
        looks = []
        for (_, mirrors), photo in zip(self.looks, prepared, strict=True):
            for mirrored in mirrors:
                images = photo.pixels
                if mirrored:
                    images = in_mirror(images, photo.seen_hw[1])
                if self.network.looks_at_masks:
                    patches = self._features(images, certain_logits(found, photo, mirrored, frame))
                elif images is first.pixels:
                    patches = plain
                else:
                    patches = self._features(images)
                regions = pooled(found, photo, mirrored, (patches.shape[1], patches.shape[2]))
                logits = self.network.classify_masks(patches, regions, text).class_logits
                self._require_finite(logits)
                looks.append(logits[0].softmax(-1))
        return MaskScores(mean_of_patches(looks, -1), found)

    def _features(self, images: Tensor, mask_logits: Tensor | None = None) -> Tensor:
        with self._autocast():
            return self.network.patch_features(images, mask_logits)

    def _patches(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        """Unit features of all patches (1, h, w, C), and of those that show the photo (., ., C)."""
        patches = F.normalize(self._features(prepared.pixels).float(), dim=-1)
        side = self.network.config.patch_side
        rows, columns = (math.ceil(length / side) for length in prepared.valid_hw)
        return patches, patches[0, :rows, :columns]

    def exemplar(self, frame: Frame, inside: np.ndarray, words: Tensor) -> Tensor:
        """What stands for a class that a picture shows as a text feature does: (C,).

        inside: (H, W) bool, where the class is; words: unit features (P, C) of many nouns. Patches
        are much closer to each other than to any words, so the mean of those inside would take
        every pixel. What tells it from those outside, at the length at which it matches its own
        patches as well as the best words do, competes with words on equal terms.
        """
        _, seen = self._patches(self._prepared(frame))
        patches = seen.flatten(0, 1)
        mask = torch.from_numpy(inside).float()[None, None]
        # On the CPU: Apple's GPUs pool multiples of a size alone (pytorch#96056).
        share = F.adaptive_avg_pool2d(mask, (seen.shape[0], seen.shape[1])).flatten().to(patches)
        mean = share @ patches / share.sum()
        outside = (1 - share) @ patches / (1 - share).sum().clamp(min=1)
        direction = F.normalize(mean - outside, dim=0)
        best = share @ (patches @ words.T).amax(1) / share.sum()
        return direction * best / (mean @ direction).clamp(min=1e-6)

    def _tiled(self, prepared: Prepared, text: TextFeatures, side: int, mirrored: bool) -> ScoreMap:
        """The scores of one photo, seen window by window."""
        config, whole_hw = self.network.config, prepared.pixels.shape[-2:]
        window_hw = min(whole_hw[0], side), min(whole_hw[1], side)
        # Pixels between two scores.
        unit = config.patch_side if config.proposals == "grid" else 1
        step = max(1, int(config.input.size_divisibility / unit))
        size_hw = _scores_along(whole_hw, config)
        rows, columns = (
            window_starts(whole, window, self.overlap, step)
            for whole, window in zip(size_hw, _scores_along(window_hw, config), strict=True)
        )
        # The last windows begin at a patch, too, and may end less than one beyond the input.
        below, right = (
            max(0, round(starts[-1] * unit) + window - whole)
            for starts, window, whole in zip((rows, columns), window_hw, whole_hw, strict=True)
        )
        pixels = F.pad(prepared.pixels, (0, right, 0, below))
        tiles = []
        for top in rows:
            y = round(top * unit)
            band = pixels[..., y : y + window_hw[0], :]
            across_band = (round(left * unit) for left in columns)
            windows = torch.cat([band[..., x : x + window_hw[1]] for x in across_band])
            output = self._pass(windows, text, mirrored)
            for i, left in enumerate(columns):
                scores = score_map(output, i, window_hw, config.patch_side)
                margins = [self.overlap * side / unit for side in window_hw]
                down, across = (
                    ramp(torch.arange(length).float() + 0.5, length, margin)
                    for length, margin in zip(scores.size_hw, margins, strict=True)
                )
                tiles.append(Tile(scores, top, left, down, across))
        span_hw = prepared.valid_hw[0] / unit, prepared.valid_hw[1] / unit
        if output.sharp:
            return SharpTiledScores(tiles, size_hw, span_hw, (margins[0], margins[1]))
        return TiledScores(tiles, size_hw, span_hw)


def _scores_along(pixels_hw: Sequence[int], config: ModelConfig) -> tuple[int, int]:
    """Rows and columns of the scores that an input of so many pixels gets."""
    if config.proposals == "grid":
        return config.patches(pixels_hw[0]), config.patches(pixels_hw[1])
    return pixels_hw[0], pixels_hw[1]


def _looks(config: InputConfig) -> list[Look]:
    """What `config` asks for (test-time augmentation), the largest first.

    Each holds equally many images, so that the mean over looks is one over images.
    """
    together = config.mirror and config.mirror_scale == 1
    looks: list[Look] = [(s, (False, True) if together else (False,)) for s in config.scales]
    if config.mirror and not together:
        looks += [(scale * config.mirror_scale, (True,)) for scale in config.scales]
    return sorted(set(looks), key=lambda look: (-look[0], look[1]))
