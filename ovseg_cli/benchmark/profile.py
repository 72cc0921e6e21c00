"""Where the time of a photo goes, from its file to the files of its results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch

from ovseg_cli import exports, scoring, segmenter
from ovseg_cli.batch import options as batch_options
from ovseg_cli.batch import run as batch
from ovseg_cli.benchmark.figure import HIGHER, LOWER, Figure
from ovseg_cli.benchmark.spans import Span, Tracer
from ovseg_cli.cores import available_cores
from ovseg_cli.errors import OvsegError
from ovseg_cli.media.images import read_image
from ovseg_cli.media.inputs import ImageInput
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.segmentation import Segmentation

SAVE = ("overlay", "labels")
PHOTO, REST = "photo", "rest"
MODEL = "model"
# What of a network is a part, by attributes from the network down; no model has all of them.
PARTS = {
    "backbone": "backbone",
    "clip_images": "CLIP's smaller copy",
    "shallow": "CLIP's shallow layers",
    "propose": "side adapter",
    "recognise": "recognition (CLIP's deep layers)",
    "proposals.pixel_decoder": "pixel decoder",
    "proposals.transformer": "transformer",
    "proposals": "mask embeddings and masks",
    "visual.context": "context layers",
    "visual.pixel_decoder": "visual encoder's pixel decoder",
    "visual.severed": "severed layers",
    "visual.cosines": "visual encoder, and its patches by names",
    "visual": "visual encoder",
    "heatmap_decoder": "heatmaps (CAL)",
}
# In the order in which a photo goes through them. A span's label is a stage, or stage/part.
STAGES = {
    "decode": "decode",
    "resize": "resize to the network's input",
    MODEL: "model",
    "scores": "scores (class logits)",
    "labels": "argmax and upsampling",
    "statistics": "areas of the classes",
    "encode": "draw and encode",
    "write": "write",
    REST: "the rest",
}


@dataclass(frozen=True)
class Profile:
    """Two runs over the same photos."""

    alone: Sequence[Span]  # one photo after the other, all parts
    piped: Sequence[Span]  # as `ovseg segment` has it: stages of several photos at once
    photos: int

    def figures(self) -> Iterator[Figure]:
        """Milliseconds a photo of every stage and of the model's parts, and the whole."""
        own = _own_times(self.alone)
        whole = sum(own.values())
        parts: dict[str, dict[str, float]] = {stage: {} for stage in STAGES}
        for label, seconds in own.items():
            stage, _, part = label.partition("/")
            found = parts[stage if stage in STAGES else REST]
            found[part] = found.get(part, 0.0) + seconds

        def figure(key: str, name: str, seconds: float, better: str = "") -> Figure:
            share = seconds / whole
            milliseconds = 1000 * seconds / self.photos
            return Figure(f"profile.{key}", name, milliseconds, "ms", better, share=share)

        for stage, name in STAGES.items():
            yield figure(stage, name, sum(parts[stage].values()))
            if stage == MODEL:
                known = {**PARTS, "": STAGES[REST]}
                for part in (part for part in known if part in parts[stage]):
                    seconds = parts[stage][part]
                    yield figure(f"{stage}.{part or REST}", f"  {known[part]}", seconds)
        yield figure(PHOTO, "a photo in all", whole, LOWER)
        yield from self._pipeline()

    def _pipeline(self) -> Iterator[Figure]:
        begin, end = min(s.begin for s in self.piped), max(s.end for s in self.piped)
        rate = self.photos / (end - begin)
        yield Figure("profile.rate", "stages side by side, as in segment", rate, "1/s", HIGHER)
        passes = [span for span in self.piped if span.label == MODEL]
        # Before the first pass there is nothing to compute, after the last nothing more.
        first, last = min(s.begin for s in passes), max(s.end for s in passes)
        busy = _covered(passes) / (last - first)
        yield Figure(
            "profile.busy", "  from the first pass to the last: a pass runs", busy, "of it"
        )


