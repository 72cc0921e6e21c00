"""Batches drawn from several data sets; one batch comes from one set, so it has one vocabulary."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ovseg_cli.data.bounds import COUNT, SEED, SHARE, SIDE, require, require_scales
from ovseg_cli.data.image_set import ImageSet
from ovseg_cli.data.marking import NOT_THERE, THERE
from ovseg_cli.data.pixel_set import IGNORE, PixelSet, named_set, unknown_ids
from ovseg_cli.data.transforms import GREY, distort_colour, random_box, random_crop
from ovseg_cli.errors import UsageError

log = logging.getLogger(__name__)

LARGEST_PASTED = 0.1  # share of all pixels up to which a class is pasted into other photos
MEMORY = 8 << 30  # bytes of photos that a sampler keeps; others are read again when drawn


@dataclass(frozen=True)
class ViewStyle:
    """How views are made of a set's photos. Shares are those of all views."""

    size: int  # side of a view, pixels
    scales: tuple[float, float] = (0.5, 2.0)  # enlargement of a photo, smallest and largest
    focus_share: float = 0.0  # views that aim at a class drawn evenly
    # Views into which go all pixels of one class of another view, drawn evenly among the rarer
    # ones: "simple copy-paste", Ghiasi et al., CVPR 2021, arXiv 2012.07177.
    paste_share: float = 0.0
    mix_share: float = 0.0  # views that take a box with its labels from the view before: CutMix
    guests: bool = False  # each view has a thing pasted in that none of the set's names means


@dataclass(frozen=True)
class Guest:
    """A class of another set, things of which are in views of this one."""

    set_name: str
    label: int  # in that set


@dataclass(frozen=True, eq=False)
class PixelBatch:
    """Views of photos of one set with a label per pixel."""

    set_name: str
    images: np.ndarray  # (B, S, S, 3) uint8 RGB
    labels: np.ndarray  # (B, S, S) uint8: training id, K for none of the names, or IGNORE
    guests: tuple[Guest, ...] = ()  # what the labels K+1, K+2, ... stand for


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Mosaics of small pictures with one class each."""

    set_name: str
    images: np.ndarray  # (B, S, S, 3) uint8 RGB
    classes: np.ndarray  # (B, t, t) int64: mosaic b has t rows of t pictures


class Donor(Protocol):
    """Pictures that show what may be pasted into others."""

    @property
    def name(self) -> str:
        """Of the set."""

    @property
    def names(self) -> Sequence[str]:
        """Of the classes, by label."""

    @property
    def showing(self) -> Sequence[np.ndarray]:
        """Of each label, which pictures show it."""

    def photo(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A picture (H, W, 3) uint8 RGB and its labels (H, W) uint8."""


class Thing(NamedTuple):
    """What one picture shows of a class, or of all that is part of one thing."""

    donor: Donor
    photo: int
    labels: tuple[int, ...]  # the donor's


