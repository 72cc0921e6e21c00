"""Cameras of this machine, read by OpenCV."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from ovseg_cli.errors import InputError, UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.media.opencv import load_opencv
from ovseg_cli.media.video_source import USUAL_RATE, VideoInfo
from ovseg_cli.printable import printable

CAMERA = "camera:"


def camera_number(source: str) -> int:
    """That of `camera:N`; raises UsageError for anything else."""
    number = source.removeprefix(CAMERA)
    if not re.fullmatch(r"\d{1,4}", number, re.ASCII):
        raise UsageError(f"{printable(source)}: a camera is {CAMERA}0, {CAMERA}1, ...")
    return int(number)


class Camera:
    """A camera of this machine, until somebody stops it."""

    def __init__(self, source: str) -> None:
        number = camera_number(source)
        self._cv2 = load_opencv()
        self.zero, self.pixel_aspect = 0.0, Fraction(1)
        self.end: float | None = None
        self._source = source
        self._waits = False  # for a picture
        self._device = self._cv2.VideoCapture(number)
        if not self._device.isOpened():
            raise InputError(f"{source}: there is no such camera, or another program holds it")
        rate = self._device.get(self._cv2.CAP_PROP_FPS)
        self.info = VideoInfo(
            Fraction(rate).limit_denominator(1001) if rate > 0 else USUAL_RATE, None
        )

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """See `Video`; the times are those at which pictures came."""
        began = time.monotonic()
        index = 0
        while True:
            self._waits = True
            try:
                there, picture = self._device.read()
            finally:
                self._waits = False
            if not there:
                return
            seconds = time.monotonic() - began
            if seconds >= start:
                pixels = np.ascontiguousarray(picture[..., ::-1])  # OpenCV has BGR
                yield Frame(pixels, index, seconds, self._source)
            index += 1

    def close(self) -> None:
        """See `Video`. A device that another thread waits for is left to the process's end."""
        if not self._waits:
            self._device.release()
