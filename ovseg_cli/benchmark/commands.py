"""Speed and memory of the whole program, each measured as a process of its own.

A process's time includes what a user waits for: start-up, reading, computing, writing. Each figure
is the median of several runs, and what is compared runs in turn, so that a drift of the machine's
speed falls on both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg_cli.batch import auto_streams
from ovseg_cli.benchmark.figure import Figure
from ovseg_cli.cores import available_cores, share_cores
from ovseg_cli.errors import OvsegError
from ovseg_cli.media.images import read_image
from ovseg_cli.vocabulary import Vocabulary

PHOTO_HW = (360, 480)
LARGE_HW = (3000, 4000)  # 12 megapixels
NAMES = ["sky", "building", "tree", "road", "car", "person", "grass", "water", "dog", "bird"]


@dataclass(frozen=True)
class _Process:
    seconds: float
    peak_bytes: int  # 0 where the system does not tell


def bench(model: str, photos: int, runs: int, folder: Path) -> Iterator[Figure]:
    """Measure and yield one figure after the other; `folder` takes photos and results.

    model: a name or path; photos: how many the throughput is measured on; runs: of each command.
    """
    small = _photos(folder / "photos", photos, PHOTO_HW)
    single = _photos(folder / "single", 1, PHOTO_HW)
    large = _photos(folder / "large", 1, LARGE_HW)
    segment = _Segment(model, folder)
    yield from _start_up(segment, single, runs)
    yield from _throughput(segment, small, runs)
    yield from _names(segment, large, runs)


class _Segment:
    """Runs `ovseg segment` on a folder of photos."""

    def __init__(self, model: str, folder: Path) -> None:
        self.model = model
        self.out = folder / "out"

    def command(self, photos: Path, names: Sequence[str]) -> list[str]:
        options = ["--classes", ",".join(names), "--model", self.model, "--output", str(self.out)]
        program = [sys.executable, "-m", "ovseg_cli", "segment", str(photos)]
        return [*program, *options, "--overwrite", "--quiet"]

    def run(self, photos: Path, names: Sequence[str]) -> _Process:
        return _run(self.command(photos, names))

    def run_seconds(self) -> float:
        """What the last run took from its first photo to its last, by its own record."""
        record = json.loads((self.out / "run.json").read_text("utf-8"))
        return float(record["timing"]["run_seconds"])


def _start_up(segment: _Segment, photo: Path, runs: int) -> Iterator[Figure]:
    help_seconds = _median(lambda: _run([sys.executable, "-m", "ovseg_cli", "--help"]), runs)
    yield Figure("ovseg --help", help_seconds, "s")
    segment.run(photo, NAMES)  # the vocabulary's features are kept from here on
    pairs = [
        (_run([sys.executable, "-c", "import torch"]).seconds, segment.run(photo, NAMES).seconds)
        for _ in range(runs)
    ]
    yield Figure("import torch", statistics.median(torch for torch, _ in pairs), "s")
    yield Figure("one photo, vocabulary cached", statistics.median(one for _, one in pairs), "s")
    extra = statistics.median(one - torch for torch, one in pairs)
    yield Figure("one photo beyond import torch", extra, "s")


def _throughput(segment: _Segment, photos: Path, runs: int) -> Iterator[Figure]:
    count = len(list(photos.iterdir()))
    alone, whole, started = [], [], []  # photos a second
    for _ in range(runs):
        # A fresh process, so that the model divides the cores as the command's does.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            alone.append(fresh.submit(_model_alone, segment.model, photos).result())
        process = segment.run(photos, NAMES)
        whole.append(count / segment.run_seconds())
        started.append(count / process.seconds)
    size = f"{PHOTO_HW[1]}×{PHOTO_HW[0]}"
    yield Figure(f"photos at {size}, files read and written", statistics.median(whole), "1/s")
    yield Figure("the same in memory, the model alone", statistics.median(alone), "1/s")
    share = statistics.median(w / a for w, a in zip(whole, alone, strict=True))
    yield Figure("share of the model alone", share, "")
    yield Figure("the same with start-up", statistics.median(started), "1/s")


def _model_alone(model: str, photos: Path) -> float:
    """Photos a second from decoded photos to labels, with as many passes at once as `segment`."""
    images = [read_image(path) for path in sorted(photos.iterdir())]
    streams = auto_streams("cpu", available_cores(), len(images))
    share_cores(streams)
    from ovseg_cli.segmenter import Segmenter, load_model

    segmenter = Segmenter(load_model(model, device="cpu"), Vocabulary(NAMES))
    segmenter(images[0])
    started = time.perf_counter()
    with ThreadPoolExecutor(streams) as passes:
        for _ in passes.map(segmenter, images):
            pass
    return len(images) / (time.perf_counter() - started)


def _names(segment: _Segment, photo: Path, runs: int) -> Iterator[Figure]:
    few = NAMES
    many = [*NAMES, *(f"thing number {i}" for i in range(1000 - len(NAMES)))]
    for names in (few, many):
        segment.run(photo, names)  # features are computed once, outside the comparison
    pairs = [(segment.run(photo, few), segment.run(photo, many)) for _ in range(runs)]
    size = f"{LARGE_HW[0] * LARGE_HW[1] / 1e6:.0f} megapixels"
    for label, index in (("10 names", 0), ("1000 names", 1)):
        seconds = statistics.median(pair[index].seconds for pair in pairs)
        yield Figure(f"{size}, {label}", seconds, "s")
        peak = statistics.median(pair[index].peak_bytes for pair in pairs)
        yield Figure(f"{size}, {label}, peak memory", peak / 1e6, "MB")
    time_ratio = statistics.median(b.seconds / a.seconds for a, b in pairs)
    yield Figure("1000 names against 10, time", time_ratio, "×")
    if pairs[0][0].peak_bytes:
        peak_ratio = statistics.median(b.peak_bytes / a.peak_bytes for a, b in pairs)
        yield Figure("1000 names against 10, peak memory", peak_ratio, "×")


def _run(command: list[str]) -> _Process:
    """Run a program to its end; its time and largest memory."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    message = process.stderr.read().decode(errors="replace")
    if hasattr(os, "wait4"):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    else:
        process.wait()
        peak = 0
    process.stderr.close()
    if process.returncode:
        raise OvsegError(f"{' '.join(command[1:5])} failed: {message.strip()}")
    return _Process(time.perf_counter() - started, peak)


def _median(run: Callable[[], _Process], runs: int) -> float:
    return statistics.median(run().seconds for _ in range(runs))


def _photos(folder: Path, count: int, size_hw: tuple[int, int]) -> Path:
    """Pictures with large and small structure, so that files are as large as photos' are."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = size_hw
    for index in range(count):
        draw = np.random.default_rng(index)
        coarse = draw.integers(0, 256, (6, 8, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        grain = draw.integers(-12, 13, (height, width, 1))
        pixels = (np.asarray(smooth, np.int16) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:04}.jpg", quality=90)
    return folder
