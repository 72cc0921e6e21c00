"""`--engine ray`: Ray Data divides the photos among actors, each of which has the model loaded.

Actors read photos and write outputs themselves, through the code of a run on one machine, each
with a journal of its own; only what became of each photo comes back. Ray starts an actor anew whose
process died and gives it the same photos again: what journals call finished is not done twice.
"""

import logging
import pickle
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ovseg_cli import batch, batch_options
from ovseg_cli.cores import keep_freed_memory, share_cores
from ovseg_cli.engines.ray_cluster import Pool, alive, connected, load_ray, plan_pool
from ovseg_cli.errors import OutputError, OvsegError
from ovseg_cli.exports import Writer
from ovseg_cli.media.images import ImageInput
from ovseg_cli.output import OutputFolder
from ovseg_cli.results import ImageResult
from ovseg_cli.storage.destination import Destination

PORTION = 64  # photos that are given to an actor at once, at most
PACKED_PORTION = 1024  # the same where results go to tar shards, which end with a portion
_PORTIONS = 8  # for each actor, at least, so that all end at about the same time
_LOOK_SECONDS = 0.5  # how often actors ask whether the run goes on

Numbered = list[tuple[int, ImageInput]]  # position in the run, photo


@dataclass(frozen=True)
class Cluster:
    """Where the actors run."""

    address: str | None = None  # None = RAY_ADDRESS, or this machine alone
    actors: int | None = None  # None = by the nodes
    device: str = "auto"


@dataclass(frozen=True)
class Work:
    """What an actor needs to know; travels to it."""

    version: str  # of this program
    checksum: str  # of the model's weights
    segmenter: Callable[[], Any]  # loads the model
    # Of a device, a number of cores and one of photos.
    options: Callable[[str, int, int], batch_options.BatchOptions]
    destination: Destination
    writers: tuple[Writer, ...]
    part: str  # which part of the inputs this is, where they are divided
    run: str  # the fingerprint of model and options
    metadata: dict[str, str]  # for every label map


def run(
    images: Sequence[ImageInput],
    work: Work,
    cluster: Cluster,
    output: OutputFolder,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[ImageResult, None, None]:
    """Segment the photos and write their files; yields what became of each, in any order.

    output is the folder as this process sees it, opened for the run. As with `batch.run`, a photo's
    failure does not touch the others, where stop() becomes true what is at hand is still
    written, and OutputError is raised where nothing more can be written. Raises UsageError where
    there is no Ray or no cluster, OvsegError where no actor can load the model.
    """
    ray = load_ray()
    with connected(ray, cluster.address), _going_on(work.destination, stop) as ticket:
        pool = plan_pool(alive(ray), cluster.actors, cluster.device)
        logging.getLogger(__name__).info(
            "Ray: %d actors with %g cores and %g GPUs each", pool.actors, pool.cores, pool.gpus
        )
        seen = bytearray(len(images))
        broken: list[str] = []
        for position, answer in _answers(ray, images, work, pool, ticket):
            if position < 0:
                broken.append(answer)
                work.destination.withdraw(ticket)
            elif not seen[position]:
                seen[position] = 1
                yield _result(images[position], answer, output)
        output.tidy()
        if broken:
            raise OutputError(broken[0])


def _result(image: ImageInput, answer: ImageResult, output: OutputFolder) -> ImageResult:
    """As this process sees it: what an actor did that died later was done in this run."""
    finished_earlier = output.journal.entry(image.rel) is not None
    status = "done" if answer.status == "skipped" and not finished_earlier else answer.status
    return replace(answer, image=image, status=status)


@contextmanager
def _going_on(destination: Destination, stop: Callable[[], bool]) -> Iterator[str]:
    """A ticket beside the results that stays there as long as actors are to go on."""
    ticket = f"going-{secrets.token_hex(8)}"
    destination.post(ticket)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS / 2):
            if stop():
                destination.withdraw(ticket)
                return

    watcher = threading.Thread(target=watch, name="ovseg-stop", daemon=True)
    watcher.start()
    try:
        yield ticket
    finally:
        ended.set()
        watcher.join()
        destination.withdraw(ticket)


