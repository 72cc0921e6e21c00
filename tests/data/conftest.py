"""A labelled data set of three photos, made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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
