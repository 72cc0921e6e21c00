"""One clip through a model: decoding, computing and writing overlap, in bounded memory."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, Protocol

from ovseg_cli.batch.read_ahead import ReadAhead
from ovseg_cli.failures import is_out_of_memory
from ovseg_cli.frame import Frame
from ovseg_cli.media.opencv import load_opencv
from ovseg_cli.segmentation import Segmentation

PIXELS_AT_A_STAGE = 64_000_000  # read ahead, being computed, being written: each about

logger = logging.getLogger(__name__)

Chosen = tuple[Frame, bool]  # and whether it is segmented anew


class Labeller(Protocol):
    """What turns frames into labels; one for each clip."""

    def look(self, frames: Sequence[Frame], before: Frame | None) -> Any:
        """The part of the work that does not depend on earlier frames; for several threads.

        frames: consecutive ones of one size; before: the one before the first of them.
        """

    def label(self, seen: Any) -> list[Segmentation]:
        """The rest, in the order of the frames."""


class EachForItself:
    """Labels that depend on their frame alone."""

    def __init__(self, segmenter: Any) -> None:
        """segmenter: has `segment` as `ovseg_cli.segmenter.Segmenter` has."""
        self._segmenter = segmenter

    def look(self, frames: Sequence[Frame], before: Frame | None) -> list[Segmentation]:
        """See `Labeller`."""
        found: list[Segmentation] = self._segmenter.segment(frames)
        return found

    def label(self, seen: list[Segmentation]) -> list[Segmentation]:
        """See `Labeller`."""
        return seen


class Writer(Protocol):
    """Where labelled frames go, one after the other."""

    def write(self, frame: Frame, segmentation: Segmentation, held: bool) -> None:
        """held: the labels are those of an earlier frame. Raises OutputError."""


@dataclass(frozen=True)
class RunOptions:
    """How the work is done; nothing of it changes what comes out."""

    batch_size: int = 1  # frames in one pass of the model, at most
    streams: int = 1  # passes at the same time


@dataclass(frozen=True, eq=False)
class FrameResult:
    """A frame that is labelled and written."""

    frame: Frame
    segmentation: Segmentation
    held: bool


def run(
    frames: Iterable[Chosen],
    labeller: Labeller,
    writer: Writer,
    options: RunOptions,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[FrameResult, None, None]:
    """Label frames and hand them to the writer; yields each when it is written, in order.

    frames: of one size, the first to be segmented. Where stop() becomes true, what is computed is
    still written. What goes wrong in reading, computing or writing is raised after everything
    before it has been written and yielded.
    """
    return _Run(labeller, writer, options, stop).results(frames)


@dataclass(frozen=True, eq=False)
class _Batch:
    chosen: list[Chosen]
    frames: list[Frame]  # those of them that are segmented: the first, or none
    before: Frame | None  # the last one segmented before these


class _Run:
    """Its threads: the caller's, which labels in order; one that reads; `streams` that look; one
    that writes.
    """

    def __init__(
        self, labeller: Labeller, writer: Writer, options: RunOptions, stop: Callable[[], bool]
    ) -> None:
        self.labeller = labeller
        self.writer = writer
        self.options = options
        self.stop = stop
        self.looking: deque[tuple[_Batch, Future[list[Any]]]] = deque()
        self.writing: deque[Future[FrameResult]] = deque()
        self.last: Segmentation | None = None
        self.unread: Exception | None = None  # why no more frames come
        self.unwritten: Exception | None = None  # why no more can be written
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="ovseg-reader")
        self.streams = ThreadPoolExecutor(options.streams, thread_name_prefix="ovseg-model")
        self.files = ThreadPoolExecutor(1, thread_name_prefix="ovseg-files")

    def results(self, frames: Iterable[Chosen]) -> Generator[FrameResult, None, None]:
        following = _following(frames)
        ahead = ReadAhead(
            repeat(None),
            lambda _: next(following),
            self.reader,
            workers=1,
            max_items=self.options.streams * self.options.batch_size + 1,
            max_pixels=PIXELS_AT_A_STAGE,
        )
        try:
            for batch in self.batches(ahead):
                if batch.frames:
                    self.looking.append((batch, self.streams.submit(self.look, batch)))
                elif self.looking:  # they take the labels that come last of it
                    self.looking[-1][0].chosen.extend(batch.chosen)
                else:
                    yield from self.hand_over(batch, deque())
                while self.is_full():
                    yield from self.label_oldest()
                if self.looking and self.looking[0][1].done():
                    yield from self.label_oldest()
                yield from self.written(wait=False)
            while self.looking:
                yield from self.label_oldest()
            yield from self.written(wait=True)
            if self.unread is not None:
                raise self.unread
        except Exception:
            yield from self.written(wait=True)
            raise
        finally:
            ahead.close()
            for pool in (self.reader, self.streams, self.files):
                pool.shutdown(cancel_futures=True)

    def batches(self, ahead: ReadAhead[None, Chosen | None]) -> Iterator[_Batch]:
        """So many frames to be segmented at a time, and those between.

        Of a still scene frames without end may take the labels of one: they do not wait for the
        next one to be segmented. A batch of none where something is ready before the next frame is.
        """
        before: Frame | None = None
        batch = _Batch([], [], before)
        for chosen in self.read(ahead):
            if self.stop():
                break
            if chosen is None:
                yield _Batch([], [], before)
                continue
            batch.chosen.append(chosen)
            if chosen[1]:
                batch.frames.append(chosen[0])
                before = chosen[0]
            if len(batch.frames) in (0, self.options.batch_size) or _hold_many([batch]):
                yield batch
                batch = _Batch([], [], before)
        if batch.chosen:
            yield batch

    def read(self, ahead: ReadAhead[None, Chosen | None]) -> Iterator[Chosen | None]:
        """Until the end or an error, which is kept for later.

        None where a look or what is written is ready before the next frame is: a live source may
        give that late, or never.
        """
        frames = iter(ahead)
        try:
            while (coming := ahead.coming()) is not None:
                oldest: list[Future[Any]] = [future for _, future in self.looking][:1]
                oldest += list(self.writing)[:1]
                wait([coming, *oldest], return_when=FIRST_COMPLETED)
                if not coming.done():
                    yield None
                elif (chosen := next(frames)) is not None:
                    yield chosen
                else:
                    return
        except Exception as error:
            self.unread = error

    def look(self, batch: _Batch) -> list[Any]:
        try:
            return [self.labeller.look(batch.frames, batch.before)]
        except Exception as error:
            if not is_out_of_memory(error) or len(batch.frames) < 2:
                raise
        logger.warning("%d frames at once need too much memory", len(batch.frames))
        pairs = zip([batch.before, *batch.frames], batch.frames, strict=False)
        return [self.labeller.look([frame], before) for before, frame in pairs]

    def is_full(self) -> bool:
        """Whether to wait for the oldest look."""
        # One more than there are streams, so that none idles while labels are made.
        many = len(self.looking) > self.options.streams + 1
        return many or _hold_many([batch for batch, _ in self.looking])

    def label_oldest(self) -> Iterator[FrameResult]:
        batch, future = self.looking.popleft()
        found = deque(s for seen in future.result() for s in self.labeller.label(seen))
        yield from self.hand_over(batch, found)

    def hand_over(self, batch: _Batch, found: deque[Segmentation]) -> Iterator[FrameResult]:
        """Have a batch written; found: the labels of those that are segmented."""
        for frame, due in batch.chosen:
            if due:
                self.last = found.popleft()
            assert self.last is not None
            # The writer may be slower: wait for its oldest rather than pile up pictures.
            room = PIXELS_AT_A_STAGE // self.last.labels.size
            while len(self.writing) > min(max(room, 1), 8):
                self.writing[0].exception()  # waits
                yield from self.written(wait=False)
            self.writing.append(self.files.submit(self.write, frame, self.last, not due))

    def write(self, frame: Frame, segmentation: Segmentation, held: bool) -> FrameResult:
        if self.unwritten is not None:  # what follows a gap must not be written
            raise self.unwritten
        try:
            self.writer.write(frame, segmentation, held)
        except Exception as error:
            self.unwritten = error
            raise
        return FrameResult(frame, segmentation, held)

    def written(self, wait: bool) -> Iterator[FrameResult]:
        """Those that are written by now, or all; none after one that could not be."""
        while self.writing and (wait or self.writing[0].done()):
            result = self.writing.popleft()
            if result.exception() is not None:
                self.writing.clear()
            yield result.result()


def _hold_many(batches: Iterable[_Batch]) -> bool:
    """Whether the frames that only take labels are half of what may be at a stage."""
    pixels = sum(
        (len(batch.chosen) - len(batch.frames)) * math.prod(batch.frames[0].size_hw)
        for batch in batches
        if batch.frames
    )
    return pixels >= PIXELS_AT_A_STAGE // 2


def of_one_size(frames: Iterable[Chosen]) -> Iterator[Chosen]:
    """The same, fitted to the size of the first: a stream may change it at any moment."""
    size_hw = None
    for frame, due in frames:
        size_hw = size_hw or frame.size_hw
        if frame.size_hw != size_hw:
            logger.debug("frame %d is of another size", frame.index)
            pixels = load_opencv().resize(frame.pixels, size_hw[::-1])
            frame = replace(frame, pixels=pixels)
        yield frame, due


def _following(frames: Iterable[Chosen]) -> Iterator[tuple[Chosen | None, int]]:
    """Each with its pixels; then None without end."""
    for frame, due in frames:
        yield (frame, due), frame.size_hw[0] * frame.size_hw[1]
    while True:
        yield None, 0
