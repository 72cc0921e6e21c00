"""The names of data sets as a model knows them."""

from __future__ import annotations

import torch

from ovseg_cli.data.mixture import PixelMixture
from ovseg_cli.model.network import Network, TextFeatures


@torch.no_grad()
def name_features(model: Network, mixture: PixelMixture) -> dict[str, TextFeatures]:
    """Text features of each set's own names, one row a name, for stages in which they stay."""
    return {
        name: TextFeatures(model.text.encode(sampler.data.names))
        for name, sampler in mixture.samplers.items()
    }
