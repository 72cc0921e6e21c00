"""A folder of numbered pictures, read as a video."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

from ovseg_cli.errors import UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.media.folders import SUFFIXES, images_below
from ovseg_cli.media.images import read_image
from ovseg_cli.media.inputs import find_images
from ovseg_cli.media.video_source import USUAL_RATE, VideoInfo
from ovseg_cli.printable import printable


class Pictures:
    """A folder of numbered pictures."""

    def __init__(self, folder: Path) -> None:
        self.zero, self.pixel_aspect = 0.0, Fraction(1)
        self.end: float | None = None
        self._images = find_images([str(folder)])
        self.info = VideoInfo(USUAL_RATE, len(self._images))

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """See `Video`. A picture that cannot be read raises InputError."""
        for index, image in enumerate(self._images):
            seconds = float(index / self.info.rate)
            if seconds >= start:
                pixels = read_image(image.path).pixels
                yield Frame(pixels, index, seconds, str(image.path))
        self.end = float(len(self._images) / self.info.rate)

    def close(self) -> None:
        """See `Video`."""


def check_pictures(folder: str) -> None:
    """Raise UsageError where a folder has none."""
    if not images_below(folder, recursive=False):
        raise UsageError(
            f"{printable(folder)}: no numbered pictures in this folder (known are "
            f"{' '.join(SUFFIXES)}); to segment clips in it, name the clips themselves"
        )


def pictures_version(folder: Path) -> tuple[int, int]:
    """Bytes of a folder's pictures, and a number that changes with their names, sizes and times."""
    digest, size = sha256(), 0
    for image in find_images([str(folder)]):
        bytes_, modified_ns = image.version()
        size += bytes_
        digest.update(json.dumps([image.name, bytes_, modified_ns]).encode())
    return size, int.from_bytes(digest.digest()[:7], "big")
