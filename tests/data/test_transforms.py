"""Random views: where they lie is read back from photos that tell their own coordinates."""

import numpy as np
import pytest
import torch

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.data.transforms import (
    distort_colour,
    jitter_colour,
    lose_colour,
    masked_crop,
    random_crop,
    resize_photo,
    to_tensor,
)

SEEDS = range(25)


def coordinates(height, width):
    """A photo whose red is 2·column and green 2·row; its labels are the columns."""
    y, x = np.mgrid[:height, :width]
    return np.stack([2 * x, 2 * y, 0 * x], -1).astype(np.uint8), x.astype(np.uint8)


def both_ways(view, labels):
    """The view unflipped: columns ascending."""
    known = labels[labels != IGNORE]
    row = labels[(labels != IGNORE).any(1)][0]
    row = row[row != IGNORE]
    assert len(known)
    if row[0] > row[-1]:
        return view[:, ::-1], labels[:, ::-1]
    return view, labels


@pytest.mark.parametrize("seed", SEEDS)
def test_a_view_is_a_box_of_the_photo_enlarged(seed):
    image, columns = coordinates(90, 110)
    view, labels = random_crop(image, columns, 32, (0.8, 1.6), np.random.default_rng(seed))
    assert view.shape == (32, 32, 3) and view.dtype == np.uint8
    assert labels.shape == (32, 32) and labels.dtype == np.uint8
    assert not (labels == IGNORE).any()  # a box of at most 46 pixels fits
    view, labels = both_ways(view, labels)
    # Nearest neighbour of evenly spaced places: all rows alike, floor(start + (i + ½) / scale).
    assert (labels == labels[0]).all()
    step = np.polyfit(np.arange(32), labels[0].astype(float), 1)[0]
    assert 1 / 1.6 / 1.17 <= step <= 1 / 0.8 * 1.17  # scale, and aspect of up to e^0.15
    columns = labels[0].astype(int)
    fits = [
        start
        for start in np.arange(-2, 2, 0.02) + int(labels[0, 0])
        if np.abs(np.floor(start + (np.arange(32) + 0.5) * step) - columns).max() <= 1
    ]
    assert fits
    # Red and green say where each pixel of the view lies; red agrees with the labels.
    assert np.abs(view[1:-1, 1:-1, 0] / 2 - labels[1:-1, 1:-1]).max() <= 1.5
    rows = view[..., 1].astype(float) / 2
    assert np.abs(rows - rows[:, :1]).max() <= 0.5
    down = np.polyfit(np.arange(32), rows[:, 0], 1)[0]
    assert 1 / 1.6 / 1.17 <= down <= 1 / 0.8 * 1.17
    # Height over width of the box is e^2a with |a| <= 0.15, and its area is that of the scale.
    assert np.exp(-0.32) <= down / step <= np.exp(0.32)
    assert 1 / 1.65 <= np.sqrt(down * step) <= 1 / 0.78


def test_views_are_flipped_half_of_the_time_and_spread_over_the_photo():
    image, columns = coordinates(60, 120)
    draw = np.random.default_rng(0)
    flipped, centres = 0, []
    for _ in range(300):
        view, labels = random_crop(image, columns, 16, (1.0, 1.0), draw)
        flipped += int(labels[0, 0]) > int(labels[0, -1])
        centres.append((view[..., 1].mean() / 2, labels.mean()))
    assert 110 < flipped < 190
    centres = np.array(centres)
    for axis, length in ((0, 60), (1, 120)):
        assert centres[:, axis].min() < 14
        assert centres[:, axis].max() > length - 15
        assert abs(centres[:, axis].mean() - length / 2) < 0.05 * length


@pytest.mark.parametrize("seed", SEEDS)
def test_outside_the_photo_a_view_is_grey_and_ignored(seed):
    image, labels = np.full((20, 30, 3), 200, np.uint8), np.full((20, 30), 7, np.uint8)
    view, found = random_crop(image, labels, 64, (1.0, 1.0), np.random.default_rng(seed))
    inside = found == 7
    assert set(np.unique(found)) == {7, IGNORE}
    assert (view[~inside] == 124).all()
    assert (view[inside] == 200).all()
    # All of the photo is there, as one rectangle of its size but for the aspect.
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert 20 / 1.17 - 1 <= len(rows) <= 20 * 1.17 + 1
    assert 30 / 1.17 - 1 <= len(columns) <= 30 * 1.17 + 1
    assert abs(len(rows) * len(columns) - 600) < 60


@pytest.mark.parametrize("size", [24, 200])
def test_a_focus_is_shown(size):
    labels = np.zeros((80, 100), np.uint8)
    labels[3, 95] = 9  # one pixel, near a corner
    labels[60:63, 10:13] = 8
    image = np.zeros((80, 100, 3), np.uint8)
    image[labels == 9] = 255
    for seed in SEEDS:
        draw = np.random.default_rng(seed)
        for focus in (8, 9):
            view, found = random_crop(image, labels, size, (1.2, 2.0), draw, focus)
            assert (found == focus).any()
        assert view.max() > 100


def test_a_focus_is_not_always_in_the_middle():
    labels = np.zeros((200, 200), np.uint8)
    labels[100, 100] = 9
    places = []
    for seed in range(100):
        _, found = random_crop(
            np.zeros((200, 200, 3), np.uint8),
            labels,
            40,
            (1.5, 1.5),
            np.random.default_rng(seed),
            9,
        )
        places.append(np.argwhere(found == 9).mean(0))
    places = np.array(places)
    assert (places.min(0) < 13).all() and (places.max(0) > 27).all()
    assert (places > 5).all() and (places < 35).all()


