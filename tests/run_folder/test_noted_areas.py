import json

import pytest

from ovseg_cli.run_folder.noted_areas import are_sound, class_areas, ids_fit, noted
from ovseg_cli.segmentation import UNLABELED, ClassArea

AREAS = [
    ClassArea(0, "sky", 3, 0.375, 0.5),
    ClassArea(2, "car", 4, 0.5, 1.0),
    ClassArea(UNLABELED, "unlabelled", 1, 0.125, 0.25),
]
NAMES = ("sky", "road", "car")


def test_what_is_noted_is_told_again():
    assert noted(AREAS) == ((0, 3, 0.5), (2, 4, 1.0), (-1, 1, 0.25))
    assert class_areas(noted(AREAS), 8, NAMES) == AREAS


def test_confidences_have_six_decimals():
    assert noted([ClassArea(0, "sky", 1, 1.0, 1 / 3)]) == ((0, 1, 0.333333),)


@pytest.mark.parametrize("areas", [(), ((0, 3, 0.5), (-1, 1, 1)), ((7, 8, 0),)])
def test_sound(areas):
    assert are_sound(areas, 8)


@pytest.mark.parametrize(
    "areas",
    [
        *("[[0, 9, 0.5]]", "[[0, 0, 0.5]]", "[[-2, 1, 0.5]]", "[[0, 1, 2]]", "[[0, 1, -0.1]]"),
        *("[[0, 1, NaN]]", "[[0, 1, null]]", '[[0, 1, "1"]]', "[[0, 1.0, 0.5]]", "[[true, 1, 0]]"),
        *("[[0, 1]]", "[[0, 1, 0.5, 1]]", "[5]", "5", '["abc"]', "[null]"),
    ],
)
def test_damaged(areas):
    assert not are_sound(json.loads(areas), 8)


def test_ids_of_other_classes():
    assert ids_fit(noted(AREAS), 3)
    assert not ids_fit(noted(AREAS), 2)
