"""What `ovseg segment` was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ovseg_cli.cli.compute import Compute
from ovseg_cli.cli.engine_options import Engine
from ovseg_cli.cli.option_types import ErrorLimit
from ovseg_cli.formats import Format
from ovseg_cli.media.inputs import ImageInput
from ovseg_cli.run_folder.output import OutputFolder
from ovseg_cli.run_folder.shard import Division, Shard
from ovseg_cli.storage.destination import Destination
from ovseg_cli.vocabulary import Vocabulary


@dataclass(frozen=True)
class Plan:
    """All that a run was asked for."""

    images: Sequence[ImageInput]  # of all parts
    shard: Shard | None
    division: Division | None  # into parts, where there is a shard
    vocabulary: Vocabulary  # without `other`
    other: str | None
    threshold: float | None
    output: OutputFolder
    destination: Destination  # of which `output` is this process's view
    engine: Engine
    formats: Sequence[Format]  # of other programs, written in the end
    resume: bool
    overwrite: bool
    max_errors: ErrorLimit | None
    compute: Compute
    exif: bool
    max_pixels: int | None
    batch_size: int | None  # None = by device
    workers: int
    as_json: bool
    arguments: tuple[str, ...]  # of the command line

    @cached_property
    def own_images(self) -> Sequence[ImageInput]:
        """The inputs of this part."""
        if self.shard is None or self.division is None:
            return self.images
        index, part_of = self.shard.index, self.division.part_of
        return [image for image in self.images if part_of(image.rel) == index]
