"""An actor of `--engine ray`: one process of the cluster, with the model loaded once.

It reads photos and writes outputs itself, through the code of a run on one machine, with a journal
of its own; only what became of each photo goes back.
"""

import contextlib
import pickle
import platform
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ovseg_cli.batch import options as batch_options
from ovseg_cli.batch import run as batch
from ovseg_cli.batch.results import ImageResult
from ovseg_cli.cores import keep_freed_memory, share_cores
from ovseg_cli.engines.ray_cluster import load_ray
from ovseg_cli.errors import OvsegError
from ovseg_cli.exports import Writer
from ovseg_cli.media.inputs import ImageInput, InputState
from ovseg_cli.storage.destination import Destination

PORTION = 64  # photos that are given to an actor at once, at most
LOOK_SECONDS = 0.5  # how often actors ask whether the run goes on
BEGINNINGS = 3  # of one photo, in vain, before it is taken for what ends the processes

Numbered = list[tuple[int, ImageInput]]  # position in the run, photo


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


@dataclass(frozen=True)
class Ticket:
    """Two empty files beside the results: one is there as long as the run is, and so shows that an
    actor sees its folder; the other as long as actors are to go on.
    """

    destination: Destination
    number: str  # that no other run has

    def post(self) -> None:
        """Leave both; raises OutputError."""
        self.destination.post(self._seen)
        self.destination.post(self._going)

    def withdraw(self) -> None:
        """Let the actors end."""
        self.destination.withdraw(self._going)

    def remove(self) -> None:
        """Leave nothing behind."""
        self.withdraw()
        self.destination.withdraw(self._seen)

    def is_seen(self) -> bool:
        """Whether this process sees the folder of the run."""
        return self.destination.is_posted(self._seen)

    def is_valid(self) -> bool:
        """Whether actors are to go on."""
        return self.destination.is_posted(self._going)

    @property
    def _seen(self) -> str:
        return f"seen-{self.number}"

    @property
    def _going(self) -> str:
        return f"going-{self.number}"


class Beginnings:
    """How often each photo has been begun without coming to an end.

    An actor of its own, which outlives those that a photo kills. Photos are told by position.
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def counts(self, positions: Sequence[int]) -> list[int]:
        """Of each of some photos."""
        return [self._counts[position] for position in positions]

    def begin(self, positions: Sequence[int]) -> None:
        """Count one more of each."""
        self._counts.update(positions)

    def end(self, positions: Sequence[int]) -> None:
        """Forget them: they came to an end."""
        for position in positions:
            del self._counts[position]


class Actor:
    """One process of the cluster: the model, loaded once, and the folder of the run."""

    def __init__(self, work: Work, ticket: Ticket, beginnings: Any, cores: float) -> None:
        """beginnings: the handle of a `Beginnings`; cores: what the actor has of the cluster."""
        self.work = work
        self.ticket = ticket
        self.beginnings = beginnings
        self.looked = float("-inf")
        self.stopped = False
        self.refusal: OvsegError | None = None  # why nothing more is done here
        with self.refusing():
            self.open(max(1, int(cores)))

    def open(self, cores: int) -> None:
        """Load the model and join the run, unless it has been stopped; raises OvsegError."""
        from ovseg_cli import __version__

        work, here = self.work, f"the worker on {platform.node()}"
        if work.version != __version__:
            raise OvsegError(f"{here} has ovseg {__version__}, not {work.version}: install that")
        if not self.ticket.is_seen():
            raise OvsegError(
                f"{here} does not see {work.destination.where}: with several machines OUT is a "
                "folder that all share, or a URL of an object store"
            )
        if self.stop():
            return
        share_cores(batch_options.auto_streams("cpu", cores))
        keep_freed_memory()
        self.segmenter = work.segmenter()
        model = self.segmenter.model
        if model.checksum != work.checksum:
            raise OvsegError(f"{here} has another model under the name {model.name}")
        self.options = work.options(str(model.device), cores, PORTION)
        # A name that no other process has, this actor's own earlier life included.
        part = "-".join(filter(None, ("ray", secrets.token_hex(6), work.part)))
        self.output = work.destination.folder(work.writers, stats=False, part=part)
        self.output.join(self.segmenter.vocabulary, run=work.run, metadata=work.metadata)

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[bytes]]:
        """Segment the photos of some rows; gives back a pickled list of answers for each."""
        return {"results": [pickle.dumps(self.answers(pickle.loads(p))) for p in rows["photos"]]}

    def answers(self, photos: Numbered) -> list[tuple[int, Any]]:
        """Position and ImageResult of each photo that is done with; -1 and the OvsegError for
        which this actor does no more.
        """
        answers: list[tuple[int, Any]] = []
        if self.refusal is None and not self.stop():
            with self.refusing():
                for answer in self.results(photos):  # what there is stays where one is an error
                    answers.append(answer)
                self.output.settle()
        return answers if self.refusal is None else [*answers, (-1, self.refusal)]

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Keep an OvsegError of the block as an answer: raised, Ray would make a text of it."""
        try:
            yield
        except OvsegError as error:
            self.refusal = error

    def results(self, photos: Numbered) -> Iterator[tuple[int, ImageResult]]:
        """Segment photos together. Those during which a process has died before come after the
        others and one by one: so it shows which of them it is, and that one fails.
        """
        counted = list(zip(self.ask("counts", photos), photos, strict=True))
        fresh = [photo for count, photo in counted if not count]
        suspects = [(count, photo) for count, photo in counted if count]
        if fresh:
            yield from self.segment(fresh)
        if suspects:
            self.output.settle()  # so that their deaths take nothing with them
        for count, (position, image) in sorted(suspects, key=lambda suspect: suspect[0]):
            if self.stop():
                return
            if count < BEGINNINGS:
                yield from self.segment([(position, image)])
            else:
                yield position, self.give_up(image)

    def segment(self, photos: Numbered) -> Iterator[tuple[int, ImageResult]]:
        positions = {image.rel: position for position, image in photos}
        images = [image for _, image in photos]
        self.ask("begin", photos)
        for result in batch.run(images, self.segmenter, self.output, self.options, self.stop):
            yield positions[result.image.rel], result
        self.ask("end", photos)

    def give_up(self, image: ImageInput) -> ImageResult:
        """Let a photo fail; raises OutputError."""
        reason = (
            f"{BEGINNINGS} times the process that worked on it came to a sudden end: it may need "
            "more memory than the worker has, or hold what a library cannot bear"
        )
        self.output.forget(image, InputState.of(image), reason)
        return ImageResult(image, "failed", reason=reason)

    def ask(self, method: str, photos: Numbered) -> Any:
        """Call a method of `Beginnings` for some photos."""
        positions = [position for position, _ in photos]
        return load_ray().get(getattr(self.beginnings, method).remote(positions))

    def stop(self) -> bool:
        """Whether the ticket is gone."""
        now = time.monotonic()
        if not self.stopped and now - self.looked >= LOOK_SECONDS:
            self.looked = now
            self.stopped = not self.ticket.is_valid()
        return self.stopped
