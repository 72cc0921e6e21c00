"""The bundled model's main stage: every patch learns to point at the text feature of its name.

DeOP's own order (proposals first, then heatmaps on a pretrained CLIP) has no CLIP to start from
here. So the patch features come first: cross-entropy and soft Jaccard loss over the names of the
photo's own data set and the non-object embedding, pixel by pixel. Beside photos there are mosaics
of pictures that have one name as a whole: they widen the vocabulary. Where in such a picture its
thing is, the model may mark itself before the stage begins.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.data.batches import ImageBatch, PixelBatch, ViewStyle
from ovseg_cli.data.bounds import COUNT, SEED, SHARE, SIDE, WEIGHT, require, require_scales
from ovseg_cli.data.image_sampler import ImageSampler, check_markable
from ovseg_cli.data.image_set import ImageSet, read_image_set
from ovseg_cli.data.mixture import choose, shares_of
from ovseg_cli.data.pixel_sampler import PixelSampler, class_weights
from ovseg_cli.data.pixel_set import IGNORE, named_set
from ovseg_cli.data.transforms import jitter_colour, lose_colour, to_tensor
from ovseg_cli.errors import UsageError
from ovseg_cli.model.config import OtherWeight
from ovseg_cli.model.network import Network, TextFeatures
from ovseg_cli.model.san import SAN
from ovseg_cli.training.criterion import soft_jaccard_loss
from ovseg_cli.training.engine import weight_decay_groups
from ovseg_cli.training.group_names import GroupNames, NamesConfig
from ovseg_cli.training.kept import Kept
from ovseg_cli.training.other_names import kinds_of
from ovseg_cli.training.photo_marks import PhotoMarksConfig, stored_marks
from ovseg_cli.training.picture_masks import PictureMasksConfig, stored_masks
from ovseg_cli.training.true_masks import Encoded, look, mask_loss
from ovseg_cli.training.validation import region_ious, val_sets

GROUPS = 4  # data sets in one step: batch norm must not learn to tell them apart


@dataclass(frozen=True)
class Phase:
    """A part of the run with views of one size."""

    until: float  # share of all steps at which it ends; 1 of the last
    size: int  # side of a view, pixels
    batch: int  # views a step, a multiple of GROUPS
    sets: dict[str, float]  # how often a group comes from each set
    scales: tuple[float, float] = (0.5, 2.0)  # enlargement of a photo, smallest and largest

    def __post_init__(self) -> None:
        if self.batch < GROUPS or self.batch % GROUPS:
            raise ValueError(f"batch is a multiple of {GROUPS}, not {self.batch}")
        require(self, size=SIDE, until=SHARE)
        require_scales("scales", self.scales)
        shares_of(self.sets, self.sets)


@dataclass(frozen=True, kw_only=True)
class DenseConfig(NamesConfig):
    """What the stage learns from."""

    phases: tuple[Phase, ...]
    pixel_sets: dict[str, str]  # folder -> split to train on
    image_sets: dict[str, str] = field(default_factory=dict)
    focus_share: float = 0.5  # views that aim at a class drawn evenly
    paste_share: float = 0.0  # views into which a thing of another photo, of any set, is pasted
    grey_share: float = 0.0  # views that are black and white
    mix_shares: dict[str, float] = field(default_factory=dict)  # a set's views that are mixed
    weight_power: float = 0.4  # of the class weights; 0 = none
    weight_powers: dict[str, float] = field(default_factory=dict)  # of sets that have another
    jaccard_weight: float = 0.0  # of the soft Jaccard loss beside the cross-entropy
    mask_weight: float = 0.0  # of naming true masks through the class token; for a SAN
    picture_scales: tuple[float, float] = (1.0, 1.0)  # enlargement in mosaics, drawn; at least
    picture_masks: PictureMasksConfig | None = None  # how the model marks things in pictures
    photo_marks: tuple[PhotoMarksConfig, ...] = ()  # what it marks in photos beside their names
    guest_share: float = 0.0  # groups of photos into which guests are pasted, under their own names
    guests: tuple[str, ...] = ()  # classes marked in pictures that no name of the photos means
    # What non-object weighs in the losses of pixels, so that one feature serves few and many names.
    other_weight: OtherWeight = field(default_factory=OtherWeight)
    evaluate_size: int = 320  # shorter side of val photos
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.phases:
            raise ValueError("phases: at least one is needed")
        if self.phases[-1].until < 1:
            raise ValueError(f"phases: the last one ends at {self.phases[-1].until}, not at 1.0")
        known = {*self.pixel_sets, *self.image_sets}
        unknown = {name for phase in self.phases for name in phase.sets} - known
        if unknown:
            raise ValueError(f"phases name sets that are not listed: {', '.join(sorted(unknown))}")
        for key in ("weight_powers", "mix_shares"):
            strangers = sorted(set(getattr(self, key)) - set(self.pixel_sets))
            if strangers:
                raise ValueError(f"{key}: {strangers[0]} is not among the pixel_sets")
        require(self, focus_share=SHARE, paste_share=SHARE, grey_share=SHARE, guest_share=SHARE)
        require(self, seed=SEED)
        require(self, jaccard_weight=WEIGHT, mask_weight=WEIGHT, evaluate_size=COUNT)
        require(self, mix_shares=SHARE, weight_power=WEIGHT, weight_powers=WEIGHT)
        require_scales("picture_scales", self.picture_scales)


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
        self.photos = {
            name: PixelSampler(named_set(data, name, split))
            for name, split in config.pixel_sets.items()
        }
        with_parts = kinds_of(config.other_names)  # a photo's clothes together show a person
        for taker, giver in itertools.permutations(self.photos.values(), 2):
            taker.borrow(giver, with_parts)
        images = {
            name: read_image_set(data / name, split) for name, split in config.image_sets.items()
        }
        marked = _marked(config, self.photos)
        powers = {name: config.weight_power for name in self.photos} | config.weight_powers
        self.names = GroupNames(
            model,
            config,
            {name: (s.data.names, _weights(s, powers[name])) for name, s in self.photos.items()},
            {name: pictures.names for name, pictures in images.items()},
            device,
            {name: marks.names for name, marks in marked.items()},
        )
        # Last, for it may take minutes: what is wrong with a recipe is said before.
        parts = config.picture_masks.parts if config.picture_masks else ()
        kinds = kinds_of(config.other_names, parts)
        if config.picture_masks is not None:
            for name, pictures in images.items():
                check_markable(name, pictures)
        _check_guests(config, images)
        self.pictures = {
            name: self._image_sampler(
                name, pictures, kinds, Kept(out / f"{name}-masks.npz", origin)
            )
            for name, pictures in images.items()
        }
        for name, marks in marked.items():
            photos, file = self.photos[name], Kept(out / f"{name}-marks.npz", origin)
            photos.mark(stored_marks(model, photos, marks, file, device), len(marks.names))
        for sampler in self.pictures.values():
            guests = [i for i, name in enumerate(sampler.names) if name in config.guests]
            for taker in self.photos.values():
                taker.borrow(sampler, kinds)
                taker.invite(sampler, guests)

    def _image_sampler(
        self, name: str, pictures: ImageSet, kinds: Mapping[str, Collection[str]], file: Kept
    ) -> ImageSampler:
        if self.config.picture_masks is None:
            return ImageSampler(name, pictures)
        words = [
            [*names, *sorted(kind for kind, same in kinds.items() if names[0] in same)]
            for names in pictures.names
        ]
        masks = stored_masks(
            self.model, pictures, words, self.config.picture_masks, file, self.device
        )
        return ImageSampler(name, pictures, masks)

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


def _marked(config: DenseConfig, photos: Mapping[str, PixelSampler]) -> dict[str, PhotoMarksConfig]:
    """What is marked in which sets; raises UsageError where that cannot be."""
    marked: dict[str, PhotoMarksConfig] = {}
    for marks in config.photo_marks:
        for name in marks.sets:
            if name not in photos:
                raise UsageError(f"photo_marks: {name} is not among the pixel_sets")
            if name in marked:
                raise UsageError(f"photo_marks: {name} is listed twice")
            marks.check(photos[name].data)
            marked[name] = marks
    return marked


def _check_guests(config: DenseConfig, images: Mapping[str, ImageSet]) -> None:
    """Raise UsageError for guests that the pictures do not have, or that nothing marks in them."""
    known = {row[0] for pictures in images.values() for row in pictures.names}
    unknown = sorted(set(config.guests) - known)
    if unknown:
        raise UsageError(f"guests: no picture is named {unknown[0]!r}")
    if (config.guest_share or config.guests) and config.picture_masks is None:
        raise UsageError("guests are marked in pictures: picture_masks is missing")
    if config.guest_share and not config.guests:
        raise UsageError("guest_share needs guests")


def _weights(sampler: PixelSampler, power: float) -> Tensor:
    return torch.from_numpy(class_weights(sampler.pixels, power))