def test_a_focus_that_does_not_occur_is_no_error():
    image, columns = coordinates(40, 40)
    view, _ = random_crop(image, columns, 16, (1.0, 1.0), np.random.default_rng(0), focus=200)
    assert view.shape == (16, 16, 3)


def test_the_same_generator_draws_the_same_view():
    image, columns = coordinates(70, 90)
    for change in (random_crop, lambda i, c, s, r, d: (distort_colour(i, d), c)):
        one = change(image, columns, 32, (0.5, 2.0), np.random.default_rng(5))
        other = change(image, columns, 32, (0.5, 2.0), np.random.default_rng(5))
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_masked_crop_is_the_square_around_the_mask():
    image, _ = coordinates(40, 60)
    mask = np.zeros((40, 60), bool)
    mask[10:18, 20:32] = True  # 8 high, 12 wide: the square is rows 8..20
    mask[12, 25] = False
    view = masked_crop(image, mask, 12, (90.2, 80.0, 70.0))
    expected = np.full((12, 12, 3), (90, 80, 70), np.uint8)
    expected[2:10] = image[10:18, 20:32]
    expected[4, 5] = (90, 80, 70)
    assert np.array_equal(view, expected)


def test_a_masked_crop_beyond_the_photo_is_filled():
    image = np.full((4, 30, 3), 200, np.uint8)
    mask = np.zeros((4, 30), bool)
    mask[:, 4:20] = True  # the square of 16 exceeds the photo by 6 rows on both sides
    view = masked_crop(image, mask, 32, (0, 0, 0))
    assert (view[12:20, 1:-1] == 200).all()  # at the sides it blends into the colour
    assert (view[:12] == 0).all() and (view[20:] == 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_grey_stays_grey_and_order_stays_order(seed):
    """What SSD changes are monotonous maps of brightness, and turns of the colour circle."""
    grey = np.arange(0, 256, dtype=np.uint8)[:, None, None].repeat(3, axis=2)
    changed = distort_colour(grey, np.random.default_rng(seed)).astype(int)
    assert changed.shape == grey.shape
    assert (changed == changed[..., :1]).all()
    assert (np.diff(changed[:, 0, 0]) >= 0).all()


def test_each_distortion_happens_half_of_the_time():
    colour = np.full((1, 1, 3), (150, 90, 60), np.uint8)
    results = np.array(
        [distort_colour(colour, np.random.default_rng(s))[0, 0] for s in range(600)]
    ).astype(float)
    untouched = (results == (150, 90, 60)).all(1).mean()
    assert 1 / 16 - 0.03 < untouched < 1 / 16 + 0.04
    high, low = results.max(1), results.min(1)
    assert high.min() < 75 and high.max() > 210  # darker and brighter
    saturation = (high - low) / np.maximum(high, 1)
    assert saturation.min() < 0.35 and saturation.max() > 0.8  # 0.6 before
    assert (results[:, 1] < results[:, 2]).any()  # hue turned beyond red
    assert (results[:, 1] > 0.75 * results[:, 0]).any()  # and towards yellow


def test_jitter_stays_in_range_and_follows_its_generator():
    images = 255 * torch.rand(3, 3, 8, 8)
    one = jitter_colour(images, np.random.default_rng(1))
    assert torch.equal(one, jitter_colour(images, np.random.default_rng(1)))
    assert one.shape == images.shape
    assert one.min() >= 0 and one.max() <= 255
    change = (one - images).abs().flatten(1).mean(1)
    assert (change > 1).all() and len(set(change.tolist())) == 3  # each picture its own


def test_a_share_of_pictures_is_black_and_white_as_bright_as_before():
    images = torch.tensor([200.0, 100.0, 50.0]).view(1, 3, 1, 1).expand(400, 3, 2, 2)
    found = lose_colour(images, np.random.default_rng(1), 0.25)
    grey = (found[:, 0] == found[:, 2]).flatten(1).all(1)
    assert 70 <= grey.sum() <= 130
    assert torch.equal(found[~grey], images[~grey])
    # Rec. 601: 0.299 R + 0.587 G + 0.114 B
    assert torch.allclose(found[grey], torch.tensor(0.299 * 200 + 0.587 * 100 + 0.114 * 50))


def test_without_a_share_no_picture_loses_its_colour_and_nothing_is_drawn():
    images, draw = 255 * torch.rand(3, 3, 8, 8), np.random.default_rng(1)
    assert lose_colour(images, draw, 0.0) is images
    assert draw.random() == np.random.default_rng(1).random()


def test_tensors_have_the_photos_values_channels_last():
    images = np.random.default_rng(0).integers(256, size=(2, 4, 6, 3)).astype(np.uint8)[:, :, ::-1]
    tensor = to_tensor(images, torch.device("cpu"))
    assert tensor.shape == (2, 3, 4, 6)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert tensor[1, 2, 3, 4].item() == images[1, 3, 4, 2]


@pytest.mark.parametrize(
    ("size_hw", "shorter", "expected"),
    [((240, 320), 320, (320, 416)), ((320, 240), 96, (128, 96)), ((10, 300), 20, (32, 608))],
)
def test_photos_are_resized_to_multiples_of_32(size_hw, shorter, expected):
    image = np.full((*size_hw, 3), 99, np.uint8)
    resized = resize_photo(image, shorter, torch.device("cpu"))
    assert resized.shape == (1, 3, *expected)
    torch.testing.assert_close(resized, torch.full_like(resized, 99))


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [((2, 3000), (32, 256)), ((3000, 100), (256, 32)), ((60, 80), (64, 96))],
)
def test_of_long_thin_photos_the_longer_side_is_bounded(size_hw, expected):
    image = np.full((*size_hw, 3), 99, np.uint8)
    assert resize_photo(image, 64, torch.device("cpu"), 256).shape == (1, 3, *expected)
