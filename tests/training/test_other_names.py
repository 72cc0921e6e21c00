"""A set's classes under the names of another vocabulary."""

import numpy as np
import pytest

from ovseg_cli.data.pixel_set import IGNORE
from ovseg_cli.errors import UsageError
from ovseg_cli.training.other_names import OtherNames

ROADS = OtherNames(
    names=("car", "person", "dog"),
    sets=("streets",),
    same={"person": ("pedestrian", "face"), "dog": ("puppy",)},
    unsure=("bicyclist",),
)


def test_each_class_finds_its_name_or_none():
    table = ROADS.table(["sky", "pedestrian", "car", "bicyclist", "puppy"])
    assert table[:5].tolist() == [3, 1, 0, IGNORE, 2]


def test_what_a_set_does_not_label_may_show_anything():
    table = ROADS.table(["sky", "car"])
    assert table.shape == (256,)
    assert np.all(table[2:] == IGNORE)


@pytest.mark.parametrize(
    ("same", "unsure", "named"),
    [
        ({"person": ("walker",)}, (), "walker"),
        ({}, ("rider",), "rider"),
        ({"cat": ("sky",)}, (), "cat"),
    ],
)
def test_names_that_no_set_has(same, unsure, named):
    with pytest.raises(UsageError, match=f"no class '{named}'"):
        OtherNames(("car", "person"), ("streets",), same, unsure).check(["sky", "car"])
