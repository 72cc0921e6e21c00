"""Many photos through a segmenter: reading, computing and writing overlap, in bounded memory."""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from ovseg_cli.batch.budget import Budget
from ovseg_cli.batch.finished_inputs import leading_finished
from ovseg_cli.batch.options import BatchOptions
from ovseg_cli.batch.read_ahead import ReadAhead
from ovseg_cli.batch.results import ImageResult
from ovseg_cli.errors import InputError, OutputError
from ovseg_cli.failures import is_out_of_memory, is_run_wide, reason_of
from ovseg_cli.frame import Frame
from ovseg_cli.media.images import read_image
from ovseg_cli.media.inputs import ImageInput, InputState
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.segmentation import Segmentation
from ovseg_cli.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

PIXELS_AT_A_STAGE = 64_000_000  # being read ahead, waiting for a batch, being written: each at most
STAGES_LABELLED = 3  # of so many stages' pixels labels are made at a time
WINDOW = 4  # a photo waits for at most this many batches' worth of others of its size


class SegmenterLike(Protocol):
    """What a run needs of `ovseg_cli.segmenter.Segmenter`."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    def input_size(self, size_hw: tuple[int, int]) -> tuple[int, int]: ...

    def segment(self, frames: Sequence[Frame]) -> list[Segmentation]: ...


def run(
    images: Sequence[ImageInput],
    segmenter: SegmenterLike,
    output: OutputFolder,
    options: BatchOptions,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[ImageResult, None, None]:
    """Segment the photos and write their files; yields what became of each, in their order.

    One photo's failure does not touch the others. Where stop() becomes true the photos that are
    computed are still written, the others are not begun. Raises OutputError, after everything
    that is finished has been yielded, where nothing more can be written at all (disk full).
    Which photos share a batch depends on their order and sizes only, never on timing.
    """
    return _Run(segmenter, output, options, stop).results(images)


@dataclass(frozen=True, eq=False)
class _Photo:
    position: int  # in the run
    image: ImageInput
    state: InputState
    frame: Frame
    seconds: float  # spent on it so far

    @property
    def pixels(self) -> int:
        """Of the photo, and so of its labels."""
        return self.frame.size_hw[0] * self.frame.size_hw[1]

    @property
    def decoded(self) -> int:
        """Of what is held of the photo until it is written."""
        return self.frame.view.shape[0] * self.frame.view.shape[1]


@dataclass(frozen=True, eq=False)
class _Failed:
    photos: Sequence[_Photo]
    error: Exception


class _Run:
    """One pass over the photos. Its threads: the caller's, which gathers batches and yields
    results; `streams` that compute; `workers` that read and write files.
    """

    def __init__(
        self,
        segmenter: SegmenterLike,
        output: OutputFolder,
        options: BatchOptions,
        stop: Callable[[], bool],
    ) -> None:
        self.segmenter = segmenter
        self.output = output
        self.options = options
        self.stop = stop
        self.batch_size = options.batch_size
        self.waiting: dict[tuple[int, int], list[_Photo]] = {}  # by input size, oldest first
        self.computing: set[Future[_Failed | None]] = set()
        self.finished: dict[int, ImageResult] = {}  # by position, not yet yielded
        self.next_position = 0  # of the result to be yielded next
        self.broken: OutputError | None = None  # why nothing more can be written
        self.writing = Budget(
            max_items=options.streams * options.batch_size + options.workers,
            max_pixels=PIXELS_AT_A_STAGE,
        )
        self.labelling = Budget(
            max_items=options.streams, max_pixels=STAGES_LABELLED * PIXELS_AT_A_STAGE
        )
        self.files = ThreadPoolExecutor(options.workers, thread_name_prefix="ovseg-files")
        self.streams = ThreadPoolExecutor(options.streams, thread_name_prefix="ovseg-model")

    def results(self, images: Sequence[ImageInput]) -> Generator[ImageResult, None, None]:
        ahead: ReadAhead[tuple[int, ImageInput], _Photo | None] = ReadAhead(
            self.others(images),
            self.read,
            self.files,
            workers=self.options.workers,
            max_items=self.options.streams * self.options.batch_size + self.options.workers,
            max_pixels=PIXELS_AT_A_STAGE,
        )
        try:
            yield from self.pass_finished(images)
            for photo in ahead:
                if self.ending():
                    break
                if photo is not None:
                    self.gather(photo)
                yield from self.in_order()
            while self.waiting and not self.ending():
                self.compute_oldest()
                yield from self.in_order()
            while self.computing:
                self.await_stream()
                yield from self.in_order()
        finally:
            ahead.close()
            self.streams.shutdown()
            self.files.shutdown()
        for position in sorted(self.finished):  # with gaps where the run was stopped
            yield self.finished[position]
        if self.broken is not None:
            raise self.broken

    def pass_finished(self, images: Sequence[ImageInput]) -> Iterator[ImageResult]:
        """Skip the inputs before the first that needs work."""
        for entry in leading_finished(
            images, self.output.finished, self.files, self.options.workers
        ):
            if self.ending():
                return
            image = images[self.next_position]
            self.next_position += 1
            yield ImageResult(image, "skipped", entry)

    def others(self, images: Sequence[ImageInput]) -> Iterator[tuple[int, ImageInput]]:
        """Those that `pass_finished` has left, by position."""
        for position in range(self.next_position, len(images)):
            yield position, images[position]

    def in_order(self) -> Iterator[ImageResult]:
        while self.next_position in self.finished:
            yield self.finished.pop(self.next_position)
            self.next_position += 1

    def ending(self) -> bool:
        return self.broken is not None or self.stop()

    def read(self, item: tuple[int, ImageInput]) -> tuple[_Photo | None, int]:
        """The decoded photo and its pixels; None where there is nothing to compute."""
        position, image = item
        started = time.perf_counter()
        state = InputState.of(image)
        try:
            entry = self.output.is_done(image, state)
            if entry is not None:
                self.finished[position] = ImageResult(image, "skipped", entry)
                return None, 0
            frame = read_image(
                image,
                exif=self.options.exif,
                max_pixels=self.options.max_pixels,
                seen_at=self.segmenter.input_size,
            )
            if InputState.of(image) != state:
                raise InputError("it changed while it was read: run again with --resume")
        except Exception as error:
            self.fail(position, image, state, error)
            return None, 0
        photo = _Photo(position, image, state, frame, time.perf_counter() - started)
        return photo, photo.decoded

    def gather(self, photo: _Photo) -> None:
        """Put a photo to those of its input size, and compute what has become due."""
        while self.waiting:
            oldest = next(iter(self.waiting.values()))[0]
            waiting = sum(p.decoded for group in self.waiting.values() for p in group)
            if (
                photo.position - oldest.position < WINDOW * self.options.batch_size
                and waiting + photo.decoded <= PIXELS_AT_A_STAGE
            ):
                break
            self.compute_oldest()
        size = self.segmenter.input_size(photo.frame.size_hw)
        group = self.waiting.setdefault(size, [])
        group.append(photo)
        if len(group) >= self.batch_size:
            self.dispatch(self.waiting.pop(size))

    def compute_oldest(self) -> None:
        self.dispatch(self.waiting.pop(next(iter(self.waiting))))

    def dispatch(self, photos: Sequence[_Photo]) -> None:
        """Hand a batch to the streams, once no more than one waits for them.

        The one that waits keeps a stream from idling until this thread gets its turn.
        """
        if len(self.computing) > self.options.streams:
            self.await_stream()
        if not self.ending():
            self.computing.add(self.streams.submit(self.begin, photos))

    def await_stream(self) -> None:
        """Wait for a pass to end; what failed is tried again while nothing else is computed."""
        done, self.computing = wait(self.computing, return_when=FIRST_COMPLETED)
        if any(future.result() for future in done):
            done |= wait(self.computing).done
            self.computing = set()
        for attempt in filter(None, [future.result() for future in done]):
            self.retry(attempt)

    def begin(self, photos: Sequence[_Photo]) -> _Failed | None:
        """Compute a batch, unless the run has come to its end while the batch waited."""
        return None if self.ending() else self.compute(photos)

    def compute(self, photos: Sequence[_Photo]) -> _Failed | None:
        """Segment photos of one input size and hand them over for writing."""
        pixels = sum(photo.pixels for photo in photos)
        self.labelling.take(pixels)
        try:
            return self.label(photos)
        finally:
            self.labelling.give(pixels)

    def label(self, photos: Sequence[_Photo]) -> _Failed | None:
        started = time.perf_counter()
        try:
            segmentations = self.segmenter.segment([photo.frame for photo in photos])
        except Exception as error:
            if is_out_of_memory(error):  # the traceback would keep the model's tensors alive
                error = error.with_traceback(None)
            return _Failed(photos, error)
        share = (time.perf_counter() - started) / len(photos)
        for photo, segmentation in zip(photos, segmentations, strict=True):
            self.writing.take(photo.pixels)
            self.files.submit(self.write, photo, segmentation, photo.seconds + share)
        return None

    def retry(self, failed: _Failed) -> None:
        """Compute smaller and smaller parts, until the photos to blame are by themselves."""
        photos, half = failed.photos, len(failed.photos) // 2
        short_of_memory = is_out_of_memory(failed.error)
        if short_of_memory and 0 < half < self.batch_size:
            self.batch_size = half
            logger.warning(
                "%d photos at once need too much memory; going on with %d", len(photos), half
            )
        if half:
            parts = [photos[:half], photos[half:]]
        else:  # one photo, which other passes may have left too little memory
            parts = [photos] if short_of_memory and self.options.streams > 1 else []
            if not parts:
                self.blame(failed)
        for part in parts:
            again = self.compute(part)
            if again is not None and len(part) > 1:
                self.retry(again)
            elif again is not None:
                self.blame(again)

    def blame(self, failed: _Failed) -> None:
        (photo,) = failed.photos
        size_hw = photo.frame.size_hw
        self.fail(photo.position, photo.image, photo.state, failed.error, size_hw)

    def write(self, photo: _Photo, segmentation: Segmentation, seconds: float) -> None:
        started = time.perf_counter()
        try:
            if segmentation.labels.shape != photo.frame.size_hw:
                raise ValueError(
                    f"labels of {segmentation.labels.shape} for a photo of {photo.frame.size_hw}"
                )
            entry = self.output.save(photo.image, photo.state, photo.frame, segmentation)
            seconds += time.perf_counter() - started
            self.finished[photo.position] = ImageResult(photo.image, "done", entry, seconds)
        except Exception as error:
            self.fail(photo.position, photo.image, photo.state, error)
        finally:
            self.writing.give(photo.pixels)

    def fail(
        self,
        position: int,
        image: ImageInput,
        state: InputState,
        error: Exception,
        size_hw: tuple[int, int] | None = None,
    ) -> None:
        logger.debug("%s failed", image.name, exc_info=error)
        reason = reason_of(error, image.name, size_hw)
        try:
            self.output.forget(image, state, reason)
        except OutputError as second:
            error = second
        if isinstance(error, OutputError) and is_run_wide(error):
            self.broken = error
        self.finished[position] = ImageResult(image=image, status="failed", reason=reason)
