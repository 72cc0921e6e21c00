"""Mosaics of pictures that have one name each."""

from __future__ import annotations

import numpy as np

from ovseg_cli.data.batches import ImageBatch, PixelBatch
from ovseg_cli.data.image_set import ImageSet
from ovseg_cli.data.marking import NOT_THERE, THERE
from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.data.transforms import GREY, random_crop
from ovseg_cli.errors import UsageError


def check_classes(name: str, data: ImageSet) -> None:
    """Raise UsageError for more classes than labels of 8 bits have room for beside others."""
    if len(data.names) >= IGNORE:
        raise UsageError(
            f"{name}: {len(data.names)} classes are too many for stage dense, which has room for "
            f"{IGNORE - 1}: leave some out; stage pictures takes any number"
        )


class ImageSampler:
    """Mosaics of an image-level set's pictures, each cropped and flipped at random."""

    def __init__(self, name: str, data: ImageSet, masks: np.ndarray | None = None) -> None:
        """masks: (n, S, S) uint8, where in each picture is what it is named after.

        THERE, NOT_THERE or IGNORE; None = it is not known where. Raises UsageError as
        `check_classes` does.
        """
        check_classes(name, data)
        self.name = name
        self.data = data
        self.masks = masks
        self.names = tuple(row[0] for row in data.names)
        # Only things that are told from what is around them can be pasted elsewhere.
        clear = np.zeros(len(data.classes), bool)
        if masks is not None:
            clear = (masks == THERE).any((1, 2)) & (masks == NOT_THERE).any((1, 2))
        self.showing = [
            np.flatnonzero(clear & (data.classes == label)) for label in range(len(self.names))
        ]

    def photo(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A picture and its labels: its class, K where that is not, IGNORE where it is unsure."""
        image = self.data.images[index]
        if self.masks is None:
            return image, np.full(image.shape[:2], IGNORE, np.uint8)
        table = np.full(IGNORE + 1, IGNORE, np.uint8)
        table[[NOT_THERE, THERE]] = len(self.names), self.data.classes[index]
        return image, table[self.masks[index]]

    def draw(
        self, count: int, size: int, draw: np.random.Generator, enlarged: float = 1.0
    ) -> ImageBatch | PixelBatch:
        """count mosaics of size×size, of as many pictures as fit, `enlarged` at least.

        They have a label per pixel where there are masks.
        """
        side = self.data.images.shape[1]
        tiles = max(1, int(size / (side * enlarged)))
        edge = size // tiles
        least = edge / side
        chosen = draw.integers(len(self.data.images), size=(count, tiles, tiles))
        mosaics = np.full((count, size, size, 3), GREY, np.uint8)
        labels = np.full((count, size, size), IGNORE, np.uint8)
        for (b, row, column), index in np.ndenumerate(chosen):
            rows, columns = (slice(i * edge, (i + 1) * edge) for i in (row, column))
            mosaics[b, rows, columns], labels[b, rows, columns] = random_crop(
                *self.photo(index), edge, (least, 1.8 * least), draw
            )
        if self.masks is None:
            return ImageBatch(self.name, mosaics, self.data.classes[chosen])
        return PixelBatch(self.name, mosaics, labels)
