"""`--engine ray`: Ray Data divides the photos among actors, each of which has the model loaded.

Ray starts an actor anew whose process died and gives it the same photos again: what journals call
finished is not done twice, and a photo during which one process after the other dies fails.
"""

import logging
import pickle
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ovseg_cli.batch.results import ImageResult
from ovseg_cli.engines.ray_actor import (
    LOOK_SECONDS,
    PORTION,
    Actor,
    Beginnings,
    Ticket,
    Work,
)
from ovseg_cli.engines.ray_cluster import Pool, alive, connected, load_ray, plan_pool
from ovseg_cli.errors import OvsegError
from ovseg_cli.media.inputs import ImageInput
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.storage.destination import Destination

PACKED_PORTION = 1024  # as PORTION, where results go to tar shards, which end with a portion
_PORTIONS = 8  # for each actor, at least, so that all end at about the same time


@dataclass(frozen=True)
class Cluster:
    """Where the actors run."""

    address: str | None = None  # None = RAY_ADDRESS, or this machine alone
    actors: int | None = None  # None = by the nodes
    device: str = "auto"


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
    there is no Ray or no cluster, and what an actor raises that cannot take part.
    """
    ray = load_ray()
    with connected(ray, cluster.address), _going_on(work.destination, stop) as ticket:
        pool = plan_pool(alive(ray), cluster.actors, cluster.device)
        logging.getLogger(__name__).info(
            "Ray: %d actors with %g cores and %g GPUs each", pool.actors, pool.cores, pool.gpus
        )
        seen = bytearray(len(images))
        broken: list[OvsegError] = []
        for position, answer in _answers(ray, images, work, pool, ticket):
            if position < 0:
                broken.append(answer)
                ticket.withdraw()
            elif not seen[position]:
                seen[position] = 1
                yield _result(images[position], answer, output)
        output.tidy()
        if broken:
            raise broken[0]


def _result(image: ImageInput, answer: ImageResult, output: OutputFolder) -> ImageResult:
    """As this process sees it: what an actor did that died later was done in this run."""
    finished_earlier = output.journal.entry(image.rel) is not None
    status = "done" if answer.status == "skipped" and not finished_earlier else answer.status
    return replace(answer, image=image, status=status)


@contextmanager
def _going_on(destination: Destination, stop: Callable[[], bool]) -> Iterator[Ticket]:
    """A ticket that is valid while the block runs, or until stop() becomes true."""
    ticket = Ticket(destination, secrets.token_hex(8))
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK_SECONDS / 2):
            if stop():
                ticket.withdraw()
                return

    ticket.post()
    watcher = threading.Thread(target=watch, name="ovseg-stop", daemon=True)
    watcher.start()
    try:
        yield ticket
    finally:
        ended.set()
        watcher.join()
        ticket.remove()


def _answers(
    ray: Any, images: Sequence[ImageInput], work: Work, pool: Pool, ticket: Ticket
) -> Iterator[tuple[int, Any]]:
    """What the actors send back, see `Actor.answers`."""
    most = PORTION if work.destination.tar_bytes is None else PACKED_PORTION
    size = max(1, min(most, -(-len(images) // (pool.actors * _PORTIONS))))
    numbered = [(position, image.absolute()) for position, image in enumerate(images)]
    portions = [numbered[i : i + size] for i in range(0, len(numbered), size)]
    # Should its node be lost, it begins anew, and a photo that kills is begun some times more.
    apart = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
    beginnings = apart(Beginnings).remote()
    with _quiet(ray):
        rows = ray.data.from_items(
            [{"photos": pickle.dumps(portion)} for portion in portions],
            override_num_blocks=len(portions),
        ).map_batches(
            Actor,
            fn_constructor_args=(work, ticket, beginnings, pool.cores),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(pool.actors, len(portions))),
            num_cpus=pool.cores,
            num_gpus=pool.gpus,
        )
        try:
            for row in rows.iter_rows():
                yield from pickle.loads(row["results"])
        except ray.exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1]
            raise OvsegError(
                f"an actor of the Ray cluster failed: {last} (--debug shows where)"
            ) from error


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
