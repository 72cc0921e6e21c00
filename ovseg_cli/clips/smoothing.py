"""Labels that stay the same as long as the picture does: scores combined over time along motion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg_cli.clips.motion import Motion, motion, thumbnail
from ovseg_cli.frame import Frame
from ovseg_cli.media.opencv import load_opencv
from ovseg_cli.model.score_map import GridScores, ScoreMap, class_maps
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.segmenter import Segmenter

STRENGTH = 0.85  # share of the past where it agrees with the picture
STRIDE = 4  # scores finer than every so many pixels of the network's input are made coarser


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of some frames before their past is."""

    frames: Sequence[Frame]
    scores: Sequence[ScoreMap]
    motions: Sequence[Motion | None]  # of each frame since the one before; None: nothing to follow


class SmoothLabels:
    """Frame t's scores are p_t + strength·a·(warped s_{t-1} - p_t).

    p_t is what the model says of the frame alone, s_{t-1} the scores given to the frame before, and
    a in [0, 1] how well the place where optical flow says a pixel was looks like the pixel. Where
    it does not (something uncovered, or the flow is wrong) the new frame counts alone; a scene cut
    begins anew.
    """

    def __init__(self, segmenter: Segmenter, strength: float = STRENGTH) -> None:
        """strength: 0..1, exclusive."""
        self._segmenter = segmenter
        self._strength = strength
        self._past: Tensor | None = None  # (K+1, h, w)

    @torch.inference_mode()
    def look(self, frames: Sequence[Frame], before: Frame | None) -> Seen:
        """The scores of consecutive frames of one size, and the motion between them.

        before: the frame before the first. Fit for several threads.
        """
        small = [thumbnail(frame) for frame in frames]
        past = [None if before is None else thumbnail(before), *small[:-1]]
        motions = [_motion(then, now) for then, now in zip(past, small, strict=True)]
        return Seen(frames, self._segmenter.score_maps(frames), motions)

    @torch.inference_mode()
    def label(self, seen: Seen) -> list[Segmentation]:
        """Label frames; call it with what `look` gave, in the order of the frames."""
        parts = zip(seen.frames, seen.scores, seen.motions, strict=True)
        return [
            self._segmenter.segmentation(self._smooth(scores, moved), frame)
            for frame, scores, moved in parts
        ]

    def _smooth(self, scores: ScoreMap, moved: Motion | None) -> ScoreMap:
        now = _coarse(scores)
        maps = now.probabilities
        if moved is not None and self._past is not None and self._past.shape == maps.shape:
            past, agreement = _follow(self._past, moved, now.span_hw)
            maps = torch.lerp(maps, past, self._strength * agreement)
        self._past = maps
        return GridScores(maps, now.span_hw)


def _motion(before: np.ndarray | None, now: np.ndarray) -> Motion | None:
    return motion(before, now) if before is not None and before.shape == now.shape else None


def _coarse(scores: ScoreMap) -> GridScores:
    """Scores of every patch as they are, of every pixel at a stride of STRIDE."""
    if isinstance(scores, GridScores):
        return scores
    size_hw = tuple(math.ceil(length / STRIDE) for length in scores.span_hw)
    ids = torch.arange(scores.channels, device=scores.rows(0, 1).device)
    maps, _ = class_maps(scores, ids, (size_hw[0], size_hw[1]))
    return GridScores(maps, (size_hw[0], size_hw[1]))


def _follow(past: Tensor, moved: Motion, span_hw: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """The past (K+1, h, w) as it lies in the new frame, and how far (h, w) it can be trusted.

    span_hw: the part of the map that the frame covers.
    """
    cv2 = load_opencv()
    height, width = past.shape[-2:]
    shown = (min(width, math.ceil(span_hw[1])), min(height, math.ceil(span_hw[0])))
    sides = moved.flow.shape[1::-1]
    scale = np.array([s / n for s, n in zip(shown, sides, strict=True)], np.float32)
    flow = cv2.resize(moved.flow, shown, interpolation=cv2.INTER_AREA) * scale
    agreement = cv2.resize(moved.agreement, shown, interpolation=cv2.INTER_AREA)
    missing = ((0, height - shown[1]), (0, width - shown[0]))
    flow = torch.from_numpy(np.pad(flow, (*missing, (0, 0)), mode="edge")).to(past)
    trusted = torch.from_numpy(np.pad(agreement, missing, mode="edge")).to(past)
    y, x = torch.meshgrid(
        torch.arange(height, device=past.device), torch.arange(width, device=past.device),
        indexing="ij",
    )  # fmt: skip
    places = torch.stack([x + flow[..., 0] + 0.5, y + flow[..., 1] + 0.5], -1)
    grid = places * (2 / places.new_tensor([width, height])) - 1
    fetched = F.grid_sample(past[None], grid[None], padding_mode="border", align_corners=False)
    return fetched[0], trusted
