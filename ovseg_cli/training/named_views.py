"""Labelled photos for the stages in which names stay as the model knew them at the start."""

from __future__ import annotations

from pathlib import Path

import torch

from ovseg_cli.data.mixture import PixelMixture, ViewConfig
from ovseg_cli.model.network import Network, TextFeatures
from ovseg_cli.training.validation import region_ious, val_sets


class NamedViews:
    """Views to learn from, the same sets' val splits, and text features of each set's own names."""

    def __init__(self, model: Network, config: ViewConfig, data: Path) -> None:
        """Raises UsageError as `val_sets` and `PixelMixture` do."""
        self.validation = val_sets(data, config.sets)
        self.mixture = PixelMixture(config, data)
        with torch.no_grad():
            self.text = {
                name: TextFeatures(model.text.encode(sampler.names))
                for name, sampler in self.mixture.samplers.items()
            }

    def ious(self, model: Network, shorter: int, device: torch.device) -> dict[str, float]:
        """mIoU of each val split over its names, with the model's proposals as regions.

        shorter: side of the photos as the model sees them, pixels.
        """
        return region_ious(model, self.validation, self.text, shorter, device, "queries")
