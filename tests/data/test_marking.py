"""Where in a picture a thing is, by scores and colours."""

import numpy as np
import pytest
from painted import disc, iou, painted

from ovseg_cli.data.marking import NOT_THERE, THERE, mark
from ovseg_cli.data.pixel_set import IGNORE

COVER = (0.03, 0.9)


def test_the_outline_is_where_colours_change():
    inside = disc((30, 34), 15)
    blob = 4 * np.exp(-(((np.mgrid[:64, :64] - [[[36]], [[28]]]) / 14.0) ** 2).sum(0))  # off by 2
    mask = mark(painted(inside, (220, 60, 40), (50, 150, 60)), blob.astype(np.float32), COVER)
    assert iou(mask == THERE, inside) > 0.9
    assert (mask[inside] == NOT_THERE).mean() < 0.01
    assert (mask[~inside] == NOT_THERE).mean() > 0.9


def test_scores_that_hardly_differ_tell_nothing():
    scores = np.linspace(0, 0.4, 64 * 64, dtype=np.float32).reshape(64, 64)
    assert (mark(painted(disc((30, 30), 10), 200, 30), scores, COVER) == IGNORE).all()


@pytest.mark.parametrize("radius", [3, 60])
def test_of_a_thing_too_small_or_too_large_it_is_not_said_where_it_is_not(radius):
    inside = disc((32, 32), radius)
    scores = np.where(inside, 5, 0).astype(np.float32)
    scores[:6] = 0  # even of the large one a part of the picture is free
    inside[:6] = False
    mask = mark(painted(inside, (220, 60, 40), (50, 150, 60)), scores, COVER)
    assert set(np.unique(mask)) <= {THERE, IGNORE}
    assert not (mask[~inside] == THERE).any()
