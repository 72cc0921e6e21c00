"""Going past what an earlier run has finished: a million inputs in seconds."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from itertools import islice, takewhile

from ovseg_cli.media.inputs import ImageInput
from ovseg_cli.run_folder.journal_entry import Entry

PORTION = 32  # inputs that are looked at together; few, to stay in the processor's cache


def leading_finished(
    images: Sequence[ImageInput],
    finished: Callable[[Sequence[ImageInput]], Iterable[Entry | None]],
    pool: Executor,
    workers: int,
) -> Iterator[Entry]:
    """The entries of the inputs before the first that needs work.

    finished tells of each input its entry, None where it needs work. It is asked in the pool for a
    portion of them at a time, since a million, each by itself through all the stages, would take
    minutes; no more than `workers` portions are looked at ahead.
    """

    def look(portion: Sequence[ImageInput]) -> list[Entry]:
        return list(takewhile(bool, finished(portion)))  # type: ignore[arg-type]

    portions = (images[i : i + PORTION] for i in range(0, len(images), PORTION))
    ahead = deque(pool.submit(look, portion) for portion in islice(portions, workers))
    while ahead:
        entries = ahead.popleft().result()
        yield from entries
        if len(entries) < PORTION:
            return
        ahead.extend(pool.submit(look, portion) for portion in islice(portions, 1))
