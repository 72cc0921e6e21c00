"""`ovseg segment --engine ray`: a plan of the command line as work for a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ovseg_cli import __version__
from ovseg_cli.batch import options as batch_options
from ovseg_cli.batch.results import ImageResult
from ovseg_cli.cli.provenance import Provenance

if TYPE_CHECKING:
    from ovseg_cli.cli.segment_plan import Plan


@contextmanager
def ray_cluster(plan: Plan) -> Iterator[None]:
    """The cluster of a run while the block runs; raises UsageError where there is none."""
    from ovseg_cli.engines.ray_cluster import connected, load_ray

    with connected(load_ray(), plan.engine.address):
        yield


def ray_results(
    plan: Plan,
    provenance: Provenance,
    options: Callable[[str, int, int], batch_options.BatchOptions],
    stop: Callable[[], bool],
) -> Generator[ImageResult, None, None]:
    """The photos through the actors of a Ray cluster."""
    from ovseg_cli.engines import ray_actor, ray_data

    model = provenance.segmenter.model
    # In whatever folder an actor runs, and whatever precision it would choose.
    compute = replace(plan.compute.absolute(), precision=model.precision)
    work = ray_actor.Work(
        version=__version__,
        checksum=model.checksum,
        segmenter=partial(
            compute.segmenter, plan.vocabulary, other=plan.other, threshold=plan.threshold
        ),
        options=options,
        destination=plan.destination.absolute(),
        writers=tuple(plan.output.writers),
        part=str(plan.shard or ""),
        run=provenance.fingerprint(exif=plan.exif),
        metadata=provenance.metadata(),
    )
    cluster = ray_data.Cluster(plan.engine.address, plan.engine.actors, plan.compute.device)
    return ray_data.run(plan.own_images, work, cluster, plan.output, stop)
