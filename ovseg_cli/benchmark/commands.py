"""Speed of the whole program, each command measured as a process of its own.

A process's time includes what a user waits for: start-up, reading, computing, writing. Each figure
is the median of several runs, and what is compared runs in turn, so that a drift of the machine's
speed falls on both.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ovseg_cli.batch.options import auto_batch_size, auto_streams
from ovseg_cli.benchmark.figure import HIGHER, LOWER, Figure
from ovseg_cli.benchmark.fresh import in_fresh_process
from ovseg_cli.benchmark.made_up import write_photos
from ovseg_cli.benchmark.plan import NAMES, Load, Plan
from ovseg_cli.cores import available_cores, keep_freed_memory, share_cores
from ovseg_cli.errors import OvsegError
from ovseg_cli.media.images import read_image
from ovseg_cli.run_folder.layout import REPORT

PHOTO_HW = (360, 480)


def start(plan: Plan) -> Iterator[Figure]:
    """What is waited for before the first photo is there."""

    def seconds(key: str, name: str, values: list[float]) -> Figure:
        return Figure(f"start.{key}", name, statistics.median(values), "s", LOWER)

    helped = [_run([sys.executable, "-m", "ovseg_cli", "--help"]) for _ in range(plan.runs)]
    yield seconds("help", "ovseg --help", helped)
    segment = _Segment(plan)
    photo = write_photos(plan.folder / "single", 1, PHOTO_HW)
    segment.run(photo)  # the vocabulary's features are kept from here on
    pairs = [
        (_run([sys.executable, "-c", "import torch"]), segment.run(photo)) for _ in range(plan.runs)
    ]
    yield seconds("torch", "import torch", [torch for torch, _ in pairs])
    yield seconds("photo", "one photo, vocabulary cached", [one for _, one in pairs])
    beyond = [one - torch for torch, one in pairs]
    yield seconds("beyond", "one photo beyond import torch", beyond)


def throughput(plan: Plan) -> Iterator[Figure]:
    """Photos a second, from file to files, and for the model alone."""
    segment = _Segment(plan)
    photos = write_photos(plan.folder / "photos", plan.photos, PHOTO_HW)
    alone, whole, started = [], [], []  # photos a second
    for _ in range(plan.runs):
        # A fresh process, so that the model divides the cores as the command's does.
        alone.append(in_fresh_process(_model_alone, plan.load, photos))
        seconds = segment.run(photos)
        whole.append(plan.photos / segment.run_seconds())
        started.append(plan.photos / seconds)

    def rate(key: str, name: str, values: list[float]) -> Figure:
        return Figure(f"throughput.{key}", name, statistics.median(values), "1/s", HIGHER)

    size = f"{PHOTO_HW[1]}×{PHOTO_HW[0]}"
    yield rate("files", f"photos at {size}, files read and written", whole)
    yield rate("model", "the same in memory, the model alone", alone)
    share = statistics.median(w / a for w, a in zip(whole, alone, strict=True))
    yield Figure("throughput.share", "share of the model alone", share, "", HIGHER)
    yield rate("started", "the same with start-up", started)


class _Segment:
    """Runs `ovseg segment` on a folder of photos."""

    def __init__(self, plan: Plan) -> None:
        self.out = plan.folder / "out"
        self.options = [
            *("--classes", ",".join(NAMES.names), "--output", str(self.out)),
            *("--overwrite", "--quiet", *plan.options),
        ]

    def run(self, photos: Path) -> float:
        """Seconds that the process takes."""
        return _run([sys.executable, "-m", "ovseg_cli", "segment", str(photos), *self.options])

    def run_seconds(self) -> float:
        """What the last run took from its first photo to its last, by its own record."""
        record = json.loads((self.out / REPORT).read_text("utf-8"))
        return float(record["timing"]["run_seconds"])


def _model_alone(load: Load, photos: Path) -> float:
    """Photos a second from decoded photos to labels, in passes and memory like `segment`'s."""
    images = [read_image(path) for path in sorted(photos.iterdir())]
    share_cores(auto_streams("cpu", available_cores()))
    keep_freed_memory()
    segmenter = load(NAMES)
    segmenter(images[0])
    device = str(segmenter.model.device)
    size = auto_batch_size(device)
    groups = [images[first : first + size] for first in range(0, len(images), size)]
    started = time.perf_counter()
    with ThreadPoolExecutor(auto_streams(device, available_cores())) as passes:
        for _ in passes.map(segmenter.segment, groups):
            pass
    return len(images) / (time.perf_counter() - started)


def _run(command: list[str]) -> float:
    """Run a program to its end; its seconds."""
    started = time.perf_counter()
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if ended.returncode:
        message = ended.stderr.decode(errors="replace").strip()
        raise OvsegError(f"{' '.join(command[1:5])} failed: {message}")
    return time.perf_counter() - started
