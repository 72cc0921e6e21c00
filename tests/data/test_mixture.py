"""Batches from several data sets."""

import numpy as np
import pytest

from ovseg_cli.data.mixture import PixelMixture, ViewConfig
from ovseg_cli.data.pixel_set import IGNORE


@pytest.fixture
def two_sets(write_plains, tmp_path):
    write_plains(tmp_path / "plains")
    write_plains(tmp_path / "steppes")
    return tmp_path


def config(**changes):
    sets = {"plains": "train", "steppes": "train"}
    return ViewConfig(**{"sets": sets, "size": 16, "batch": 3, **changes})


def test_a_mixed_batch_is_a_function_of_its_step_and_seed(two_sets):
    one, other = (PixelMixture(config(focus_share=0.5), two_sets) for _ in range(2))
    other.batch(3)  # what was drawn before has no influence
    for step in (0, 11):
        a, b = one.batch(step), other.batch(step)
        assert a.set_name == b.set_name
        assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
    reseeded = config(seed=1, focus_share=0.5)
    views = [one.batch(0), one.batch(1), PixelMixture(reseeded, two_sets).batch(0)]
    assert len({view.images.tobytes() for view in views}) == 3
    assert views[0].images.shape == (3, 16, 16, 3)


def test_sets_are_drawn_by_their_shares(two_sets):
    mixture = PixelMixture(config(batch=1, shares={"plains": 3.0}), two_sets)
    names = [mixture.batch(step).set_name for step in range(200)]
    assert 130 < names.count("plains") < 170
    mixture = PixelMixture(config(batch=1, shares={"plains": 0.0}), two_sets)
    assert {mixture.batch(step).set_name for step in range(20)} == {"steppes"}


def test_colours_are_distorted_and_labels_are_not(two_sets):
    mixture = PixelMixture(config(batch=8, scales=(1.0, 1.0), focus_share=0.5), two_sets)
    brightness, both = [], 0
    for step in range(10):
        views = mixture.batch(step)
        assert set(np.unique(views.labels)) <= {0, 1, 3, IGNORE}
        for image, labels in zip(views.images, views.labels, strict=True):
            common, rare = image[labels == 0], image[labels == 1]
            brightness.append(common.mean())
            if len(rare):  # brighter in the photos, and so in every view
                assert rare.mean() > common.mean() + 20
                both += 1
    assert min(brightness) < 80 and max(brightness) > 120  # about 101 in the photos
    assert both > 10


@pytest.mark.parametrize("changes", [{"shares": {"oceans": 1.0}}, {"sets": {}}])
def test_views_of_sets_that_are_not_listed(changes):
    with pytest.raises(ValueError, match="none of the sets|names none"):
        config(**changes)
