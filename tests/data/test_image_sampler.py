"""Mosaics of pictures."""

from dataclasses import replace

import numpy as np
import pytest

from ovseg_cli.data.image_sampler import ImageSampler
from ovseg_cli.data.image_set import ImageSet
from ovseg_cli.errors import UsageError


def test_mosaics_are_drawn_with_their_classes():
    colours = np.arange(10, 60, 10, dtype=np.uint8)
    images = np.broadcast_to(colours[:, None, None, None], (5, 16, 16, 3)).copy()
    classes = np.array([0, 1, 0, 2, 1])
    sampler = ImageSampler("pets", ImageSet(images, classes, (("a",), ("b",), ("c",))))
    batch = sampler.draw(30, 53, np.random.default_rng(0))
    assert batch.set_name == "pets"
    assert batch.images.shape == (30, 53, 53, 3)
    assert batch.classes.shape == (30, 3, 3)  # three pictures of 17 each way, 2 pixels are left
    assert (batch.images[:, 51:] == 124).all()
    assert (batch.images[:, :, 51:] == 124).all()
    for (b, row, column), label in np.ndenumerate(batch.classes):
        tile = batch.images[b, 17 * row : 17 * row + 17, 17 * column : 17 * column + 17]
        inside = tile[tile != 124]
        assert len(set(inside.tolist())) == 1
        assert classes[inside[0] // 10 - 1] == label
        # Enlarged by 1 to 1.8: but for the aspect nothing lies outside.
        assert inside.size > 0.8 * tile.size
    assert set(batch.classes.ravel().tolist()) == {0, 1, 2}


def test_a_mosaic_smaller_than_a_picture_shows_one():
    images = np.full((1, 16, 16, 3), 50, np.uint8)
    sampler = ImageSampler("pets", ImageSet(images, np.array([0]), (("a",),)))
    batch = sampler.draw(2, 10, np.random.default_rng(0))
    assert batch.classes.shape == (2, 1, 1)


@pytest.mark.parametrize(("enlarged", "tiles"), [(1.0, 4), (1.5, 2), (2.0, 2), (5.0, 1)])
def test_enlarged_pictures_are_fewer(enlarged, tiles):
    images = np.full((1, 16, 16, 3), 50, np.uint8)
    sampler = ImageSampler("pets", ImageSet(images, np.array([0]), (("a",),)))
    batch = sampler.draw(2, 64, np.random.default_rng(0), enlarged)
    assert batch.classes.shape == (2, tiles, tiles)
    assert (batch.images == 50).mean() > 0.8


def test_mosaics_of_marked_pictures_have_a_label_per_pixel(marked):
    batch = marked.draw(40, 32, np.random.default_rng(0))
    assert batch.set_name == "pets"
    assert batch.labels.shape == (40, 32, 32)
    grey = batch.images[..., 0]
    for colour, label in ((10, 1), (12, 2), (20, 0), (30, 255), (124, 255)):
        shown = grey == colour  # between 10 and 12 resizing blends
        assert shown.any()
        assert (batch.labels[shown] == label).all()


@pytest.mark.parametrize("are_marked", [True, False])
def test_too_many_classes(marked, are_marked):
    data = replace(marked.data, names=(("a",),) * 255)
    with pytest.raises(UsageError, match="pets: 255 classes are too many for stage dense"):
        ImageSampler("pets", data, marked.masks if are_marked else None)
