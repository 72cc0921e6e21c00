"""Tinted frames of one size."""

import numpy as np
import pytest

from ovseg_cli.clips.overlay import ENTRIES, ClipOverlay
from ovseg_cli.frame import Frame
from ovseg_cli.legend import PAPER
from ovseg_cli.render import palette
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary


def labelled(names, labels):
    labels = np.asarray(labels, np.int32)
    return Segmentation(labels, np.ones(labels.shape, np.float32), names)


def colors_in(picture):
    return {tuple(color) for color in picture.reshape(-1, 3).tolist()}


@pytest.mark.parametrize("size_hw", [(180, 321), (33, 50), (720, 1280)])
def test_all_pictures_have_one_even_size_and_the_same_strip(size_hw):
    names = Vocabulary(["sky", "a rather long name of a class", "car"])
    drawer = ClipOverlay(names, size_hw)
    frame = Frame(np.full((*size_hw, 3), 90, np.uint8))
    pictures = [
        drawer.draw(frame, labelled(names, np.full(size_hw, number))) for number in (0, 1, 2, -1)
    ]
    shape = pictures[0].shape
    assert shape[0] % 2 == shape[1] % 2 == 0
    assert all(picture.shape == shape for picture in pictures)
    strips = [picture[size_hw[0] :] for picture in pictures]
    assert all(np.array_equal(strips[0], strip) for strip in strips)
    shown = colors_in(strips[0])
    assert {tuple(color) for color in palette(3).tolist()} <= shown
    assert np.array_equal(pictures[3][: size_hw[0], : size_hw[1]], frame.pixels)  # unlabelled


def test_of_many_classes_those_seen_most_are_explained():
    names = Vocabulary([f"class number {number}" for number in range(60)])
    drawer = ClipOverlay(names, (100, 300))
    frame = Frame(np.full((100, 300, 3), 90, np.uint8))
    colors = [tuple(color) for color in palette(60).tolist()]

    def explained(labels):
        strip = drawer.draw(frame, labelled(names, labels))[100:]
        return {number for number in range(60) if colors[number] in colors_in(strip)}

    assert explained(np.full((100, 300), 41)) == {41}
    many = np.repeat(np.arange(30), 10)[None].repeat(100, 0)  # 30 classes of 1000 pixels
    found = explained(many)
    assert len(found) == ENTRIES and 41 in found
    strip = drawer.draw(frame, labelled(names, many))[100:]
    assert tuple(strip[-1, -1]) == PAPER
