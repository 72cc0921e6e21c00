"""The bundled model's main stage: every patch learns to point at the text feature of its name.

DeOP's own order (proposals first, then heatmaps on a pretrained CLIP) has no CLIP to start from
here. So the patch features come first: cross-entropy and soft Jaccard loss over the names of the
photo's own data set and the non-object embedding, pixel by pixel. Beside photos there are mosaics
of pictures that have one name as a whole: they widen the vocabulary. Where in such a picture its
thing is, the model may mark itself before the stage begins.
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

from ovseg_cli.data.batches import ImageBatch, PixelBatch, ViewStyle
from ovseg_cli.data.mixture import choose
from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.data.transforms import jitter_colour, lose_colour, to_tensor
from ovseg_cli.errors import UsageError
from ovseg_cli.model.network import Network, TextFeatures
from ovseg_cli.model.san import SAN
from ovseg_cli.training.criterion import soft_jaccard_loss
from ovseg_cli.training.dense_config import GROUPS, DenseConfig, Phase
from ovseg_cli.training.dense_data import DenseData
from ovseg_cli.training.engine import weight_decay_groups
from ovseg_cli.training.true_masks import Encoded, look, mask_loss
from ovseg_cli.training.validation import region_ious, val_sets


@dataclass(frozen=True, eq=False)
class DenseBatch:
    """GROUPS groups, each of views of photos of one set or of mosaics of pictures."""

    groups: tuple[PixelBatch | ImageBatch, ...]
    draw: np.random.Generator  # for the colours and names


class DenseStage:
    """See the module's text."""

    def __init__(
        self,
        model: Network,
        config: DenseConfig,
        data: Path,
        steps: int,
        device: torch.device,
        out: Path,
        origin: str,
    ) -> None:
        """out: folder where what the model marks in pictures is kept for a run that goes on.

        origin: what tells that from what other runs marked, see `Kept`.
        """
        self.model = model
        self.config = config
        self.steps = steps
        self.device = device
        if config.mask_weight and not isinstance(model, SAN):
            raise UsageError("mask_weight is for a SAN, whose class token can look at masks")
        model.requires_grad_(False)
        for part in model.image_encoder():
            part.requires_grad_(True)
        model.text.non_object_embedding.requires_grad_(True)
        self.validation = val_sets(data, config.pixel_sets)
        sets = DenseData(config, data)
        self.names = sets.names(model, device)
        # Last, for it may take minutes: what is wrong with a recipe is said before.
        self.pictures, self.photos = sets.mark(model, out, origin, device), sets.photos

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices only."""
        return weight_decay_groups(self.model.parameters())

    def phase(self, step: int) -> Phase:
        """The phase a step belongs to."""
        running = [p for p in self.config.phases if step < p.until * self.steps]
        return running[0] if running else self.config.phases[-1]  # a step beyond the last

    def batch(self, step: int) -> DenseBatch:
        """Drawn from a generator seeded by the step alone."""
        draw = np.random.default_rng((self.config.seed, step))
        phase = self.phase(step)
        groups = tuple(self._group(phase, draw) for _ in range(GROUPS))
        return DenseBatch(groups, draw)

    def _group(self, phase: Phase, draw: np.random.Generator) -> PixelBatch | ImageBatch:
        count, config = phase.batch // GROUPS, self.config
        name = choose(phase.sets, draw)
        if name in self.pictures:
            enlarged = float(np.exp(draw.uniform(*np.log(config.picture_scales))))
            return self.pictures[name].draw(count, phase.size, draw, enlarged)
        style = ViewStyle(
            size=phase.size,
            scales=phase.scales,
            focus_share=config.focus_share,
            paste_share=config.paste_share,
            mix_share=config.mix_shares.get(name, 0.0),
            guests=bool(config.guest_share and draw.random() < config.guest_share),
        )
        return self.photos[name].draw(count, style, draw)

    def losses(self, batch: DenseBatch) -> dict[str, Tensor]:
        """Over the names of each group's own set; a group counts 1/GROUPS of the whole."""
        self.model.train()
        encoded = self._look(np.concatenate([g.images for g in batch.groups]), batch.draw)
        losses: dict[str, Tensor] = {}
        for part, group in zip(encoded.chunk(GROUPS), batch.groups, strict=True):
            if isinstance(group, ImageBatch):
                found = self._picture_losses(part, group, batch.draw)
            else:
                found = self._pixel_losses(part, group, batch.draw)
            for name, loss in found.items():
                losses[name] = losses.get(name, 0.0) + loss / GROUPS
        return losses

    def _look(self, views: np.ndarray, draw: np.random.Generator) -> Encoded:
        images = lose_colour(to_tensor(views, self.device), draw, self.config.grey_share)
        images = self.model.normalise(jitter_colour(images, draw))
        return look(self.model, images, tokens=self.config.mask_weight > 0)

    def _mask_losses(self, *arguments: Any) -> dict[str, Tensor]:
        if not self.config.mask_weight:
            return {}
        assert isinstance(self.model, SAN)
        return {"masks": self.config.mask_weight * mask_loss(self.model, *arguments)}

    def _pixel_losses(
        self, encoded: Encoded, views: PixelBatch, draw: np.random.Generator
    ) -> dict[str, Tensor]:
        labels = torch.from_numpy(views.labels).to(self.device).long()
        names = self.names.thinned(
            self.names.draw(views.set_name, draw, views.guests), labels, draw
        )
        labels, text, weights = names.table[labels], TextFeatures(names.text), names.weights
        found = self._mask_losses(encoded, labels, text, weights)
        logits = self.model.patch_logits(encoded.patches, text)
        logits[..., -1] += math.log(self.config.other_weight(text.classes))
        labels = labels[:, ::2, ::2]  # at stride 2; the patches have stride 4
        logits = F.interpolate(
            logits.permute(0, 3, 1, 2), labels.shape[-2:], mode="bilinear", align_corners=False
        ).float()
        total = F.cross_entropy(logits, labels, weights, ignore_index=IGNORE, reduction="sum")
        # Not the weighted mean: a view of one common class must not weigh as much as a rich one.
        losses = {**found, "pixels": total / (labels != IGNORE).sum().clamp(min=1)}
        if self.config.jaccard_weight:
            losses["jaccard"] = self.config.jaccard_weight * soft_jaccard_loss(logits, labels)
        return losses

    def _picture_losses(
        self, encoded: Encoded, views: ImageBatch, draw: np.random.Generator
    ) -> dict[str, Tensor]:
        """Cross-entropy of each picture's mean patch."""
        tiles = views.classes.shape[1]
        patches = encoded.patches.permute(0, 3, 1, 2)
        means = F.adaptive_avg_pool2d(patches, tiles).permute(0, 2, 3, 1)
        names = self.names.draw(views.set_name, draw)
        truth = names.table[torch.from_numpy(views.classes.ravel()).to(self.device)]
        text, weights = TextFeatures(names.text), names.weights
        found = self._mask_losses(encoded, truth.view(views.classes.shape), text, weights)
        logits = self.model.class_logits(F.normalize(means.flatten(0, 2), dim=-1), text).float()
        if names.own:  # one of them is right
            logits, weights = logits[:, :-1], weights[:-1]
        loss = F.cross_entropy(logits, truth, weights, ignore_index=IGNORE, label_smoothing=0.1)
        loss = loss if (truth != IGNORE).any() else logits.sum() * 0
        return {**found, "pictures": loss}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """mIoU of each val split over its names (background is no name)."""
        assert isinstance(model, Network)
        text = {
            name: TextFeatures(self.names.features(data.names))
            for name, data in self.validation.items()
        }
        size = self.config.evaluate_size
        return region_ious(model, self.validation, text, size, self.device, "grid")
