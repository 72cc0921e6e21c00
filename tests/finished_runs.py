"""Output folders of `ovseg segment` with label maps that a test chooses."""

from pathlib import Path

import numpy as np
from PIL import Image

from ovseg_cli.exports import select
from ovseg_cli.formats import FORMATS, export
from ovseg_cli.formats.labelled import LabelledRun
from ovseg_cli.formats.options import ExportOptions
from ovseg_cli.json_files import write_json
from ovseg_cli.media.images import read_image
from ovseg_cli.media.inputs import ImageInput, InputState
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary


def blobs(size_hw=(90, 120), classes=3, seed=0, unlabelled=True):
    """A label map of smooth shapes with holes, all classes but the last in it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    labels = np.zeros(size_hw, np.int32)
    for _ in range(12):
        centre, radius = rng.uniform((0, 0), size_hw), rng.uniform(6, min(size_hw) / 3)
        inside = np.hypot(y - centre[0], x - centre[1]) < radius
        labels[inside] = rng.integers(-1 if unlabelled else 0, classes - 1)
    return labels


def photo_at(path, size_hw, seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


class MadeRun:
    """A run whose label maps are known; `export` writes it in a format."""

    def __init__(self, folder: Path, names, save=("labels",)) -> None:
        self.folder, self.out = folder, folder / "out"
        self.vocabulary = Vocabulary(names)
        self.labels: dict[str, np.ndarray] = {}  # by REL
        self.photos: dict[str, Path] = {}
        self._output = OutputFolder(self.out, select(save, self.vocabulary))
        self._output.open(self.vocabulary, run="run", metadata={})

    def add(self, rel, labels, name=None, photo=None, exif=True):
        path = photo or photo_at(self.folder / "photos" / (name or f"{rel}.png"), labels.shape)
        frame = read_image(path, exif=exif)
        assert frame.size_hw == labels.shape
        confidence = np.full(labels.shape, 0.5, np.float32)
        segmentation = Segmentation(labels.astype(np.int32), confidence, self.vocabulary)
        image = ImageInput(str(path), rel)
        self._output.save(image, InputState.of(path), frame, segmentation)
        self.labels[rel], self.photos[rel] = labels, path
        return self

    def record(self, **values):
        write_json(self.out / "run.json", {"model": {"name": "mini"}, **values})

    def open(self):
        return LabelledRun(self.out)

    def export(self, name, folder=None, **options):
        """The folder; `left_out` holds what was said of each photo that could not be had."""
        folder, run = folder or self.folder / "exported", self.open()
        export(run, FORMATS[name], folder, ExportOptions(**options))
        self.left_out = {rel: str(error) for rel, error in run.left_out.items()}
        return folder


HOSTILE = ["sky", "天空|ciel", 'a:b "q" <i>&#\\', "#x\nnewline\t\x1b[2J\x9b", "never", "🏠\u2028x"]
