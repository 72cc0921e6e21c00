"""The bundled model's main stage: every patch learns to point at the text feature of its name.

DeOP's own order (proposals first, then heatmaps on a pretrained CLIP) has no CLIP to start from
here. So the patch features come first: cross-entropy and soft Jaccard loss over the names of the
photo's own data set and the non-object embedding, pixel by pixel. Beside photos there are mosaics
of pictures that have one name as a whole: they widen the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.data.image_set import read_image_set
from ovseg_cli.data.mixture import (
    ImageBatch,
    ImageSampler,
    PixelBatch,
    PixelSampler,
    choose,
    class_weights,
)
from ovseg_cli.data.pixel_set import IGNORE, PixelSet, read_pixel_set
from ovseg_cli.data.transforms import jitter_colour, to_tensor
from ovseg_cli.errors import UsageError
from ovseg_cli.model.deop import DeOP, TextFeatures
from ovseg_cli.training.engine import weight_decay_groups
from ovseg_cli.training.validation import mean_iou

GROUPS = 4  # data sets in one step: batch norm must not learn to tell them apart


@dataclass(frozen=True)
class Phase:
    """A part of the run with views of one size."""

    until: float  # share of all steps at which it ends
    size: int  # side of a view, pixels
    batch: int  # views a step, a multiple of GROUPS
    sets: dict[str, float]  # how often a group comes from each set
    scales: tuple[float, ...] = (0.5, 2.0)  # enlargement of a photo, smallest and largest


@dataclass(frozen=True)
class DenseConfig:
    """What the stage learns from."""

    phases: tuple[Phase, ...]
    pixel_sets: dict[str, str]  # folder -> split to train on
    image_sets: dict[str, str] = field(default_factory=dict)
    synonyms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    synonym_share: float = 0.3  # how often a synonym stands in for a name
    kinds: dict[str, tuple[str, ...]] = field(default_factory=dict)  # name -> of pictures' classes
    kind_share: float = 0.5  # mosaics whose pictures are called by their kind where they have one
    focus_share: float = 0.5  # views that aim at a class drawn evenly
    paste_share: float = 0.0  # views into which a thing of another photo is pasted
    drop_share: float = 0.25  # groups that leave some names out: their pixels are non-object
    weight_power: float = 0.4  # of the class weights; 0 = none
    jaccard_weight: float = 0.0  # of the soft Jaccard loss beside the cross-entropy
    evaluate_size: int = 320  # shorter side of val photos
    seed: int = 0


@dataclass(frozen=True, eq=False)
class DenseBatch:
    """GROUPS groups, each of views of photos of one set or of mosaics of pictures."""

    groups: tuple[PixelBatch | ImageBatch, ...]
    draw: np.random.Generator  # for the colours and names


class DenseStage:
    """See the module's text."""

    def __init__(
        self, model: DeOP, config: DenseConfig, data: Path, steps: int, device: torch.device
    ) -> None:
        self.model = model
        self.config = config
        self.steps = steps
        self.device = device
        model.text.requires_grad_(False)
        if model.has_regions:
            model.proposals.requires_grad_(False)
            model.heatmap_decoder.requires_grad_(False)
        model.text.non_object_embedding.requires_grad_(True)
        self.photos = {
            name: PixelSampler(read_pixel_set(data / name, split))
            for name, split in config.pixel_sets.items()
        }
        self.pictures = {
            name: ImageSampler(name, read_image_set(data / name, split))
            for name, split in config.image_sets.items()
        }
        self.validation = {name: read_pixel_set(data / name, "val") for name in config.pixel_sets}
        unknown = {name for p in config.phases for name in p.sets}.difference(
            self.photos, self.pictures
        )
        if unknown:
            raise UsageError(f"phases name sets that are not listed: {', '.join(sorted(unknown))}")
        self.phrases = {
            **{
                name: tuple((n, *config.synonyms.get(n, ())) for n in sampler.data.names)
                for name, sampler in self.photos.items()
            },
            **{name: sampler.data.names for name, sampler in self.pictures.items()},
        }
        self.rows = {name: self._kind_rows(s.data.names) for name, s in self.pictures.items()}
        self.weights = {
            name: torch.from_numpy(class_weights(sampler.pixels, config.weight_power)).to(device)
            for name, sampler in self.photos.items()
        }
        self.text = self._encode_phrases()

    def _kind_rows(self, names: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Of each class the number of its kind, or -1; every kind's members must be classes."""
        numbers = {row[0]: -1 for row in names}
        for number, (kind, members) in enumerate(self.config.kinds.items()):
            unknown = sorted(set(members) - set(numbers))
            if unknown:
                raise UsageError(f"the kind {kind} names no class of pictures: {unknown[0]}")
            numbers |= dict.fromkeys(members, number)
        return np.array(list(numbers.values()))

    def _encode_phrases(self) -> dict[str, Tensor]:
        """The frozen text tower's feature of every phrase, (C,) each."""
        phrases = sorted(
            {p for table in self.phrases.values() for row in table for p in row}.union(
                self.config.kinds
            )
        )
        with torch.no_grad():
            features = self.model.text.encode(phrases)
        return dict(zip(phrases, features.to(self.device), strict=True))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices only."""
        return weight_decay_groups(self.model.parameters())

    def phase(self, step: int) -> Phase:
        """The phase a step belongs to."""
        running = [p for p in self.config.phases if step < p.until * self.steps]
        return running[0] if running else self.config.phases[-1]

    def batch(self, step: int) -> DenseBatch:
        """Drawn from a generator seeded by the step alone."""
        draw = np.random.default_rng((self.config.seed, step))
        phase = self.phase(step)
        return DenseBatch(tuple(self._group(phase, draw) for _ in range(GROUPS)), draw)

    def _group(self, phase: Phase, draw: np.random.Generator) -> PixelBatch | ImageBatch:
        count = phase.batch // GROUPS
        name = choose(phase.sets, draw)
        if name in self.pictures:
            return self.pictures[name].draw(count, phase.size, draw)
        scales = (phase.scales[0], phase.scales[1])
        config = self.config
        return self.photos[name].draw(
            count, phase.size, scales, config.focus_share, draw, config.paste_share
        )

    def losses(self, batch: DenseBatch) -> dict[str, Tensor]:
        """Over the names of each group's own set; a group counts 1/GROUPS of the whole."""
        self.model.train()
        patches = self._patches(np.concatenate([g.images for g in batch.groups]), batch.draw)
        losses: dict[str, Tensor] = {}
        for part, group in zip(patches.chunk(GROUPS), batch.groups, strict=True):
            if isinstance(group, ImageBatch):
                found = {"pictures": self._picture_loss(part, group, batch.draw)}
            else:
                found = self._pixel_losses(part, group, batch.draw)
            for name, loss in found.items():
                losses[name] = losses.get(name, 0.0) + loss / GROUPS
        return losses

    def _patches(self, views: np.ndarray, draw: np.random.Generator) -> Tensor:
        images = to_tensor(views, self.device)
        return self.model.patch_features(self.model.normalise(jitter_colour(images, draw)))

    def _names(self, set_name: str, draw: np.random.Generator) -> Tensor:
        """Text features (K, C) of the set's names, some by a synonym."""
        rows = []
        for phrases in self.phrases[set_name]:
            synonym = len(phrases) > 1 and draw.random() < self.config.synonym_share
            rows.append(self.text[phrases[draw.integers(1, len(phrases)) if synonym else 0]])
        return torch.stack(rows)

    def _pixel_losses(
        self, patches: Tensor, views: PixelBatch, draw: np.random.Generator
    ) -> dict[str, Tensor]:
        text = self._names(views.set_name, draw)
        labels = torch.from_numpy(views.labels).to(self.device).long()
        weights = self.weights[views.set_name]
        if draw.random() < self.config.drop_share:
            text, labels, weights = _leave_out(text, labels, weights, draw)
        logits = self.model.patch_logits(patches, TextFeatures(text))
        labels = labels[:, ::2, ::2]  # at stride 2; the patches have stride 4
        logits = F.interpolate(
            logits.permute(0, 3, 1, 2), labels.shape[-2:], mode="bilinear", align_corners=False
        ).float()
        entropy = F.cross_entropy(logits, labels, weights, ignore_index=IGNORE, reduction="sum")
        # Not the weighted mean: a view of one common class must not weigh as much as a rich one.
        losses = {"pixels": entropy / (labels != IGNORE).sum().clamp(min=1)}
        if self.config.jaccard_weight:
            losses["jaccard"] = self.config.jaccard_weight * soft_jaccard_loss(logits, labels)
        return losses

    def _picture_loss(
        self, patches: Tensor, views: ImageBatch, draw: np.random.Generator
    ) -> Tensor:
        """Cross-entropy of each picture's mean patch."""
        tiles = views.classes.shape[1]
        means = F.adaptive_avg_pool2d(patches.permute(0, 3, 1, 2), tiles).permute(0, 2, 3, 1)
        text, classes = self._names(views.set_name, draw), views.classes.ravel()
        if self.config.kinds and draw.random() < self.config.kind_share:
            text, classes = self._by_kind(views.set_name, text, classes)
        logits = self.model.class_logits(
            F.normalize(means.flatten(0, 2), dim=-1), TextFeatures(text)
        )
        truth = torch.from_numpy(classes).to(self.device)
        return F.cross_entropy(logits[:, :-1].float(), truth, label_smoothing=0.1)

    def _by_kind(
        self, set_name: str, text: Tensor, classes: np.ndarray
    ) -> tuple[Tensor, np.ndarray]:
        """Names and classes with the members of a kind put together under its name."""
        rows = self.rows[set_name]
        alone = np.flatnonzero(rows < 0)
        table = np.where(rows < 0, 0, len(alone) + rows)
        table[alone] = np.arange(len(alone))
        kinds = [self.text[kind] for kind in self.config.kinds]
        return torch.stack([*text[torch.from_numpy(alone).to(text.device)], *kinds]), table[classes]

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """mIoU of each val split over its names (background is no name)."""
        assert isinstance(model, DeOP)
        return {name: self._mean_iou(model, data) for name, data in self.validation.items()}

    def _mean_iou(self, model: DeOP, data: PixelSet) -> float:
        text = TextFeatures(torch.stack([self.text[name] for name in data.names]))

        def predict(image: Tensor, size_hw: tuple[int, int]) -> Tensor:
            patches = model.patch_features(model.normalise(image))
            logits = model.patch_logits(patches, text).permute(0, 3, 1, 2)
            if not data.has_other:
                logits = logits[:, :-1]
            return F.interpolate(logits.float(), size_hw, mode="bilinear").argmax(1)[0]

        return mean_iou(data, self.config.evaluate_size, self.device, predict)


def soft_jaccard_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """One minus the intersection over union, of probabilities, averaged over the classes shown.

    logits: (B, K, H, W); labels: (B, H, W), IGNORE where a pixel does not count. The result is in
    0..1. Rahman and Wang, "Optimizing intersection-over-union in deep neural networks for image
    segmentation", ISVC 2016: cross-entropy alone gives up what is small or thin.
    """
    counted = labels != IGNORE
    shown = labels[counted].unique()
    if len(shown) == 0:
        return logits.sum() * 0
    probabilities = logits.softmax(1)[:, shown] * counted.unsqueeze(1)
    truth = (labels.unsqueeze(1) == shown.view(1, -1, 1, 1)).to(probabilities)
    both = (probabilities * truth).sum((0, 2, 3))
    either = (probabilities + truth).sum((0, 2, 3)) - both
    return 1 - (both / either).mean()


def _leave_out(
    text: Tensor, labels: Tensor, weights: Tensor, draw: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Drop a third of the names; their pixels become non-object, as with `--other`."""
    kept = np.flatnonzero(draw.random(len(text)) > 1 / 3)
    if len(kept) == 0:
        return text, labels, weights
    table = torch.full((IGNORE + 1,), len(kept))
    table[torch.from_numpy(kept)] = torch.arange(len(kept))
    table[IGNORE] = IGNORE
    rows = torch.from_numpy(kept).to(text.device)
    other = weights.median().clamp(max=1).view(1)
    return text[rows], table.to(labels.device)[labels], torch.cat([weights[rows], other])
