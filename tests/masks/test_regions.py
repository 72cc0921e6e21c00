"""Superpixels, merged where features and colours are alike."""

import sys

import numpy as np
import pytest

from ovseg_cli.errors import UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.masks.regions import find_regions


def photo() -> np.ndarray:
    """A blue upper half, below it a green and a brown quarter, with some noise."""
    pixels = np.empty((120, 160, 3), np.uint8)
    pixels[:60], pixels[60:, :80], pixels[60:, 80:] = (90, 140, 220), (40, 150, 40), (120, 80, 40)
    noise = np.random.default_rng(0).integers(-6, 7, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8)


def alike() -> np.ndarray:
    return np.ones((15, 20, 1), np.float32)


def test_regions_follow_the_borders_of_colours_and_cover_the_photo():
    masks = find_regions(Frame(photo()), alike(), (120, 160))
    assert masks.dtype == bool
    assert (masks.sum(0) == 1).all()
    assert 3 <= len(masks) <= 8
    for area in (np.s_[:58], np.s_[62:, :78], np.s_[62:, 82:]):
        inside = masks[(slice(None), *(area if isinstance(area, tuple) else (area,)))]
        best = inside.reshape(len(masks), -1).mean(1).max()
        assert best > 0.95


def test_features_part_what_colours_alone_would_merge():
    features = np.zeros((15, 20, 2), np.float32)
    features[:, :10, 0] = features[:, 10:, 1] = 1
    greys = np.full((120, 160, 3), 120, np.uint8)
    greys[:, 80:] = 136
    assert len(find_regions(Frame(greys), alike(), (60, 80))) == 1
    left, right = find_regions(Frame(greys), features, (60, 80))
    assert left[:, :39].mean() > 0.98
    assert right[:, 41:].mean() > 0.98


def test_a_photo_of_one_colour_is_one_region():
    masks = find_regions(Frame(np.full((40, 50, 3), 7, np.uint8)), alike(), (80, 100))
    assert masks.shape == (1, 80, 100)
    assert masks.all()


def test_without_the_library_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(UsageError, match=r"pip install 'ovseg-cli\[regions\]'"):
        find_regions(Frame(photo()), alike(), (120, 160))
