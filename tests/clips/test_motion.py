"""Optical flow, and where it can be trusted."""

import numpy as np
import pytest

from ovseg_cli.clips.motion import motion, thumbnail
from ovseg_cli.frame import Frame


@pytest.fixture
def texture():
    """A picture of soft blots, (120, 200, 3)."""
    draw = np.random.default_rng(3)
    y, x = np.mgrid[0:120, 0:200]
    picture = np.full((120, 200, 3), 128.0)
    for _ in range(60):
        cy, cx, r = draw.uniform(0, 120), draw.uniform(0, 200), draw.uniform(4, 15)
        blot = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / r**2)
        picture += blot[..., None] * draw.uniform(-90, 90, 3)
    return picture.clip(0, 255).astype(np.uint8)


def test_what_moved_is_found_where_it_was(texture):
    before, now = texture[10:90, 20:150], texture[13:93, 16:146]  # the content moved 4 right, 3 up
    found = motion(before, now)
    assert found.flow.shape == (80, 130, 2) and found.agreement.shape == (80, 130)
    inside = found.flow[15:-15, 15:-15].reshape(-1, 2)
    assert np.abs(np.median(inside, 0) - (-4, 3)).max() < 0.3
    assert found.agreement[15:-15, 15:-15].mean() > 0.9


def test_what_stands_still_does_not_move_at_all(texture):
    found = motion(texture, texture)
    assert not found.flow.any()
    assert np.all(found.agreement == 1)


def test_what_was_hidden_has_no_past(texture):
    now = texture.copy()
    now[40:80, 60:120] = (250, 30, 30)  # a red card appears
    found = motion(texture, now)
    assert found.agreement[45:75, 65:115].mean() < 0.1
    assert found.agreement[:, 150:].mean() > 0.9


@pytest.mark.parametrize(("axis", "step"), [(0, 8), (0, -8), (1, 8), (1, -8)])
def test_what_comes_into_the_picture_from_any_side_has_no_past(texture, axis, step):
    now = [slice(20, 100), slice(30, 160)]
    before = list(now)
    before[axis] = slice(now[axis].start + step, now[axis].stop + step)
    found = motion(texture[tuple(before)], texture[tuple(now)])
    agreement = found.agreement if axis == 0 else found.agreement.T
    if step < 0:
        agreement = agreement[::-1]
    assert (agreement[:5, 20:-20] == 0).mean() > 0.9  # 8 rows or columns are new
    assert agreement[12:-12, 20:-20].mean() > 0.9


def test_another_scene_is_not_followed(texture):
    assert motion(texture, 255 - texture[::-1]) is None


@pytest.mark.parametrize(
    ("size_hw", "small"), [((720, 1280), (160, 284)), ((100, 90), (100, 90)), ((9, 400), (32, 400))]
)
def test_thumbnails_keep_the_shape_and_are_never_tiny(size_hw, small):
    assert thumbnail(Frame(np.zeros((*size_hw, 3), np.uint8))).shape == (*small, 3)


@pytest.mark.parametrize(
    "size_hw", [(20, 320), (16, 300), (8, 640), (24, 640), (31, 1000), (320, 20), (1, 3000), (1, 1)]
)
def test_pictures_of_any_shape_can_be_followed(size_hw):
    draw = np.random.default_rng(5)
    before, now = (
        thumbnail(Frame(draw.integers(0, 256, (*size_hw, 3), dtype=np.uint8))) for _ in range(2)
    )
    assert not motion(now, now).flow.any()
    motion(before, now)  # OpenCV's search has crashed here
