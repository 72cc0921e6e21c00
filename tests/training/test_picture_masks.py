"""Where in a picture is what it is named after?"""

import numpy as np
import pytest
import torch
from by_colour import ByColour
from painted import disc, iou, painted

from ovseg_cli.data.image_set import ImageSet
from ovseg_cli.data.marking import NOT_THERE, THERE
from ovseg_cli.errors import OutputError, UsageError
from ovseg_cli.training.kept import Kept
from ovseg_cli.training.picture_masks import PictureMasksConfig, picture_masks, stored_masks

CONFIG = PictureMasksConfig(sizes=(64,), batch=2)
CPU = torch.device("cpu")


@pytest.fixture
def pictures():
    """A red disc on blue, twice: once it is named after the disc, once after the ground."""
    images = [painted(disc((26, 30), 14), (200, 30, 30), (30, 30, 200), seed) for seed in (0, 1)]
    return ImageSet(np.stack(images), np.array([1, 0]), (("blue",), ("red",)))


def test_each_picture_is_asked_for_what_it_is_named_after(pictures):
    model = ByColour().train()
    masks = picture_masks(model, pictures, [["blue"], ["red", "green"]], CONFIG, CPU)
    assert model.asked == [("blue",), ("red", "green")]
    assert model.training
    inside = disc((26, 30), 14)
    assert masks.shape == (2, 64, 64)
    assert masks.dtype == np.uint8
    assert iou(masks[0] == THERE, inside) > 0.9
    assert (masks[0][~inside] == NOT_THERE).mean() > 0.9
    assert iou(masks[1] == THERE, ~inside) > 0.9
    assert (masks[1][inside] == NOT_THERE).mean() > 0.8


def test_a_run_that_goes_on_finds_the_masks_again(pictures, tmp_path):
    file = Kept(tmp_path / "run" / "masks.npz", "these")
    words = [["blue"], ["red"]]
    first = stored_masks(ByColour(), pictures, words, CONFIG, file, CPU)
    other = ByColour()
    assert (stored_masks(other, pictures, words, CONFIG, file, CPU) == first).all()
    assert other.asked == []


@pytest.mark.parametrize("earlier", ["others", None])
def test_masks_of_another_run_are_made_anew(pictures, tmp_path, caplog, earlier):
    """earlier: what the run said of itself; None: it said nothing, as runs once did."""
    path, words = tmp_path / "masks.npz", [["blue"], ["red"]]
    wrong = np.full((2, 64, 64), 7, np.uint8)
    if earlier is None:
        np.savez_compressed(path, masks=wrong)
    else:
        Kept(path, earlier).write(masks=wrong)
    model, file = ByColour(), Kept(path, "these")
    masks = stored_masks(model, pictures, words, CONFIG, file, CPU)
    assert model.asked and not (masks == 7).any()
    assert "masks.npz is of another start, recipe or data: it is made anew" in caplog.text
    assert (file.read("masks")[0] == masks).all()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"\x93NUMPY no array"])
def test_a_damaged_file_of_masks(pictures, tmp_path, content):
    file = Kept(tmp_path / "masks.npz", "these")
    file.path.write_bytes(content)
    with pytest.raises(UsageError, match="masks.npz cannot be read: .*; remove it"):
        stored_masks(ByColour(), pictures, [["blue"], ["red"]], CONFIG, file, CPU)


def test_masks_of_other_pictures(pictures, tmp_path):
    file = Kept(tmp_path / "masks.npz", "these")
    file.write(masks=np.zeros((3, 64, 64), np.uint8))
    with pytest.raises(UsageError, match="masks of other pictures"):
        stored_masks(ByColour(), pictures, [["blue"], ["red"]], CONFIG, file, CPU)


def test_masks_that_cannot_be_kept(pictures, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OutputError, match=r"cannot write .*masks\.npz: "):
        file = Kept(tmp_path / "run" / "masks.npz", "these")
        stored_masks(ByColour(), pictures, [["blue"], ["red"]], CONFIG, file, CPU)
