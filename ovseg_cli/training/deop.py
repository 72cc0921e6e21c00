"""DeOP's stage 3: where in a proposal to look for its class.

Proposals, visual encoder and prompt stay as they are; the heatmap decoder with its queries, the
non-object embedding and the visual encoder's learned positions learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.data.batches import PixelBatch
from ovseg_cli.data.bounds import COUNT, WEIGHT, require
from ovseg_cli.data.mixture import ViewConfig
from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.data.transforms import to_tensor
from ovseg_cli.errors import UsageError
from ovseg_cli.model.clip import VisualTower
from ovseg_cli.model.deop import DeOP
from ovseg_cli.training.criterion import score_losses
from ovseg_cli.training.engine import weight_decay_groups
from ovseg_cli.training.named_views import NamedViews


@dataclass(frozen=True)
class DeOPStageConfig:
    """What the stage learns from."""

    views: ViewConfig
    focal_weight: float = 2.0
    dice_weight: float = 0.8
    learn_non_object: bool = True  # the non-object embedding
    evaluate_size: int = 512  # shorter side of val photos

    def __post_init__(self) -> None:
        require(self, focal_weight=WEIGHT, dice_weight=WEIGHT, evaluate_size=COUNT)


class DeOPStage:
    """See the module's text."""

    def __init__(
        self, model: DeOP, config: DeOPStageConfig, data: Path, device: torch.device
    ) -> None:
        if not model.has_regions:
            raise UsageError("the model is a plain CLIP: it has no heatmap decoder to train")
        self.model = model.eval()
        self.config = config
        self.device = device
        # Autograd keeps nothing of what comes before the first parameter that learns.
        model.requires_grad_(False)
        for part in self._learning():
            part.requires_grad_(True)
        self.views = NamedViews(model, config.views, data)

    def _learning(self) -> list[nn.Parameter]:
        model = self.model
        learning = list(model.heatmap_decoder.parameters())
        if self.config.learn_non_object:
            learning.append(model.text.non_object_embedding)
        if isinstance(model.visual, VisualTower):
            learning += model.visual.learned_positions()
        return learning

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices only."""
        return weight_decay_groups(self._learning())

    def batch(self, step: int) -> PixelBatch:
        """Views of one set."""
        return self.views.mixture.batch(step)

    def losses(self, batch: PixelBatch) -> dict[str, Tensor]:
        """Focal and dice loss of the class scores at the ground truth's size."""
        text = self.views.text[batch.set_name]
        labels = torch.from_numpy(batch.labels).to(self.device).long()
        labels = labels.masked_fill(labels == IGNORE, text.classes)  # the last channel
        images = self.model.normalise(to_tensor(batch.images, self.device))
        output = self.model(images, text, proposals="queries")
        with torch.autocast(self.device.type, enabled=False):
            logits = output.mask_logits.float()
            logits = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
            p = output.class_logits.float().softmax(-1)
            scores = torch.einsum("bnk,bnyx->bkyx", p, logits.sigmoid())
            losses = score_losses(scores, labels)
        return {
            "focal": self.config.focal_weight * losses["focal"],
            "dice": self.config.dice_weight * losses["dice"],
        }

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """mIoU of each val split over its names, with the proposals as regions."""
        assert isinstance(model, DeOP)
        return self.views.ious(model, self.config.evaluate_size, self.device)
