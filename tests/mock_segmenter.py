"""A stand-in for `segmenter` and `loading` without torch: labels by a rule on the colours.

`python tests/mock_segmenter.py ARGUMENTS` runs the whole program with it, for tests that need a
real process; MOCK_SECONDS makes every photo take that long.
"""

import os
import sys
import time
import types
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

import ovseg_cli
from ovseg_cli.segmentation import UNLABELED, Segmentation

ROOMS = ("loading", "segmenter")  # modules of ovseg_cli whose stand-in is one module


@dataclass
class MockModel:
    name: str = "mock"
    checksum: str = "ab" * 32
    device: str = "cpu"
    precision: str = "fp32"
    knows_other = True  # of all, so no field


@dataclass
class MockSegmenter:
    """A pixel's class is its red value modulo the number of classes; its confidence green/255."""

    model: MockModel
    vocabulary: object
    other: str | None = None
    threshold: float | None = None
    seconds: float = 0.0
    batches: list = field(default_factory=list)  # the size_hw of the photos of every call

    def __post_init__(self):
        if self.other is not None:
            self.vocabulary = self.vocabulary.with_class(self.other)

    def input_size(self, size_hw):
        return tuple(-(-side // 32) * 32 for side in size_hw)

    def segment(self, frames):
        sizes = {self.input_size(frame.size_hw) for frame in frames}
        assert len(sizes) == 1, "photos of one batch have one input size"
        self.batches.append([frame.size_hw for frame in frames])
        time.sleep(self.seconds * len(frames))
        return [self(frame) for frame in frames]

    def __call__(self, frame):
        labels = frame.pixels[..., 0].astype(np.int32) % len(self.vocabulary)
        confidence = frame.pixels[..., 1].astype(np.float32) / 255
        if self.threshold is not None:
            labels[confidence < self.threshold] = UNLABELED
        return Segmentation(labels, confidence, self.vocabulary)


def fake_module(model=None, seconds=0.0):
    """A module to stand in for all of ROOMS; its `made` lists the segmenters."""
    module = types.ModuleType("ovseg_cli.segmenter")
    module.made = []
    module.loaded = []

    def load_model(name_or_path="mini", device="auto", precision="auto", **adapted):
        module.loaded.append((name_or_path, device, precision, adapted))
        return model or MockModel()

    def make(model, vocabulary, *, other=None, threshold=None, **how):
        module.how = how
        segmenter = MockSegmenter(model, vocabulary, other, threshold, seconds)
        module.made.append(segmenter)
        return segmenter

    module.load_model, module.Segmenter = load_model, make
    return module


def install(seconds=0.0):
    """Let this process have a fake module, as long as it lives."""
    fake = fake_module(seconds=seconds)
    for room in ROOMS:
        sys.modules[f"ovseg_cli.{room}"] = fake
        setattr(ovseg_cli, room, fake)


def lend(monkeypatch):
    """Let this process have a fake module, as long as `monkeypatch` lasts; returns it."""
    fake = fake_module()
    for room in ROOMS:
        monkeypatch.setitem(sys.modules, f"ovseg_cli.{room}", fake)
        monkeypatch.setattr(ovseg_cli, room, fake, raising=False)
    return fake


def make_photo(path, size_wh=(48, 32), seed=0):
    """Write an image of noise, lossless where the suffix allows it; returns its path."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size_wh[::-1], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def colored(path, red, green, size_wh=(60, 40)):
    """A picture whose class is red modulo the number of classes and whose confidence green/255.

    red: one value, or one for the left and one for the right half.
    """
    left, right = red if isinstance(red, tuple) else (red, red)
    pixels = np.zeros((*size_wh[::-1], 3), np.uint8)
    pixels[:, : size_wh[0] // 2, 0], pixels[:, size_wh[0] // 2 :, 0] = left, right
    pixels[..., 1] = green
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def make_photos(folder, count, size_wh=(48, 32)):
    """Write so many different images, 00.png and so on; returns their paths."""
    return [make_photo(folder / f"{i:02}.png", size_wh, seed=i) for i in range(count)]


def files_below(folder):
    """Relative path -> bytes of all files that are neither hidden nor carry times."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".ovseg" not in path.parts and path.name != "run.json"
    }


if __name__ == "__main__":
    install(float(os.environ.get("MOCK_SECONDS", "0")))

    from ovseg_cli.cli.main import main

    main()