def profile(
    segment: segmenter.Segmenter, photos: Sequence[Path], folder: Path, runs: int = 1
) -> Profile:
    """Segment photos `runs` times, one by one and then side by side; `folder` takes the results.

    Raises InputError for a photo that cannot be read.
    """
    device = segment.model.device
    cuda = device.type == "cuda"
    wait = torch.cuda.synchronize if cuda else _nothing
    writers = exports.select(SAVE, segment.vocabulary)
    frame = read_image(photos[0], seen_at=segment.input_size)
    for _ in range(2):  # the first passes are slower
        segment(frame)
    with Tracer(wait) as tracer:
        _watch_parts(tracer, segment)
        for _ in range(runs):
            for photo in photos:
                _one(tracer, segment, photo, folder, writers)
    return Profile(tracer.spans, _side_by_side(segment, photos, folder, runs), runs * len(photos))


def _one(
    tracer: Tracer, segment: segmenter.Segmenter, photo: Path, folder: Path, writers: Any
) -> None:
    with tracer.span(PHOTO):
        with tracer.span("decode"):
            frame = read_image(photo, seen_at=segment.input_size)
        with tracer.span(REST):
            result = segment(frame)
        result.areas()
        for writer in writers:
            with tracer.span("encode"):
                writer.write(writer.target(folder, photo.stem), frame, result, {})


def _watch_parts(tracer: Tracer, segment: segmenter.Segmenter) -> None:
    network = segment.model.network
    tracer.watch(scoring, "prepare", "resize")
    tracer.watch(network, "forward", MODEL)
    tracer.watch(network, "class_logits", "scores")
    tracer.watch(scoring, "score_map", "scores")
    tracer.watch(segmenter, "label_map", "labels")
    tracer.watch(Segmentation, "areas", "statistics")
    tracer.watch_block(exports, "atomic_path", "write")
    for path in PARTS:
        *parents, name = path.split(".")
        try:
            owner = reduce(getattr, parents, network)
            part = getattr(owner, name)
        except AttributeError:
            continue
        for module in part if isinstance(part, torch.nn.ModuleList) else [part]:
            if isinstance(module, torch.nn.Module):
                tracer.watch(module, "forward", f"{MODEL}/{path}")
            else:  # a method
                tracer.watch(owner, name, f"{MODEL}/{path}")


def _side_by_side(
    segment: segmenter.Segmenter, photos: Sequence[Path], folder: Path, runs: int
) -> list[Span]:
    """The stages of all photos as `ovseg segment` runs them, each in the thread it runs in."""
    device = str(segment.model.device)
    inputs = [
        ImageInput(str(photo), f"{turn}/{number}")
        for turn in range(runs)
        for number, photo in enumerate(photos)
    ]
    streams = batch_options.auto_streams(device, available_cores())
    options = batch_options.BatchOptions(
        batch_size=batch_options.auto_batch_size(device),
        streams=streams,
        workers=min(8, available_cores()),
    )
    output = OutputFolder(folder / "side-by-side", exports.select(SAVE, segment.vocabulary))
    output.open(segment.vocabulary, run="profile", metadata={})
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // streams))
    with Tracer() as tracer:
        tracer.watch(batch, "read_image", "decode")
        tracer.watch(segment, "segment", MODEL)
        tracer.watch(output, "save", "encode")
        for result in batch.run(inputs, segment, output, options):
            if result.status != "done":
                raise OvsegError(f"{result.image.name}: {result.reason}")
    torch.set_num_threads(threads)
    return tracer.spans


def _own_times(spans: Sequence[Span]) -> dict[str, float]:
    """Seconds of each label in which nothing within it ran."""
    own: dict[str, float] = {}
    for span in spans:
        own[span.label] = own.get(span.label, 0.0) + span.own
    return own


def _covered(spans: Sequence[Span]) -> float:
    """Seconds in which at least one of the spans runs."""
    seconds, until = 0.0, -float("inf")
    for span in sorted(spans, key=lambda span: span.begin):
        seconds += max(0.0, span.end - max(span.begin, until))
        until = max(until, span.end)
    return seconds


def _nothing() -> None:
    return
