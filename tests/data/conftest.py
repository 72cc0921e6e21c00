"""Data sets of three photos or pictures, made by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.data.image_sampler import ImageSampler
from ovseg_cli.data.image_set import ImageSet


@pytest.fixture
def garden(tmp_path: Path) -> Path:
    """Ids 0 background, 2 tree, 5 path; photos of several formats; one list per split."""
    root = tmp_path / "garden"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    (root / "classes.json").write_text(json.dumps({"5": "path", "0": "background", "2": "tree"}))
    (root / "train.txt").write_text("a\r\nb\n\n")
    (root / "val.txt").write_text("c")
    stored = np.array([[0, 2, 5, 255], [0, 2, 5, 7], [0, 2, 2, 2]], np.uint8)  # 7: no class
    for index, (key, suffix) in enumerate((("a", ".png"), ("b", ".jpg"), ("c", ".webp"))):
        colour = np.full((3, 4, 3), 60 * index, np.uint8)
        Image.fromarray(colour).save(root / "images" / f"{key}{suffix}")
        Image.fromarray(np.roll(stored, index, axis=0)).save(root / "labels" / f"{key}.png")
    return root


@pytest.fixture
def write_plains() -> Callable[[Path], Path]:
    """Writes a set of photos of 40×40: one has a rare class, all the common one, none the third."""
    return _write_plains


@pytest.fixture
def plains(tmp_path: Path) -> Path:
    """The set of `write_plains`."""
    return _write_plains(tmp_path / "plains")


def _write_plains(root: Path) -> Path:
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    names = {0: "background", 1: "common", 2: "rare", 3: "never"}
    (root / "classes.json").write_text(json.dumps(names))
    (root / "train.txt").write_text("p0\np1\np2\n")
    for index in range(3):
        labels = np.ones((40, 40), np.uint8)
        labels[:4] = 0
        labels[-1] = 255
        if index == 1:
            labels[10:18, 10:18] = 2
        Image.fromarray(labels).save(root / "labels" / f"p{index}.png")
        photo = np.full((40, 40, 3), 100 + index, np.uint8)
        photo[labels == 2] = 200
        Image.fromarray(photo).save(root / "images" / f"p{index}.png")
    return root


@pytest.fixture
def marked() -> ImageSampler:
    """Three pictures of which the left half, all, and nothing for sure is what they are named."""
    colours = np.array([10, 20, 30], np.uint8)
    images = np.broadcast_to(colours[:, None, None, None], (3, 16, 16, 3)).copy()
    images[0, :, 8:] = 12
    masks = np.zeros((3, 16, 16), np.uint8)
    masks[0, :, :8] = masks[1] = 1
    masks[2] = 255
    names = (("a", "ah"), ("b",))
    return ImageSampler("pets", ImageSet(images, np.array([1, 0, 0]), names), masks)
