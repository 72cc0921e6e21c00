"""What is it in a photo that its set has no name for?"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from by_colour import ByColour
from PIL import Image

from ovseg_cli.data.pixel_sampler import PixelSampler
from ovseg_cli.data.pixel_set import read_pixel_set
from ovseg_cli.errors import UsageError
from ovseg_cli.training.kept import Kept
from ovseg_cli.training.photo_marks import PhotoMarksConfig, photo_marks, stored_marks

CPU = torch.device("cpu")
CONFIG = PhotoMarksConfig(("stripes",), names=("green",), rivals=("blue",), sizes=(64,))
RED, NONE, GREEN, UNSURE = range(4)  # labels: the set's name, and what follows it
STRIPES = {
    "labelled": (RED, (30, 200, 30)),  # what a set says of its photos is not asked about
    "marked": (NONE, (30, 200, 30)),
    "a rival": (NONE, (30, 30, 200)),
    "a name of the set": (NONE, (200, 30, 30)),
    "none": (NONE, (120, 120, 120)),
    "between two": (NONE, (55, 150, 55)),
    "ignored": (255, (30, 200, 30)),
}


@pytest.fixture
def photos(tmp_path):
    """One photo of upright stripes, 32 pixels wide; its set names red and knows a background."""
    root = tmp_path / "stripes"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    labels, colours = (np.array(part, np.uint8) for part in zip(*STRIPES.values(), strict=True))
    labels, colours = (part.repeat(32, 0)[None].repeat(64, 0) for part in (labels, colours))
    Image.fromarray(colours).save(root / "images" / "a.png")
    Image.fromarray(labels).save(root / "labels" / "a.png")
    (root / "train.txt").write_text("a\n")
    (root / "classes.json").write_text(json.dumps({"0": "red", "1": "background"}))
    return PixelSampler(read_pixel_set(root, "train"))


def test_only_what_the_model_is_sure_of_is_marked(photos):
    model = ByColour().train()
    (marks,) = photo_marks(model, photos, CONFIG, CPU)
    assert model.training
    assert model.asked == [("green", "blue", "red")]
    assert marks.dtype == np.uint8
    middles = dict(zip(STRIPES, marks[32, 16::32].tolist(), strict=True))
    assert middles == {
        "labelled": RED,
        "marked": GREEN,
        "a rival": UNSURE,
        "a name of the set": UNSURE,
        "none": NONE,
        "between two": UNSURE,
        "ignored": 255,
    }


def test_non_object_may_count_less(photos):
    """A factor so small that grey, which is all names alike, is none of them no more."""
    (marks,) = photo_marks(ByColour(), photos, replace(CONFIG, other_factor=1e-6), CPU)
    assert not (marks == NONE).any()
    assert marks[32, 48] == GREEN


def test_a_run_that_goes_on_finds_the_marks_again(photos, tmp_path):
    file = Kept(tmp_path / "marks.npz", "these")
    (first,) = stored_marks(ByColour(), photos, CONFIG, file, CPU)
    other = ByColour()
    (again,) = stored_marks(other, photos, CONFIG, file, CPU)
    assert (first == again).all()
    assert other.asked == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"names": ("red",)}, "'red' is a name of stripes"),
        ({"rivals": ("red",)}, "'red' is a name of stripes"),
        ({"names": tuple(map(str, range(300)))}, "stripes has too many names to mark 300 more"),
    ],
)
def test_names_that_cannot_be_marked_in_a_set(photos, wrong, said):
    with pytest.raises(UsageError, match=f"photo_marks: {said}"):
        replace(CONFIG, **wrong).check(photos.data)


def test_a_set_that_names_all_it_shows(photos):
    with pytest.raises(UsageError, match="has no pixels that are none of its names"):
        CONFIG.check(replace(photos.data, other_ids=()))


@pytest.mark.parametrize(
    "wrong", [{"sets": ()}, {"names": ()}, {"sizes": ()}, {"sure": 1.5}, {"other_factor": 0.0}]
)
def test_impossible_values(wrong):
    with pytest.raises(ValueError):
        replace(CONFIG, **wrong)
