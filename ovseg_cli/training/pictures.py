"""The bundled model's stage before "dense": whole pictures point at the text feature of their name.

Small labelled pictures are many and cheap (the fine levels of the decoder are left out), and they
show far more kinds of things than the photos with a label per pixel. What those photos show can be
cut out of them and learnt in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.data.bounds import COUNT, SEED, SHARE, SIDE, require
from ovseg_cli.data.image_set import ImageSet, cut_out_set, read_image_set
from ovseg_cli.data.mixture import choose, shares_of
from ovseg_cli.data.pixel_set import named_set
from ovseg_cli.data.transforms import jitter_colour, random_box, to_tensor
from ovseg_cli.model.network import Network, TextFeatures
from ovseg_cli.training.engine import weight_decay_groups


@dataclass(frozen=True)
class PicturesConfig:
    """What the stage learns from."""

    image_sets: tuple[str, ...]  # folders; each has splits train and val
    cut_outs: dict[str, str] = field(default_factory=dict)  # folder -> split of labelled photos
    shares: dict[str, float] = field(default_factory=dict)  # how often a set is drawn, default 1
    least_cover: float = 0.02  # share of a photo that a class must cover to be cut out
    batch: int = 128
    sizes: tuple[int, ...] = (64,)  # sides of the views, pixels; each for an equal part of the run
    least_area: float = 0.25  # of a picture that a view shows
    cutmix_share: float = 0.5  # batches whose views have a part of another view
    label_smoothing: float = 0.1
    synonym_share: float = 0.3  # names in whose place any of their phrases is drawn, or themselves
    evaluate_batch: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.image_sets or not self.sizes or not 0 < self.least_area <= 1:
            raise ValueError("image_sets and sizes must not be empty, least_area lies in (0, 1]")
        if min(self.sizes) < SIDE[0]:
            raise ValueError(f"sizes are {SIDE[0]} pixels or more, not {list(self.sizes)}")
        require(self, batch=COUNT, evaluate_batch=COUNT, seed=SEED)
        shares = ("least_cover", "cutmix_share", "label_smoothing", "synonym_share")
        require(self, **dict.fromkeys(shares, SHARE))
        shares_of((*self.image_sets, *self.cut_outs), self.shares)


@dataclass(frozen=True, eq=False)
class PicturesBatch:
    """Pictures of one set, and the generator for what is done to them."""

    set_name: str
    images: np.ndarray  # (B, S, S, 3) uint8 RGB
    classes: np.ndarray  # (B,) int64
    size: int  # side of the views, pixels
    draw: np.random.Generator


class PicturesStage:
    """See the module's text."""

    def __init__(
        self, model: Network, config: PicturesConfig, data: Path, steps: int, device: torch.device
    ) -> None:
        self.model = model
        self.config = config
        self.steps = steps
        self.device = device
        model.requires_grad_(False)
        for module in model.image_encoder():
            module.requires_grad_(True)
        self.sets = {name: read_image_set(data / name, "train") for name in config.image_sets}
        self.validation = {name: read_image_set(data / name, "val") for name in config.image_sets}
        side, least = max(config.sizes), config.least_cover
        for name, split in config.cut_outs.items():
            for sets, part in ((self.validation, "val"), (self.sets, split)):
                sets[name] = cut_out_set(named_set(data, name, part), side, least)
        self._shares = shares_of(self.sets, config.shares)
        with torch.no_grad():  # the text tower is frozen
            self.text = {
                name: [model.text.encode(list(phrases)).to(device) for phrases in pictures.names]
                for name, pictures in self.sets.items()
            }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices only."""
        return weight_decay_groups(self.model.parameters())

    def batch(self, step: int) -> PicturesBatch:
        """Drawn from a generator seeded by the step alone."""
        draw = np.random.default_rng((self.config.seed, step))
        name = choose(self._shares, draw)
        pictures = self.sets[name]
        chosen = draw.integers(len(pictures.images), size=self.config.batch)
        sizes = self.config.sizes
        size = sizes[min(len(sizes) - 1, step * len(sizes) // self.steps)]
        return PicturesBatch(name, pictures.images[chosen], pictures.classes[chosen], size, draw)

    def losses(self, batch: PicturesBatch) -> dict[str, Tensor]:
        """Cross-entropy over the names of the batch's set."""
        self.model.train()
        config, draw = self.config, batch.draw
        images = to_tensor(batch.images, self.device)
        images = jitter_colour(random_views(images, batch.size, config.least_area, draw), draw)
        classes = torch.from_numpy(batch.classes).to(self.device)
        kept = 1.0
        if draw.random() < config.cutmix_share:
            images, kept = cutmix(images, draw)
        logits = self._logits(self.model, images, self._names(batch.set_name, draw)).float()

        def cross_entropy(truth: Tensor) -> Tensor:
            return F.cross_entropy(logits, truth, label_smoothing=config.label_smoothing)

        own, other = cross_entropy(classes), cross_entropy(classes.flip(0))
        return {"pictures": kept * own + (1 - kept) * other}

    def _names(self, set_name: str, draw: np.random.Generator) -> Tensor:
        """Text features (K, C) of the set's names, a share of them by any of their phrases.

        The name itself is one of the phrases: fewer names than that share go by a synonym.
        """
        redrawn = draw.random(len(self.text[set_name])) < self.config.synonym_share
        rows = zip(self.text[set_name], redrawn, strict=True)
        return torch.stack([row[draw.integers(len(row)) if again else 0] for row, again in rows])

    def _logits(self, model: Network, images: Tensor, names: Tensor) -> Tensor:
        features = model.image_features(model.normalise(images))
        return model.class_logits(F.normalize(features, dim=-1), TextFeatures(names))[:, :-1]

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Share of the val pictures whose class is right, each class by its first name."""
        assert isinstance(model, Network)
        return {name: self._accuracy(model, name, data) for name, data in self.validation.items()}

    def _accuracy(self, model: Network, name: str, data: ImageSet) -> float:
        names = torch.stack([row[0] for row in self.text[name]])
        right = 0
        for start in range(0, len(data.images), self.config.evaluate_batch):
            part = slice(start, start + self.config.evaluate_batch)
            images = to_tensor(data.images[part], self.device)
            size = self.config.sizes[-1]
            images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
            found = self._logits(model, images, names).argmax(-1).cpu().numpy()
            right += int((found == data.classes[part]).sum())
        return right / len(data.images)


def random_views(images: Tensor, size: int, least_area: float, draw: np.random.Generator) -> Tensor:
    """A part of each picture, of random place, size and aspect, every second one mirrored.

    images: (B, 3, S, S); the result: (B, 3, size, size).
    """
    count = len(images)
    area = draw.uniform(least_area, 1, count)
    aspect = np.exp(draw.uniform(-np.log(4 / 3), np.log(4 / 3), count) / 2)
    edges = np.stack([np.sqrt(area) * aspect, np.sqrt(area) / aspect], 1).clip(max=1)  # x, y
    centres = draw.uniform(-1, 1, (count, 2)) * (1 - edges)
    theta = np.zeros((count, 2, 3), np.float32)  # output to input, both in -1..1
    theta[:, 0, 0] = edges[:, 0] * draw.choice([-1, 1], count)
    theta[:, 1, 1] = edges[:, 1]
    theta[:, :, 2] = centres
    grid = F.affine_grid(
        torch.from_numpy(theta).to(images.device), [count, 3, size, size], align_corners=False
    )
    views = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return views.contiguous(memory_format=torch.channels_last)


def cutmix(images: Tensor, draw: np.random.Generator) -> tuple[Tensor, float]:
    """CutMix: picture i gets a box of picture B-1-i, all of them the same one.

    Returns the pictures (B, 3, S, S) and the share of each that is its own.
    """
    rows, columns, share = random_box(images.shape[-1], draw)
    mixed = images.clone()
    mixed[:, :, rows, columns] = images.flip(0)[:, :, rows, columns]
    return mixed, 1 - share
