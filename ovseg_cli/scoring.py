"""How a network looks at photos: resizing, windows, its pass, and what refines its scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ovseg_cli.errors import CheckpointError, InputError, UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.model.network import Network, NetworkOutput, TextFeatures
from ovseg_cli.model.pamr import refined
from ovseg_cli.model.score_map import MaskScores, ScoreMap, score_map
from ovseg_cli.model.tiles import SharpTiledScores, Tile, TiledScores, ramp, window_starts
from ovseg_cli.model.views import mean, unmirrored

if TYPE_CHECKING:
    from ovseg_cli.model.config import InputConfig

OVERLAP = 0.25  # share of a window that the next one sees again
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CERTAIN = 30.0  # the logit of a mask that is 0 or 1
# Masks from elsewhere are bytes; so many pixels of them are made float32 at a time (16 MB), and so
# many at once (1.2 GB) where patches look at all of them together.
PORTION, MOST_LOOKED_AT = 1 << 22, 300_000_000

# A photo, the unit features (h, w, C) of its patches and a size H×W -> masks (Q, H, W) bool.
MaskSource = Callable[[Frame, np.ndarray, tuple[int, int]], np.ndarray]

Look = tuple[float, tuple[bool, ...]]  # scale, and whether the photo is seen there in a mirror


@dataclass(frozen=True, eq=False)
class Prepared:
    """A photo as a network sees it."""

    pixels: Tensor  # (1, 3, h, w) normalised and padded
    valid_hw: tuple[int, int]  # without the padding
    padding: tuple[int, int, int, int]  # left, right, top, bottom

    @property
    def shown(self) -> Tensor:
        """The photo without the padding, (3, ., .)."""
        return self.pixels[0, :, : self.valid_hw[0], : self.valid_hw[1]]


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
        self.looks = _looks(network.config.input)
        network.prepare(masks is not None)

    def input_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which the network sees a photo: equal ones can share a batch.

        Of several looks the largest.
        """
        largest = self.looks[0][0]
        height, width = resized(size_hw, self.network.config.input, largest)
        return self._padded(height), self._padded(width)

    def _padded(self, side: int) -> int:
        step = self.network.config.input.size_divisibility
        return math.ceil(side / step) * step

    def prepare(self, frame: Frame, scale: float = 1.0) -> Prepared:
        """Resize as the authors' code does (Pillow, bilinear), normalise, then pad with zeros.

        scale: of the model's usual size.
        """
        valid_hw = resized(frame.size_hw, self.network.config.input, scale)
        pixels = frame.view
        if valid_hw != pixels.shape[:2]:
            photo = Image.fromarray(pixels)
            pixels = np.asarray(photo.resize(valid_hw[::-1], Image.Resampling.BILINEAR))
        image = torch.from_numpy(np.array(pixels)).to(self.device)[None].permute(0, 3, 1, 2)
        image = self.network.normalise(image.float())
        height, width = (self._padded(side) for side in valid_hw)
        padding = (0, width - valid_hw[1], 0, height - valid_hw[0])
        return Prepared(F.pad(image, padding), valid_hw, padding)

    def score_maps(self, frames: Sequence[Frame], text: TextFeatures) -> list[ScoreMap]:
        """The scores of photos of one input size, at the network's own resolution."""
        if self.masks is not None:
            maps = [self._masked(frame, text, self.masks) for frame in frames]
        else:
            looks = [self._seen(frames, *look, text) for look in self.looks]
            maps = [mean(of_photo) for of_photo in zip(*looks, strict=True)]
        if not self.refine:
            return maps
        inputs = (self.prepare(frame).shown for frame in frames)
        return [refined(scores, image) for scores, image in zip(maps, inputs, strict=True)]

    def _seen(
        self,
        frames: Sequence[Frame],
        scale: float,
        mirrored: Sequence[bool],
        text: TextFeatures,
    ) -> list[ScoreMap]:
        """The photos' scores at one scale; those of several looks are joined, being of one size."""
        prepared = [self.prepare(frame, scale) for frame in frames]
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
        output, patch = self._pass(images, text, mirrored)
        return [score_map(output, i, p.valid_hw, patch) for i, p in enumerate(prepared)]

    def _pass(
        self, images: Tensor, text: TextFeatures, mirrored: bool
    ) -> tuple[NetworkOutput, int]:
        """The network's output, and the side of its patches in pixels."""
        with self._autocast():
            output = self.network(images.flip(-1) if mirrored else images, text)
        self._require_finite(output.class_logits)
        patch = images.shape[-1] // output.grid_hw[1]
        return unmirrored(output) if mirrored else output, patch

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
        prepared = [self.prepare(frame, scale) for scale, _ in self.looks]
        first = prepared[0]
        plain, seen = self._patches(first)
        masks = source(frame, seen.cpu().numpy(), first.valid_hw)
        _require_masks(masks, first.valid_hw)
        found = torch.from_numpy(masks).to(self.device)
        looks = []
        for (_, mirrors), photo in zip(self.looks, prepared, strict=True):
            for mirrored in mirrors:
                images = photo.pixels.flip(-1) if mirrored else photo.pixels
                if self.network.looks_at_masks:
                    patches = self._features(images, _certain_logits(found, photo, mirrored, frame))
                elif images is first.pixels:
                    patches = plain
                else:
                    patches = self._features(images)
                regions = _pooled(found, photo, mirrored, (patches.shape[1], patches.shape[2]))
                logits = self.network.classify_masks(patches, regions, text).class_logits
                self._require_finite(logits)
                looks.append(logits[0].softmax(-1))
        return MaskScores(torch.stack(looks).mean(0), found)

    def _features(self, images: Tensor, mask_logits: Tensor | None = None) -> Tensor:
        with self._autocast():
            return self.network.patch_features(images, mask_logits)

    def _patches(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        """Unit features of all patches (1, h, w, C), and of those that show the photo (., ., C)."""
        patches = F.normalize(self._features(prepared.pixels).float(), dim=-1)
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
        _, seen = self._patches(self.prepare(frame))
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
            output, patch = self._pass(windows, text, mirrored)
            unit = patch if output.mask_logits is None else 1  # pixels between two scores
            for i, left in enumerate(columns):
                scores = score_map(output, i, window_hw, patch)
                margins = [self.overlap * side / unit for side in window_hw]
                down, across = (
                    ramp(torch.arange(length).float() + 0.5, length, margin)
                    for length, margin in zip(scores.size_hw, margins, strict=True)
                )
                tiles.append(Tile(scores, top // unit, left // unit, down, across))
        size_hw = whole_hw[0] // unit, whole_hw[1] // unit
        span_hw = prepared.valid_hw[0] / unit, prepared.valid_hw[1] / unit
        if output.sharp:
            return SharpTiledScores(tiles, size_hw, span_hw, (margins[0], margins[1]))
        return TiledScores(tiles, size_hw, span_hw)


def _portions(found: Tensor, photo: Prepared, mirrored: bool) -> Iterator[Tensor]:
    """Masks (Q, ., .) bool at the size of a look's input, 0 in the padding: (1, n, H, W) float32.

    n, whose sum is Q, is as many as PORTION allows: all of them at once would be many gigabytes.
    """
    height, width = photo.pixels.shape[-2:]
    for part in found.split(max(1, PORTION // (height * width))):
        covered = F.interpolate(part.float()[None], photo.valid_hw, mode="nearest-exact")
        covered = F.pad(covered, photo.padding)
        yield covered.flip(-1) if mirrored else covered


def _pooled(found: Tensor, photo: Prepared, mirrored: bool, grid_hw: tuple[int, int]) -> Tensor:
    """The same as shares of patches, all at once (1, Q, h, w).

    Each mask is pooled for itself, so that portions of them change no bit.
    """
    # Made beforehand: results that lie between the portions keep their memory from being used again
    # (3.2 GB for 1.3, 4096 masks at 240 pixels).
    shares = torch.empty(1, len(found), *grid_hw, dtype=torch.float32, device=found.device)
    first = 0
    for part in _portions(found, photo, mirrored):
        last = first + part.shape[1]
        shares[:, first:last] = F.interpolate(part, grid_hw, mode="area")
        first = last
    return shares


def _certain_logits(found: Tensor, photo: Prepared, mirrored: bool, frame: Frame) -> Tensor:
    """The same as mask logits, all at once (1, Q, H, W). Raises InputError where they are many."""
    height, width = photo.pixels.shape[-2:]
    most = MOST_LOOKED_AT // (height * width)
    if len(found) > most:
        raise InputError(
            f"{frame.source}: {len(found)} masks are more than the {most} that patches of "
            f"{width}×{height} pixels can look at: a smaller --size allows more, as does another "
            "--attention than mask"
        )
    size = (1, len(found), height, width)
    logits = torch.empty(size, dtype=torch.float32, device=found.device)
    first = 0
    for part in _portions(found, photo, mirrored):
        last = first + part.shape[1]
        logits[:, first:last] = CERTAIN * (2 * part - 1)
        first = last
    return logits


def _require_masks(masks: np.ndarray, size_hw: tuple[int, int]) -> None:
    """Raise ValueError where a source, which may be the user's own, breaks its contract."""
    height, width = size_hw
    wanted = f"masks are Q×{height}×{width} bool, at least one"
    if not isinstance(masks, np.ndarray):
        raise ValueError(f"{wanted}, not a {type(masks).__name__}")
    if masks.dtype != np.bool_ or masks.ndim != 3 or not len(masks) or masks.shape[1:] != size_hw:
        raise ValueError(f"{wanted}, not {masks.shape} {masks.dtype}")


def _looks(config: InputConfig) -> list[Look]:
    """What `config` asks for (test-time augmentation), the largest first.

    Each holds equally many images, so that the mean over looks is one over images.
    """
    together = config.mirror and config.mirror_scale == 1
    looks: list[Look] = [(s, (False, True) if together else (False,)) for s in config.scales]
    if config.mirror and not together:
        looks += [(scale * config.mirror_scale, (True,)) for scale in config.scales]
    return sorted(set(looks), key=lambda look: (-look[0], look[1]))


def resized(size_hw: tuple[int, int], config: InputConfig, scale: float = 1.0) -> tuple[int, int]:
    """A photo's size in the network's input: shorter side `min_size`, longer at most `max_size`.

    scale: by which the result is to be larger than that.
    """
    height, width = (float(side) for side in size_hw)
    if config.min_size is not None:
        usual = config.min_size / min(size_hw)
        height, width = height * usual, width * usual
        if max(height, width) > config.max_size:
            usual = config.max_size / max(height, width)
            height, width = height * usual, width * usual
    height, width = height * scale, width * scale
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))
