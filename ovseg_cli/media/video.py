"""Open whatever can be read as a video: files, streams, cameras, folders of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ovseg_cli.media.camera import CAMERA, Camera
from ovseg_cli.media.numbered_pictures import Pictures
from ovseg_cli.media.stream import Stream
from ovseg_cli.media.video_source import Video


@contextmanager
def open_video(source: str, stop: Callable[[], bool] = lambda: False) -> Iterator[Video]:
    """Open a file, folder of pictures, URL, `camera:N`, or `-` for standard input.

    stop: where it becomes true, standard input that gives nothing is at its end. Raises UsageError
    where there is no such thing, InputError for what cannot be read as video.
    """
    video: Video
    if source.startswith(CAMERA):
        video = Camera(source)
    elif source != "-" and "://" not in source and Path(source).is_dir():
        video = Pictures(Path(source))
    else:
        video = Stream(source, stop)
    try:
        yield video
    finally:
        video.close()