def _answers(
    ray: Any, images: Sequence[ImageInput], work: Work, pool: Pool, ticket: str
) -> Iterator[tuple[int, Any]]:
    """What the actors send back: position and ImageResult, or -1 and why nothing can be written."""
    most = PORTION if work.destination.tar_bytes is None else PACKED_PORTION
    size = max(1, min(most, -(-len(images) // (pool.actors * _PORTIONS))))
    numbered = [(position, image.absolute()) for position, image in enumerate(images)]
    portions = [numbered[i : i + size] for i in range(0, len(numbered), size)]
    with _quiet(ray):
        rows = ray.data.from_items(
            [{"photos": pickle.dumps(portion)} for portion in portions],
            override_num_blocks=len(portions),
        ).map_batches(
            _Actor,
            fn_constructor_args=(work, ticket, pool.cores),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(pool.actors, len(portions))),
            num_cpus=pool.cores,
            num_gpus=pool.gpus,
        )
        try:
            for row in rows.iter_rows():
                yield from pickle.loads(row["results"])
        except ray.exceptions.RayError as error:
            raise _reason(error) from error


@contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Without Ray Data's own bars and notes; standard output is for data."""
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before
        logger.setLevel(level)


def _reason(error: BaseException) -> Exception:
    """What an actor raised, out of what Ray has wrapped it in."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OvsegError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    last = str(error).strip().splitlines()[-1]
    return OvsegError(f"an actor of the Ray cluster failed: {last} (--debug shows where)")


class _Actor:
    """One process of the cluster: the model, loaded once, and the folder of the run."""

    def __init__(self, work: Work, ticket: str, cores: float) -> None:
        from ovseg_cli import __version__

        here = f"the worker on {_host()}"
        if work.version != __version__:
            raise OvsegError(f"{here} has ovseg {__version__}, not {work.version}: install that")
        if not work.destination.is_posted(ticket):
            raise OvsegError(
                f"{here} does not see {work.destination.where}: with several machines OUT is a "
                "folder that all share, or a URL of an object store"
            )
        share_cores(batch_options.auto_streams("cpu", max(1, int(cores)), PORTION))
        keep_freed_memory()
        self.segmenter = work.segmenter()
        model = self.segmenter.model
        if model.checksum != work.checksum:
            raise OvsegError(f"{here} has another model under the name {model.name}")
        self.options = work.options(str(model.device), max(1, int(cores)), PORTION)
        # A name that no other process has, this actor's own earlier life included.
        part = "-".join(filter(None, ("ray", secrets.token_hex(6), work.part)))
        self.output = work.destination.folder(work.writers, stats=False, part=part)
        self.output.join(run=work.run, metadata=work.metadata)
        self.work = work
        self.ticket = ticket
        self.looked = time.monotonic()
        self.stopped = False

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[bytes]]:
        """Segment the photos of some rows; gives back a pickled list of answers for each."""
        return {"results": [pickle.dumps(self.answers(pickle.loads(p))) for p in rows["photos"]]}

    def answers(self, photos: Numbered) -> list[tuple[int, Any]]:
        positions = {image.rel: position for position, image in photos}
        answers: list[tuple[int, Any]] = []
        images = [image for _, image in photos]
        try:
            results = batch.run(images, self.segmenter, self.output, self.options, self.stop)
            for result in results:
                answers.append((positions[result.image.rel], result))
            self.output.settle()
        except OutputError as error:
            self.stopped = True
            answers.append((-1, str(error)))
        return answers

    def stop(self) -> bool:
        """Whether the ticket is gone."""
        now = time.monotonic()
        if not self.stopped and now - self.looked >= _LOOK_SECONDS:
            self.looked = now
            self.stopped = not self.work.destination.is_posted(self.ticket)
        return self.stopped


def _host() -> str:
    import platform

    return platform.node()
