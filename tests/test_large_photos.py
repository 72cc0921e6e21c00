"""Photos of many megapixels: labels at their size, memory as the README's formula says."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import ovseg_cli
from ovseg_cli.media import images
from ovseg_cli.media.images import read_image

NAMES = ["sky", "tree", "water"]
BYTES_A_PIXEL = 19  # README, "Memory"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("OVSEG_HOME", str(tmp_path / "home"))


def large_photo(path, size_wh):
    """A smooth picture as a JPEG file; returns its path."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    Image.fromarray(coarse).resize(size_wh, Image.Resampling.BICUBIC).save(path)
    return path


# What a process is at most is at least what the one was that started it: so a small one does.
WATCH = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
print(process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def segment(path, out, *options):
    """Run the command in a process of its own; returns its largest memory in bytes."""
    program = [sys.executable, "-m", "ovseg_cli", "segment", str(path), "--quiet"]
    options = ["--classes", ",".join(NAMES), "-o", str(out), *options]
    watched = [sys.executable, "-c", WATCH, *program, *options]
    ran = subprocess.run(watched, stdout=subprocess.PIPE, text=True, check=True)
    code, peak = map(int, ran.stdout.split())
    assert code == 0
    return peak


@pytest.fixture
def model():
    return ovseg_cli.load_model("mini", device="cpu")


class TestReduced:
    def test_labels_are_nearly_those_of_the_photo_decoded_whole(self, model, tmp_path):
        path = large_photo(tmp_path / "a.jpg", (2001, 1503))
        assert read_image(path, seen_at=lambda size_hw: (320, 427)).view.shape == (752, 1000, 3)
        reduced = model.segment(path, NAMES)
        whole = model.segment(read_image(path).pixels, NAMES)
        assert reduced.labels.shape == (1503, 2001)
        assert (reduced.labels == whole.labels).mean() > 0.98
        assert np.abs(reduced.confidence - whole.confidence).mean() < 0.01

    def test_arrays_and_pictures_are_taken_as_they_are(self, model, tmp_path, monkeypatch):
        pixels = read_image(large_photo(tmp_path / "a.jpg", (1800, 1300))).pixels
        before = model.segment(pixels, NAMES), model.segment(Image.fromarray(pixels), NAMES)
        monkeypatch.setattr(images, "AMPLE", 1)
        after = model.segment(pixels, NAMES)
        for result in before:
            np.testing.assert_array_equal(result.labels, after.labels)
            np.testing.assert_array_equal(result.confidence, after.confidence)


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not tell a child's memory")
def test_memory_grows_as_the_formula_says(tmp_path):
    small_wh, large_wh = (900, 600), (6000, 4000)
    path = large_photo(tmp_path / "large.jpg", large_wh)
    # The first run computes the names' features, and labels do not depend on what else is written.
    segment(path, tmp_path / "fewer", "--save", "labels")
    small = segment(large_photo(tmp_path / "small.jpg", small_wh), tmp_path / "small")
    large = segment(path, tmp_path / "large")
    predicted = BYTES_A_PIXEL * (large_wh[0] * large_wh[1] - small_wh[0] * small_wh[1])
    assert 0.5 * predicted < large - small < 1.2 * predicted
    assert Image.open(tmp_path / "large" / "labels" / "large.png").size == large_wh
    assert Image.open(tmp_path / "large" / "overlays" / "large.jpg").width == large_wh[0]
    labels = [tmp_path / out / "labels" / "large.png" for out in ("large", "fewer")]
    assert labels[0].read_bytes() == labels[1].read_bytes()
