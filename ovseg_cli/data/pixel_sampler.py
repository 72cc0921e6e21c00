"""Views of one set's photos with a label per pixel, and what is pasted into them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ovseg_cli.data.batches import Guest, PixelBatch, ViewStyle
from ovseg_cli.data.pixel_set import IGNORE, PixelSet, unknown_ids
from ovseg_cli.data.transforms import random_box, random_crop

log = logging.getLogger(__name__)

LARGEST_WEIGHT = 8.0  # of a class in the loss; the smallest is 1 / 8
LARGEST_PASTED = 0.1  # share of all pixels up to which a class is pasted into other photos
MEMORY = 8 << 30  # bytes of photos that a sampler keeps; others are read again when drawn


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
        strangers: Counter[int] = Counter()
        for index, key in enumerate(data.keys):
            image, stored = data.load_stored(key)
            labels = data.labels_of(stored)
            strangers += data.strangers(stored)
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
        self._marked: Sequence[np.ndarray] = ()
        self._first_guest = data.other + 1  # the least label that nothing else has

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

    def mark(self, labels: Sequence[np.ndarray], count: int) -> None:
        """Let the photos have these labels (H, W) uint8, which say more of what no name means.

        Of it K+1 to K+count stand for further names, K for none of these either, K+count+1 for one
        of the two.
        """
        self._marked, self._first_guest = labels, self.data.other + count + 2

    def photo(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Photo and labels, as `PixelSet.load` gives them or `mark` had them."""
        image, labels = self._kept.get(index) or self.data.load(self.data.keys[index])
        return image, self._marked[index] if self._marked else labels

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
        guests = self._paste_guests(views, style, draw) if style.guests and self._guests else {}
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
    ) -> dict[int, Guest]:
        """Lay a guest into each view, in place; as many as there are labels for, by label."""
        labels: dict[Guest, int] = {}
        for view in views:
            other, theirs = self._guests[draw.integers(len(self._guests))]
            guest = Guest(other.name, theirs)
            label = labels.get(guest, self._first_guest + len(labels))
            if label == IGNORE:
                break
            labels[guest] = label
            photo = int(draw.choice(other.showing[theirs]))
            _paste(*view, label, Thing(other, photo, (theirs,)), style, draw)
        return {label: guest for guest, label in labels.items()}


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


def _drawing_shares(counts: Sequence[int]) -> np.ndarray:
    """How often each class is drawn: one with many photos more often, but far less than so many
    times, and one with few more seldom, for those few would be learnt by heart.
    """
    shares = np.array(counts, np.float64) ** 0.4
    return shares / shares.sum()


def class_weights(pixels: np.ndarray, power: float) -> np.ndarray:
    """Loss weights that lift rare classes: (median frequency / frequency) ** power.

    pixels: (K+1,) counts, background last; 0 where a class never occurs (its weight is 1).
    """
    seen = pixels > 0
    weights = np.ones(len(pixels), np.float32)
    weights[seen] = (np.median(pixels[seen]) / pixels[seen]) ** power
    return np.clip(weights, 1 / LARGEST_WEIGHT, LARGEST_WEIGHT)
