"""Batches drawn from several data sets; one batch comes from one set, so it has one vocabulary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ovseg_cli.data.batches import PixelBatch, ViewStyle
from ovseg_cli.data.bounds import COUNT, SEED, SHARE, SIDE, require, require_scales
from ovseg_cli.data.pixel_sampler import PixelSampler
from ovseg_cli.data.pixel_set import named_set
from ovseg_cli.data.transforms import distort_colour


def shares_of(sets: Iterable[str], shares: Mapping[str, float]) -> dict[str, float]:
    """How often each of the sets is drawn, beside the others; 1 where nothing is said.

    Raises ValueError for what cannot be drawn by.
    """
    found = {name: shares.get(name, 1.0) for name in sets}
    if not found:
        raise ValueError("sets names none: at least one is needed")
    unknown = sorted(set(shares) - set(found))
    if unknown:
        known = ", ".join(sorted(found))
        raise ValueError(f"shares name {', '.join(unknown)}, which is none of the sets ({known})")
    wrong = [name for name, share in found.items() if not 0 <= share < math.inf]
    if wrong:
        raise ValueError(f"shares: that of {wrong[0]} is {found[wrong[0]]}, not a number from 0")
    if not 0 < sum(found.values()) < math.inf:
        raise ValueError(f"shares add up to {sum(found.values())}: no set can be drawn by them")
    return found


def choose(shares: dict[str, float], draw: np.random.Generator) -> str:
    """A name drawn by its share, whatever the shares add up to."""
    names = sorted(shares)
    values = np.array([shares[name] for name in names])
    return str(draw.choice(names, p=values / values.sum()))


@dataclass(frozen=True)
class ViewConfig:
    """Which views of which photos a step sees."""

    sets: dict[str, str]  # folder -> split to train on
    size: int  # side of a view, pixels
    batch: int  # views a step, all from one set
    scales: tuple[float, float] = (0.5, 2.0)  # enlargement of a photo, smallest and largest
    shares: dict[str, float] = field(default_factory=dict)  # how often a set is drawn, default 1
    focus_share: float = 0.0  # views that aim at a class drawn evenly
    seed: int = 0

    def __post_init__(self) -> None:
        shares_of(self.sets, self.shares)
        require(self, size=SIDE, batch=COUNT, focus_share=SHARE, seed=SEED)
        require_scales("scales", self.scales)


class PixelMixture:
    """Views of several sets by turns, with colours distorted."""

    def __init__(self, config: ViewConfig, data: Path) -> None:
        self.config = config
        self.samplers = {
            name: PixelSampler(named_set(data, name, split))
            for name, split in sorted(config.sets.items())
        }
        self._shares = shares_of(self.samplers, config.shares)

    def batch(self, step: int) -> PixelBatch:
        """The views of a step, drawn from a generator seeded by it alone."""
        config = self.config
        draw = np.random.default_rng((config.seed, step))
        name = choose(self._shares, draw)
        style = ViewStyle(config.size, config.scales, config.focus_share)
        views = self.samplers[name].draw(config.batch, style, draw)
        images = np.stack([distort_colour(image, draw) for image in views.images])
        return PixelBatch(name, images, views.labels)
