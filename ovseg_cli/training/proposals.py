"""DeOP's stage 2: mask proposals by set prediction (MaskFormer, arXiv 2107.06278).

Which query answers for which true mask is decided by the masks alone, so that the proposals are
useful for names that were never trained on.
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
from ovseg_cli.data.pixel_set import PixelSet
from ovseg_cli.data.transforms import to_tensor
from ovseg_cli.errors import UsageError
from ovseg_cli.model.convolution import BatchNorm2d
from ovseg_cli.model.deop import DeOP
from ovseg_cli.training.criterion import SetCriterion, SetWeights
from ovseg_cli.training.engine import weight_decay_groups
from ovseg_cli.training.matcher import set_target
from ovseg_cli.training.named_views import NamedViews
from ovseg_cli.training.validation import photos


@dataclass(frozen=True)
class ProposalStageConfig:
    """What the stage learns from, and which parts of the model learn."""

    views: ViewConfig
    weights: SetWeights = SetWeights()
    freeze_backbone: bool = False  # for a model whose visual encoder shares it
    backbone_rate: float = 0.1  # of the learning rate
    learn_non_object: bool = True  # the non-object embedding
    evaluate_size: int = 512  # shorter side of val photos

    def __post_init__(self) -> None:
        require(self, backbone_rate=WEIGHT, evaluate_size=COUNT)


class ProposalStage:
    """See the module's text. Batch norm stays frozen throughout."""

    def __init__(
        self, model: DeOP, config: ProposalStageConfig, data: Path, device: torch.device
    ) -> None:
        sizes = model.config.proposal
        if sizes is None:
            raise UsageError("the model is a plain CLIP: there are no mask proposals to train")
        if sizes.class_channels != model.config.joint_width:
            raise UsageError(
                f"the model's class head gives {sizes.class_channels} channels, "
                f"its text features have {model.config.joint_width}: they cannot be compared"
            )
        if config.weights.points:
            raise UsageError("[stage.weights]: this stage compares masks at all pixels, not points")
        self.model = model.eval()
        self.config = config
        self.device = device
        self.criterion = SetCriterion(config.weights)
        model.requires_grad_(False)
        model.proposals.requires_grad_(True)
        model.text.non_object_embedding.requires_grad_(config.learn_non_object)
        if not config.freeze_backbone:
            model.backbone.requires_grad_(True)
            for part in model.backbone.modules():
                if isinstance(part, BatchNorm2d):
                    part.requires_grad_(False)
        self.views = NamedViews(model, config.views, data)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The backbone learns more slowly than the rest."""
        rest = [*self.model.proposals.parameters(), self.model.text.non_object_embedding]
        return [
            *weight_decay_groups(
                self.model.backbone.parameters(), lr_scale=self.config.backbone_rate
            ),
            *weight_decay_groups(rest),
        ]

    def batch(self, step: int) -> PixelBatch:
        """Views of one set."""
        return self.views.mixture.batch(step)

    def losses(self, batch: PixelBatch) -> dict[str, Tensor]:
        """Classes, focal and dice loss of the masks, each summed over the decoder layers."""
        text = self.views.text[batch.set_name]
        labels = torch.from_numpy(batch.labels).to(self.device).long()
        targets = [set_target(photo, text.classes) for photo in labels]
        images = self.model.normalise(to_tensor(batch.images, self.device))
        layers = []
        for proposals in self.model.proposals.each_layer(self.model.backbone(images)):
            assert proposals.class_embeddings is not None
            names = F.normalize(proposals.class_embeddings.float(), dim=-1)
            layers.append((proposals.mask_logits, self.model.class_logits(names, text)))
        return self.criterion(layers, targets)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Of each val split: the IoU of each true mask with its best proposal, averaged."""
        assert isinstance(model, DeOP)
        return {name: self._best_iou(model, data) for name, data in self.views.validation.items()}

    def _best_iou(self, model: DeOP, data: PixelSet) -> float:
        found: list[Tensor] = []
        size = self.config.evaluate_size
        longest = model.config.input.longest(size)
        for image, labels in photos(data, size, self.device, longest):
            logits = model.proposals(model.backbone(model.normalise(image))).mask_logits
            logits = F.interpolate(logits.float(), labels.shape, mode="bilinear")[0]
            target = set_target(labels, data.other)
            truth, proposed = target.masks.flatten(1).float(), (logits > 0).flatten(1)
            proposed = proposed * target.valid.flatten().float()
            hit = truth @ proposed.T  # (T, N)
            union = truth.sum(1)[:, None] + proposed.sum(1) - hit
            found.append((hit / union).amax(1))
        return float(torch.cat(found).mean())
