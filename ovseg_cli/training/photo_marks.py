"""Self-training: what is it in a photo that its set has no name for?

Much of VOC's background is grass, sky or road, which other sets taught the model. Where it is sure
of one of these it may take its own word for it, and where it is sure of none, for that.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg_cli.data.bounds import SHARE, SOME_WEIGHT, require
from ovseg_cli.data.pixel_sampler import PixelSampler
from ovseg_cli.data.pixel_set import IGNORE, PixelSet
from ovseg_cli.data.transforms import resize_photo
from ovseg_cli.errors import UsageError
from ovseg_cli.model.network import Network, TextFeatures
from ovseg_cli.training.kept import Kept

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PhotoMarksConfig:
    """What a model marks in photos, and how it looks at them."""

    sets: tuple[str, ...]  # folders; their labels know pixels that are none of their names
    names: tuple[str, ...]  # what is marked
    rivals: tuple[str, ...] = ()  # asked for beside them; what is called so is left unsure
    sizes: tuple[int, ...] = (192, 256)  # shorter sides at which it sees a photo; and in a mirror
    other_factor: float = 1.0  # of non-object's weight, where the set's photos taught it too much
    sure: float = 0.6  # least probability of a name, or of none of all

    def __post_init__(self) -> None:
        if not self.sets or not self.names:
            raise ValueError("sets and names: at least one of each is needed")
        if not self.sizes or min(self.sizes) < 32:
            raise ValueError(f"sizes are 32 pixels or more, at least one, not {self.sizes}")
        require(self, sure=SHARE, other_factor=SOME_WEIGHT)

    def check(self, data: PixelSet) -> None:
        """Raise UsageError for a set in which nothing can be marked under these names."""
        if not data.has_other:
            raise UsageError(f"photo_marks: {data.name} has no pixels that are none of its names")
        known = [name for name in (*self.names, *self.rivals) if name in data.names]
        if known:
            raise UsageError(f"photo_marks: {known[0]!r} is a name of {data.name}")
        if data.other + len(self.names) + 1 >= IGNORE:
            count = len(self.names)
            raise UsageError(f"photo_marks: {data.name} has too many names to mark {count} more")


def stored_marks(
    model: Network, photos: PixelSampler, config: PhotoMarksConfig, file: Kept, device: torch.device
) -> list[np.ndarray]:
    """`photo_marks`, read from `file` where the same run has left them there.

    Raises UsageError where the file cannot be read, OutputError where it cannot be written.
    """
    places = [str(index) for index in range(len(photos.data.keys))]
    stored = file.read(*places)
    if stored is None:
        log.info("marking what %d photos of %s show beside its names", len(places), photos.name)
        stored = list(photo_marks(model, photos, config, device))
        file.write(**dict(zip(places, stored, strict=True)))
    return stored


@torch.no_grad()
def photo_marks(
    model: Network, photos: PixelSampler, config: PhotoMarksConfig, device: torch.device
) -> Iterator[np.ndarray]:
    """Labels (H, W) uint8 of each photo, as `PixelSampler.mark` wants them."""
    other, count = photos.data.other, len(config.names)
    asked = [*config.names, *config.rivals, *photos.names]
    text = TextFeatures(model.text.encode(asked).to(device))
    # Of each name asked for, and of none of them, the label: marked, unsure or still none.
    told = np.full(len(asked) + 1, other + 1 + count, np.uint8)
    told[:count] = other + 1 + np.arange(count)
    told[-1] = other
    training = model.training
    model.eval()
    for index in range(len(photos.data.keys)):
        image, labels = photos.photo(index)
        chances = _probabilities(model, image, text, config, device)
        surest, best = (found.cpu().numpy() for found in chances.max(0))
        marks = np.where(surest >= config.sure, told[best], other + 1 + count)
        yield np.where(labels == other, marks, labels).astype(np.uint8)
    model.train(training)


def _probabilities(
    model: Network,
    image: np.ndarray,
    text: TextFeatures,
    config: PhotoMarksConfig,
    device: torch.device,
) -> Tensor:
    """Of K names and of none (K+1, H, W) in 0..1, mean over the looks."""
    total = torch.zeros((), device=device)
    weight = config.other_factor * model.config.other_weight(text.classes)
    for size in config.sizes:
        longest = model.config.input.longest(size)
        seen = model.normalise(resize_photo(image, size, device, longest))
        for mirrored in (False, True):
            logits = model.patch_logits(
                model.patch_features(seen.flip(-1) if mirrored else seen), text
            ).float()
            logits[..., -1] += math.log(weight)
            chances = logits.softmax(-1).permute(0, 3, 1, 2)
            chances = chances.flip(-1) if mirrored else chances
            total = total + F.interpolate(chances, image.shape[:2], mode="bilinear")[0]
    return total / (2 * len(config.sizes))