class PixelSampler:
    """Views of one set, rare classes as often as common ones in part of them."""

    def __init__(self, data: PixelSet, memory: int = MEMORY) -> None:
        """Raises UsageError where no pixel of any photo counts."""
        self.data = data
        self.name = data.name
        self.names = data.names
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        rows = []
        strangers: set[int] = set()
        for index, key in enumerate(data.keys):
            image, stored = data.load_stored(key)
            labels = data.labels_of(stored)
            strangers |= data.strangers(stored)
            rows.append(np.bincount(labels.ravel(), minlength=256)[: data.other + 1])
            memory -= image.nbytes + labels.nbytes
            if memory >= 0:
                self._kept[index] = image, labels
        counts = np.stack(rows)  # (photos, K+1)
        self.pixels = counts.sum(0)
        warning = unknown_ids(data.name, int(self.pixels.sum()), strangers)
        if warning:
            log.warning("%s", warning)
        self.showing = [np.flatnonzero(counts[:, label] > 50) for label in range(data.other)]
        self.focusable = [label for label, photos in enumerate(self.showing) if len(photos)]
        self.focus_weights = _drawing_shares([len(self.showing[label]) for label in self.focusable])
        # What covers much of the photos is where things stand, and looks odd anywhere else.
        share = self.pixels[: data.other] / max(1, self.pixels.sum())
        self.pastable = [label for label in self.focusable if share[label] < LARGEST_PASTED]
        self._things = {
            label: [Thing(self, int(photo), (label,)) for photo in self.showing[label]]
            for label in self.pastable
        }
        self._guests: list[tuple[Donor, int]] = []

    def borrow(self, other: Donor, kinds: Mapping[str, Collection[str]]) -> None:
        """Paste what another set's photos show of classes with the same names, too.

        kinds: of a name here, which other names there mean it, or part of it as clothes are of a
        person: of all those what one photo shows is pasted together.
        """
        for label, things in self._things.items():
            wanted = {self.names[label], *kinds.get(self.names[label], ())}
            theirs = tuple(i for i, called in enumerate(other.names) if called in wanted)
            photos = {int(photo) for part in theirs for photo in other.showing[part]}
            things += [Thing(other, photo, theirs) for photo in sorted(photos)]

    def invite(self, other: Donor, labels: Collection[int]) -> None:
        """Paste what another set shows of these of its classes, which no name here means.

        Classes that it shows nothing of are left out.
        """
        self._guests += [(other, label) for label in labels if len(other.showing[label])]

    def photo(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Photo and labels, as `PixelSet.load` gives them."""
        return self._kept.get(index) or self.data.load(self.data.keys[index])

    def draw(self, count: int, style: ViewStyle, draw: np.random.Generator) -> PixelBatch:
        """count views of style.size×style.size."""
        views = []
        paste_weights = _drawing_shares([len(self._things[label]) for label in self.pastable])
        for _ in range(count):
            focus = None
            if draw.random() < style.focus_share and self.focusable:
                focus = int(draw.choice(self.focusable, p=self.focus_weights))
                photo = int(draw.choice(self.showing[focus]))
            else:
                photo = int(draw.integers(len(self.data.keys)))
            view = random_crop(*self.photo(photo), style.size, style.scales, draw, focus)
            if self.pastable and draw.random() < style.paste_share:
                label = int(draw.choice(self.pastable, p=paste_weights))
                things = self._things[label]
                _paste(*view, label, things[draw.integers(len(things))], style, draw)
            views.append(view)
        guests = self._paste_guests(views, style, draw) if style.guests and self._guests else ()
        images, labels = (np.stack(parts) for parts in zip(*views, strict=True))
        for number in np.flatnonzero(draw.random(count) < style.mix_share):
            rows, columns, _ = random_box(style.size, draw)
            donor, donor_labels = views[number - 1]  # as it was before anything was mixed in
            images[number, rows, columns] = donor[rows, columns]
            labels[number, rows, columns] = donor_labels[rows, columns]
        return PixelBatch(self.name, images, labels, guests)

    def _paste_guests(
        self,
        views: Sequence[tuple[np.ndarray, np.ndarray]],
        style: ViewStyle,
        draw: np.random.Generator,
    ) -> tuple[Guest, ...]:
        """Lay a guest into each view, in place; as many as there are labels for."""
        first = self.data.other + 1
        labels: dict[Guest, int] = {}
        for view in views:
            other, theirs = self._guests[draw.integers(len(self._guests))]
            guest = Guest(other.name, theirs)
            label = labels.get(guest, first + len(labels))
            if label == IGNORE:
                break
            labels[guest] = label
            photo = int(draw.choice(other.showing[theirs]))
            _paste(*view, label, Thing(other, photo, (theirs,)), style, draw)
        return tuple(labels)


def _paste(
    image: np.ndarray,
    labels: np.ndarray,
    label: int,
    thing: Thing,
    style: ViewStyle,
    draw: np.random.Generator,
) -> None:
    """Lay a thing over this view, in place. label: what it is called here."""
    picture, theirs = thing.donor.photo(thing.photo)
    there = np.isin(theirs, thing.labels).astype(np.uint8)
    picture, there = random_crop(picture, there, style.size, style.scales, draw, 1)
    pasted = there == 1
    image[pasted] = picture[pasted]
    labels[pasted] = label


def check_markable(name: str, data: ImageSet) -> None:
    """Raise UsageError for more classes than labels of 8 bits have room for beside others."""
    if len(data.names) >= IGNORE:
        raise UsageError(f"{name}: {len(data.names)} classes are too many to mark in pictures")


class ImageSampler:
    """Mosaics of an image-level set's pictures, each cropped and flipped at random."""

    def __init__(self, name: str, data: ImageSet, masks: np.ndarray | None = None) -> None:
        """masks: (n, S, S) uint8, where in each picture is what it is named after.

        THERE, NOT_THERE or IGNORE; None = it is not known where. Raises UsageError as
        `check_markable` does.
        """
        if masks is not None:
            check_markable(name, data)
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


def _drawing_shares(counts: Sequence[int]) -> np.ndarray:
    """How often each class is drawn: one with many photos more often, but far less than so many
    times, and one with few more seldom, for those few would be learnt by heart.
    """
    shares = np.array(counts, np.float64) ** 0.4
    return shares / shares.sum()


def choose(shares: dict[str, float], draw: np.random.Generator) -> str:
    """A name drawn by its share, whatever the shares add up to."""
    names = sorted(shares)
    values = np.array([shares[name] for name in names])
    return str(draw.choice(names, p=values / values.sum()))


def class_weights(pixels: np.ndarray, power: float, largest: float = 8.0) -> np.ndarray:
    """Loss weights that lift rare classes: (median frequency / frequency) ** power.

    pixels: (K+1,) counts, background last; 0 where a class never occurs (its weight is 1).
    """
    seen = pixels > 0
    weights = np.ones(len(pixels), np.float32)
    weights[seen] = (np.median(pixels[seen]) / pixels[seen]) ** power
    return np.clip(weights, 1 / largest, largest)
