"""A labelled set of two photos, and one with background."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg_cli.data.pixel_set import PixelSet, read_pixel_set

TRUTH = {"a": [[0, 3, 7], [7, 7, 255]], "b/c": [[0, 0, 0], [3, 3, 3]]}


def make_set(root: Path, classes: dict[int, str]) -> PixelSet:
    root.mkdir()
    (root / "classes.json").write_text(json.dumps(classes))
    (root / "val.txt").write_text("\n".join(TRUTH))
    for key, ids in TRUTH.items():
        for folder, pixels in (("images", np.zeros((2, 3, 3))), ("labels", np.array(ids))):
            file = root / folder / f"{key}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    return read_pixel_set(root, "val")


@pytest.fixture
def pets(tmp_path: Path) -> PixelSet:
    """Ids 0 cat, 3 dog, 7 bird; a pixel of photo a is ignored."""
    return make_set(tmp_path / "pets", {0: "cat", 3: "dog", 7: "bird"})


@pytest.fixture
def pets_outside(tmp_path: Path) -> PixelSet:
    """Ids 0 background, 3 dog, 7 bird."""
    return make_set(tmp_path / "outside", {0: "background", 3: "dog", 7: "bird"})
