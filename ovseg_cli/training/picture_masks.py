"""Self-training: where in a picture is the thing that it is named after?

A model that has learnt from labelled photos is asked about one name at a time. How sure it is of
itself says little (it saw few photos of most things), where in the picture it is surest says much:
so its scores count relative to the picture's own (`ovseg_cli.data.marking`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg_cli.data.bounds import COUNT, SHARE, require
from ovseg_cli.data.image_set import ImageSet
from ovseg_cli.data.marking import mark
from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.data.transforms import to_tensor
from ovseg_cli.errors import UsageError
from ovseg_cli.model.network import Network, TextFeatures
from ovseg_cli.training.kept import Kept

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PictureMasksConfig:
    """How a model looks at pictures to mark what they are named after."""

    sizes: tuple[int, ...] = (80, 112)  # sides at which it sees each, pixels; and in a mirror
    # Shares of a picture. A cut that covers less or more is not trusted to hold all of the thing:
    # what it leaves out becomes IGNORE, not NOT_THERE.
    least_cover: float = 0.03
    most_cover: float = 0.9
    # Classes that other vocabularies list as the same as a name because they are part of what it
    # means (sunglasses: a person), not of its kind (dogs: poodles).
    parts: tuple[str, ...] = ()
    batch: int = 100

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 32:
            raise ValueError(f"sizes are 32 pixels or more, at least one, not {self.sizes}")
        require(self, least_cover=SHARE, most_cover=SHARE, batch=COUNT)


def stored_masks(
    model: Network,
    pictures: ImageSet,
    words: Sequence[Sequence[str]],
    config: PictureMasksConfig,
    file: Kept,
    device: torch.device,
) -> np.ndarray:
    """`picture_masks`, read from `file` where the same run has left them there.

    Raises UsageError where the file holds something else, OutputError where it cannot be written.
    """
    stored = _read(file, pictures.images.shape[:3])
    if stored is not None:
        return stored
    masks = picture_masks(model, pictures, words, config, device)
    file.write(masks=masks)
    return masks


def _read(file: Kept, shape: tuple[int, ...]) -> np.ndarray | None:
    stored = file.read("masks")
    if stored is None:
        return None
    (masks,) = stored
    if masks.shape != shape or masks.dtype != np.uint8:
        raise UsageError(
            f"{file.path} holds masks of other pictures ({masks.shape}, not {shape}): name another "
            "--out"
        )
    return masks


@torch.no_grad()
def picture_masks(
    model: Network,
    pictures: ImageSet,
    words: Sequence[Sequence[str]],
    config: PictureMasksConfig,
    device: torch.device,
) -> np.ndarray:
    """Masks (n, S, S) uint8 of n pictures, as `mark` gives them.

    words: of each class, what its pictures may be called: names, and kinds that it is of.
    """
    masks = np.full(pictures.images.shape[:3], IGNORE, np.uint8)
    log.info("marking what %d pictures are named after, once", len(masks))
    training = model.training
    model.eval()
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # OpenCV leaves Python's lock
        for number, phrases in enumerate(words):
            text = TextFeatures(model.text.encode(list(phrases)).to(device))
            shown = np.flatnonzero(pictures.classes == number)
            for start in range(0, len(shown), config.batch):
                rows = shown[start : start + config.batch]
                images = pictures.images[rows]
                scores = _scores(model, to_tensor(images, device), text, config.sizes)
                cover = config.least_cover, config.most_cover
                found = pool.map(mark, images, scores.cpu().numpy(), repeat(cover))
                masks[rows] = np.stack(list(found))
            log.debug("%s: marked in %d pictures", phrases[0], len(shown))
    model.train(training)
    return masks


def _scores(model: Network, images: Tensor, text: TextFeatures, sizes: Sequence[int]) -> Tensor:
    """Logit of the best phrase less that of non-object, mean over the looks: (B, S, S)."""
    side = images.shape[-2:]
    total = images.new_zeros(len(images), *side)
    for size in sizes:
        seen = model.normalise(F.interpolate(images, (size, size), mode="bilinear"))
        for mirrored in (False, True):
            patches = model.patch_features(seen.flip(-1) if mirrored else seen)
            logits = model.patch_logits(patches, text).float()
            surer = logits[..., :-1].amax(-1) - logits[..., -1]
            surer = surer.flip(-1) if mirrored else surer
            total += F.interpolate(surer[:, None], side, mode="bilinear")[:, 0]
    return total / (2 * len(sizes))
