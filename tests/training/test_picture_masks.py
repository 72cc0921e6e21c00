"""Where in a picture is what it is named after?"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from painted import disc, iou, painted
from torch import nn

from ovseg_cli.data.image_set import ImageSet
from ovseg_cli.data.marking import NOT_THERE, THERE
from ovseg_cli.errors import OutputError, UsageError
from ovseg_cli.training.kept import Kept
from ovseg_cli.training.picture_masks import PictureMasksConfig, picture_masks, stored_masks

CONFIG = PictureMasksConfig(sizes=(64,), batch=2)
CPU = torch.device("cpu")
WORDS = {
    "red": (1.0, 0, 0),
    "green": (0, 1.0, 0),
    "blue": (0, 0, 1.0),
    "grey": (0.577, 0.577, 0.577),
}


class ByColour(nn.Module):
    """Stands in for a network: a patch of 4×4 points at its mean colour, a name at its own."""

    def __init__(self):
        super().__init__()
        self.asked = []
        self.text = SimpleNamespace(encode=self._encode)

    def _encode(self, phrases):
        self.asked.append(tuple(phrases))
        return torch.tensor([WORDS[phrase] for phrase in phrases])

    def normalise(self, images):
        return images / 255

    def patch_features(self, images):
        return F.avg_pool2d(images, 4).permute(0, 2, 3, 1)

    def class_logits(self, features, text):
        grey = torch.tensor([WORDS["grey"]])
        return text.best(20 * features @ torch.cat([text.features, grey]).T)


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
