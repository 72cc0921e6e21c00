"""DeOP's stage 1: vectors that stand before a name in place of words like "a photo of a".

They learn from true masks cut out of photos, so that the text features fit what CLIP sees of a
region. All else is frozen, CLIP's view of a cut-out too: each goes through the tower only once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.data.bounds import COUNT, SEED, require
from ovseg_cli.data.pixel_set import PixelSet, named_set
from ovseg_cli.data.transforms import masked_crop, to_tensor
from ovseg_cli.errors import UsageError
from ovseg_cli.model.clip import VisualTower
from ovseg_cli.model.deop import DeOP
from ovseg_cli.model.prompts import LearnedPrompt


@dataclass(frozen=True)
class PromptStageConfig:
    """What the stage learns from."""

    set: str  # folder of the photos and their labels
    split: str = "train"
    batch: int = 32  # cut-outs a step
    samples: int = 32  # cut-outs of each class, from different photos
    smallest: int = 256  # pixels that a mask must have
    size: int = 224  # side of a cut-out, as CLIP was trained
    seed: int = 0

    def __post_init__(self) -> None:
        require(self, batch=COUNT, samples=COUNT, smallest=COUNT, seed=SEED)
        require(self, size=(32, math.inf))  # the largest patches that CLIP's towers have


@dataclass(frozen=True, eq=False)
class CutOuts:
    """What CLIP sees of some masks."""

    features: Tensor  # (n, C) of unit length
    classes: Tensor  # (n,) int64


class PromptStage:
    """See the module's text."""

    def __init__(
        self, model: DeOP, config: PromptStageConfig, data: Path, device: torch.device
    ) -> None:
        if not isinstance(model.visual, VisualTower) or model.text.prompt is None:
            raise UsageError(
                "the stage 'prompt' needs a model with CLIP's image tower and a learned prompt; "
                "name one with --init, or describe one in the table [model]"
            )
        self.model = model.eval()
        self.visual = model.visual
        self.config = config
        self.device = device
        model.requires_grad_(False)
        for vectors in _vectors(model.text.prompt):
            vectors.requires_grad_(True)
        train, val = (named_set(data, config.set, s) for s in (config.split, "val"))
        self.names = train.names
        self.cut_outs = self._look_at(train)
        self.validation = self._look_at(val)

    @torch.no_grad()
    def _look_at(self, data: PixelSet) -> CutOuts:
        """Up to `samples` cut-outs of each class, and their mirror images."""
        missing = np.full(len(data.names), self.config.samples)
        features, classes = [], []
        for index in np.random.default_rng(self.config.seed).permutation(len(data.keys)):
            image, labels = data.load(data.keys[index])
            pixels = np.bincount(labels.ravel(), minlength=256)[: len(missing)]
            for label in np.flatnonzero((pixels >= self.config.smallest) & (missing > 0)):
                colour = self.model.config.input.pixel_mean
                view = masked_crop(image, labels == label, self.config.size, colour)
                views = to_tensor(np.stack([view, view[:, ::-1]]), self.device)
                features.append(self.visual.image_features(self.model.normalise(views)))
                classes += [label, label]
                missing[label] -= 1
            if not missing.any():
                break
        if not features:
            raise UsageError(f"{data.root}: no mask has {self.config.smallest} pixels")
        units = F.normalize(torch.cat(features).float(), dim=-1)
        return CutOuts(units, torch.tensor(np.array(classes), device=self.device))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The vectors alone."""
        assert self.model.text.prompt is not None
        return [{"params": _vectors(self.model.text.prompt)}]

    def batch(self, step: int) -> Tensor:
        """Rows (batch,) of the cut-outs."""
        draw = np.random.default_rng((self.config.seed, step))
        return torch.from_numpy(draw.integers(len(self.cut_outs.classes), size=self.config.batch))

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        """Cross-entropy over the set's names."""
        rows = batch.to(self.device)
        logits = self._logits(self.model, self.cut_outs.features[rows])
        return {"class": F.cross_entropy(logits, self.cut_outs.classes[rows])}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Share of the val split's cut-outs that get their own name."""
        assert isinstance(model, DeOP)
        best = self._logits(model, self.validation.features).argmax(1)
        right = best == self.validation.classes
        return {self.config.set: float(right.float().mean())}

    def _logits(self, model: DeOP, features: Tensor) -> Tensor:
        text = model.text.encode(self.names).float()
        with torch.autocast(features.device.type, enabled=False):
            return model.config.logit_scale * features @ text.T  # (n, K)


def _vectors(prompt: LearnedPrompt) -> list[nn.Parameter]:
    return [vectors for vectors in (prompt.prefix, prompt.suffix) if vectors is not None]
