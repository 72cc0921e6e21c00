"""Open whatever can be read as a video: files, streams, cameras, folders of pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ovseg_cli.errors import UsageError
from ovseg_cli.media.camera import CAMERA, Camera, camera_number
from ovseg_cli.media.numbered_pictures import Pictures, check_pictures
from ovseg_cli.media.pipe import check_standard_input
from ovseg_cli.media.stream import Stream
from ovseg_cli.media.video_source import Video
from ovseg_cli.printable import printable


def check_source(source: str) -> None:
    """Raise UsageError for what can be no video, as far as that shows before it is opened."""
    if source.startswith(CAMERA):
        camera_number(source)
    elif source == "-":
        check_standard_input()
    elif _is_folder(source):
        check_pictures(source)
    elif "://" not in source and not os.path.isfile(source):
        if os.path.exists(source):
            raise UsageError(f"{printable(source)}: a pipe or device: give it as -, with <")
        raise UsageError(f"no such video: {printable(source)}")


def _is_folder(source: str) -> bool:
    return source != "-" and "://" not in source and os.path.isdir(source)


@contextmanager
def open_video(source: str, stop: Callable[[], bool] = lambda: False) -> Iterator[Video]:
    """Open a file, folder of pictures, URL, `camera:N`, or `-` for standard input.

    stop: where it becomes true, standard input that gives nothing is at its end. Raises UsageError
    where there is no such thing, InputError for what cannot be read as video.
    """
    check_source(source)
    video: Video
    if source.startswith(CAMERA):
        video = Camera(source)
    elif _is_folder(source):
        video = Pictures(Path(source))
    else:
        video = Stream(source, stop)
    try:
        yield video
    finally:
        video.close()
