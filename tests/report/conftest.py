"""Output folders as `ovseg segment` leaves them, made by the segmenter without torch."""

import json
from dataclasses import asdict

import headless_browser
import numpy as np
import pytest
from mock_segmenter import MockModel, MockSegmenter, colored

from ovseg_cli.exports import select
from ovseg_cli.media.images import read_image
from ovseg_cli.media.inputs import ImageInput, InputState
from ovseg_cli.run_folder.journal_entry import Entry
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.run_folder.tables import write_classes
from ovseg_cli.vocabulary import Vocabulary


@pytest.fixture
def make_run(tmp_path):
    """Makes an output folder of (photo, REL) pairs, failures and names."""

    def make(
        photos, names=("sky", "road", "car"), *, failures=(), save=("overlay", "labels"), out="out"
    ):
        vocabulary = Vocabulary(names)
        segmenter = MockSegmenter(MockModel(), vocabulary)
        output = OutputFolder(tmp_path / out, select(save, vocabulary))
        output.open(vocabulary, run="run-1", metadata={})
        for path, rel in photos:
            frame = read_image(path)
            image = ImageInput(str(path), rel)
            output.save(image, InputState.of(path), frame, segmenter(frame))
        for path, reason in failures:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
            output.forget(ImageInput(str(path), path.name), InputState.of(path), reason)
        record = {"version": "1.2.3", "command": "ovseg segment photos", "status": "complete"}
        record |= {"model": {"name": "mock", "checksum": "ab" * 32}, "options": {"exif": True}}
        failed = [{"path": str(path), "reason": reason} for path, reason in failures]
        output.write_report(record | {"failures": failed})
        return tmp_path / out

    return make


@pytest.fixture
def run_of_three(make_run, tmp_path):
    """Photos of one class each, and one half road, half car; confidences 0.8, 0.4 and 0.2."""
    photos = tmp_path / "photos"
    return make_run(
        [
            (colored(photos / "blue.png", 0, 204), "blue"),
            (colored(photos / "street.png", (1, 2), 102), "street"),
            (colored(photos / "10" / "grey.png", 1, 51), "10/grey"),
        ],
        failures=[(photos / "broken.png", "the file is empty")],
    )


@pytest.fixture
def run_of_thousands(tmp_path):
    """An output folder whose journal tells of 5000 photos, without any picture."""
    out, count, names = tmp_path / "thousands", 5000, ("sky", "road", "car", "tree", "dog")
    random = np.random.default_rng(0)
    (out / ".ovseg").mkdir(parents=True)
    write_classes(out, Vocabulary(names))
    with (out / ".ovseg/journal.jsonl").open("w") as stream:
        for number in range(count):
            pixels = random.multinomial(100_000, random.dirichlet([0.5] * len(names))).tolist()
            areas = tuple(
                (i, n, round(float(random.random()), 6)) for i, n in enumerate(pixels) if n
            )
            rel = f"{number % 17:02}/photo {number}"
            entry = Entry(
                rel, f"/gone/{rel}.jpg", 1, 1, "r", 400, 250, areas, finished=float(number)
            )
            stream.write(json.dumps(asdict(entry)) + "\n")
    return out


@pytest.fixture
def browser(tmp_path):
    """A headless Chromium."""
    if headless_browser.PROGRAM is None:
        pytest.skip("no chromium here")
    started = headless_browser.Browser(tmp_path / "profile")
    yield started
    started.close()
