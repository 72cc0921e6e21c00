"""What stage "dense" learns from: photos, pictures, and what the model marks in both of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ovseg_cli.data.image_sampler import ImageSampler, check_classes
from ovseg_cli.data.image_set import ImageSet, read_image_set
from ovseg_cli.data.pixel_sampler import PixelSampler, class_weights
from ovseg_cli.data.pixel_set import named_set
from ovseg_cli.errors import UsageError
from ovseg_cli.model.network import Network
from ovseg_cli.training.dense_config import DenseConfig
from ovseg_cli.training.group_names import GroupNames
from ovseg_cli.training.kept import Kept
from ovseg_cli.training.other_names import kinds_of
from ovseg_cli.training.photo_marks import PhotoMarksConfig, stored_marks
from ovseg_cli.training.picture_masks import stored_masks


class DenseData:
    """The sets of a recipe, as they are read; `mark` makes of them what views are drawn from."""

    def __init__(self, config: DenseConfig, data: Path) -> None:
        """Raises UsageError for a set that is not in `data`, and what a recipe asks of none."""
        self.config = config
        self.photos = {
            name: PixelSampler(named_set(data, name, split))
            for name, split in config.pixel_sets.items()
        }
        with_parts = kinds_of(config.other_names)  # a photo's clothes together show a person
        for taker, giver in itertools.permutations(self.photos.values(), 2):
            taker.borrow(giver, with_parts)
        self.images = {
            name: read_image_set(data / name, split) for name, split in config.image_sets.items()
        }
        self.marks = _marked(config, self.photos)
        for name, pictures in self.images.items():
            check_classes(name, pictures)
        _check_guests(config, self.images)

    def names(self, model: Network, device: torch.device) -> GroupNames:
        """The names that groups of views are asked about."""
        powers = dict.fromkeys(self.photos, self.config.weight_power) | self.config.weight_powers
        return GroupNames(
            model,
            self.config,
            {
                name: (sampler.data.names, _weights(sampler, powers[name]))
                for name, sampler in self.photos.items()
            },
            {name: pictures.names for name, pictures in self.images.items()},
            device,
            {name: marks.names for name, marks in self.marks.items()},
        )

    def mark(
        self, model: Network, out: Path, origin: str, device: torch.device
    ) -> dict[str, ImageSampler]:
        """Let the model mark things in pictures and photos, which may take minutes.

        out, origin: where that is kept for a run that goes on, and what tells it from what other
        runs marked, see `Kept`. The photos know of it afterwards; returns what draws pictures.
        """
        masks = self.config.picture_masks
        kinds = kinds_of(self.config.other_names, masks.parts if masks else ())
        drawn = {}
        for name, pictures in self.images.items():
            found = None
            if masks is not None:
                words = [
                    [*names, *sorted(kind for kind, same in kinds.items() if names[0] in same)]
                    for names in pictures.names
                ]
                file = Kept(out / f"{name}-masks.npz", origin)
                found = stored_masks(model, pictures, words, masks, file, device)
            drawn[name] = ImageSampler(name, pictures, found)
        for name, marks in self.marks.items():
            photos, file = self.photos[name], Kept(out / f"{name}-marks.npz", origin)
            photos.mark(stored_marks(model, photos, marks, file, device), len(marks.names))
        for sampler in drawn.values():
            guests = [i for i, name in enumerate(sampler.names) if name in self.config.guests]
            for taker in self.photos.values():
                taker.borrow(sampler, kinds)
                taker.invite(sampler, guests)
        return drawn


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
