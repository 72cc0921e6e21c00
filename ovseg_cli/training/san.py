"""SAN's only stage: a side adapter beside a frozen CLIP learns masks, and where to look for each.

Xu et al., CVPR 2023, arXiv 2302.12242. What a mask is called teaches the adapter alone: the
gradient goes through CLIP's deep layers into the attention biases, and leaves those layers as they
are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ovseg_cli.data.batches import PixelBatch
from ovseg_cli.data.bounds import COUNT, require
from ovseg_cli.data.mixture import ViewConfig
from ovseg_cli.data.transforms import to_tensor
from ovseg_cli.model.san import SAN
from ovseg_cli.training.criterion import SetCriterion, SetWeights
from ovseg_cli.training.engine import weight_decay_groups
from ovseg_cli.training.matcher import set_target
from ovseg_cli.training.named_views import NamedViews

WEIGHTS = SetWeights(classes=2, mask=5, dice=5, mask_loss="cross_entropy", match_names=True)


@dataclass(frozen=True)
class SANStageConfig:
    """What the stage learns from, and what learns beside the side adapter."""

    views: ViewConfig
    weights: SetWeights = WEIGHTS
    supervised: int = 2  # of the side adapter's last blocks
    learn_positions: bool = True  # CLIP's table of the image's positions
    learn_non_object: bool = True  # the background's embedding
    evaluate_size: int = 640  # shorter side of val photos

    def __post_init__(self) -> None:
        require(self, supervised=COUNT, evaluate_size=COUNT)


@dataclass(frozen=True, eq=False)
class SANBatch:
    """Views of one set, and the generator for the points at which masks are compared."""

    views: PixelBatch
    draw: np.random.Generator


class SANStage:
    """See the module's text."""

    def __init__(
        self, model: SAN, config: SANStageConfig, data: Path, device: torch.device
    ) -> None:
        self.model = model.eval()
        self.config = config
        self.device = device
        self.criterion = SetCriterion(config.weights)
        # Autograd keeps nothing of what comes before the first parameter that learns.
        model.requires_grad_(False)
        model.side_adapter.requires_grad_(True)
        model.text.non_object_embedding.requires_grad_(config.learn_non_object)
        model.visual.positional_embedding.requires_grad_(config.learn_positions)
        self.views = NamedViews(model, config.views, data)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices only, and not on positions."""
        model, tower = self.model, self.model.visual
        side = model.side_adapter
        positions = [tower.positional_embedding, side.query_position, side.patch_position]
        apart = {id(table) for table in positions}
        rest = [*side.parameters(), model.text.non_object_embedding]
        return [
            *weight_decay_groups(p for p in rest if id(p) not in apart),
            {"params": [table for table in positions if table.requires_grad], "weight_decay": 0.0},
        ]

    def batch(self, step: int) -> SANBatch:
        """Views of one set."""
        draw = np.random.default_rng((self.config.views.seed, step, 1))
        return SANBatch(self.views.mixture.batch(step), draw)

    def losses(self, batch: SANBatch) -> dict[str, Tensor]:
        """Classes, cross-entropy and dice loss of the masks, each summed over the last blocks."""
        views = batch.views
        model, text = self.model, self.views.text[views.set_name]
        labels = torch.from_numpy(views.labels).to(self.device).long()
        targets = [set_target(photo, text.classes) for photo in labels]
        images = model.normalise(to_tensor(views.images, self.device))
        streams, grid_hw = model.shallow(model.clip_images(images))
        layers = [
            (mask_logits, model.name(streams[-1], biases, grid_hw, text))
            for mask_logits, biases in model.propose_each(
                images, streams, grid_hw, self.config.supervised
            )
        ]
        return self.criterion(layers, targets, batch.draw)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """mIoU of each val split over its names."""
        assert isinstance(model, SAN)
        return self.views.ious(model, self.config.evaluate_size, self.device)
