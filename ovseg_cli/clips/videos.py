"""The videos of one clip: in parts while it is on its way, each joined to a file in the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ovseg_cli.clips.overlay import ClipOverlay
from ovseg_cli.clips.state import ClipState
from ovseg_cli.errors import OutputError
from ovseg_cli.exports import OVERLAY, label_kind
from ovseg_cli.failures import is_run_wide
from ovseg_cli.frame import Frame
from ovseg_cli.media.video_parts import (
    LABELS_8,
    LABELS_16,
    PICTURES,
    Part,
    Piece,
    Sound,
    join,
)
from ovseg_cli.printable import printable
from ovseg_cli.segmentation import ClassArea, Segmentation
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.whole_files import atomic_path

logger = logging.getLogger(__name__)

LABELS_VIDEO = "labels=video"  # name in --save


class ClipVideos:
    """Those that are among the names in --save."""

    def __init__(
        self,
        saves: Sequence[str],
        vocabulary: Vocabulary,
        state: ClipState,
        target: Callable[[str], Path],
    ) -> None:
        """state: where the parts go; target: gives the file of a name."""
        small = label_kind(len(vocabulary)) is np.uint8
        forms = {OVERLAY: PICTURES, LABELS_VIDEO: LABELS_8 if small else LABELS_16}
        self._forms = {name: form for name, form in forms.items() if name in saves}
        self._vocabulary = vocabulary
        self._state = state
        self._target = target
        self._overlay: ClipOverlay | None = None
        self._parts: dict[str, Part] = {}

    @property
    def names(self) -> Sequence[str]:
        """In --save."""
        return tuple(self._forms)

    def write(self, number: int, rate: Fraction, frame: Frame, segmentation: Segmentation) -> None:
        """Add a frame to all of them; number: of those that are written, from 0.

        rate: frames a second, about. Raises OutputError.
        """
        for name, form in self._forms.items():
            picture = self._picture(name, frame, segmentation)
            if name not in self._parts:
                path = self._state.part(name, number)
                self._parts[name] = Part(path, form, picture.shape[:2], rate)
            self._parts[name].write(picture, frame.seconds)

    def _picture(self, name: str, frame: Frame, segmentation: Segmentation) -> np.ndarray:
        """What a video shows of a frame, (H, W, 3) uint8 RGB or (H, W) label values."""
        if name == OVERLAY:
            if self._overlay is None:
                self._overlay = ClipOverlay(self._vocabulary, frame.size_hw)
                self._count_earlier(self._overlay)
            return self._overlay.draw(frame, segmentation)
        # UNLABELED = -1 becomes the greatest value.
        return segmentation.labels.astype(label_kind(len(self._vocabulary)))

    def _count_earlier(self, overlay: ClipOverlay) -> None:
        """Let the strip go on with the frames that an earlier run has written."""
        areas: list[ClassArea] = []
        for record in self._state.records():
            if record.areas is not None:  # else held: it shows those of the one before
                areas = record.class_areas(self._vocabulary)
            overlay.count(areas)

    def close(self) -> None:
        """End the parts. Raises OutputError."""
        parts, self._parts = list(self._parts.values()), {}
        for part in parts:
            part.close()

    def join(
        self,
        name: str,
        seconds: Sequence[float],
        length: float | None,
        sound: Sound | None,
        pixel_aspect: Fraction,
    ) -> None:
        """Make the file of one of them of its parts, which are closed.

        seconds: of all frames, from the first on; length: how long it lasts, seconds, None = about
        a frame after the last; sound and pixel_aspect: of the overlay, see `video_parts.join`.
        Raises OutputError.
        """
        parts = self._state.parts(name)
        ends = [first for first, _ in parts[1:]] + [len(seconds)]
        pieces = [
            Piece(path, seconds[first], last - first)
            for (first, path), last in zip(parts, ends, strict=True)
        ]
        if name != OVERLAY:
            sound, pixel_aspect = None, Fraction(1)
        try:
            self._join(name, pieces, length, sound, pixel_aspect)
        except OutputError as error:
            if sound is None or is_run_wide(error):
                raise
            # Damaged sound, or of a kind that cannot be copied, must not cost the pictures.
            logger.warning("%s: its sound cannot go along: %s", printable(sound.source), error)
            self._join(name, pieces, length, None, pixel_aspect)

    def _join(
        self,
        name: str,
        pieces: Sequence[Piece],
        length: float | None,
        sound: Sound | None,
        pixel_aspect: Fraction,
    ) -> None:
        with atomic_path(self._target(name)) as temporary:
            join(pieces, temporary, self._forms[name], sound, pixel_aspect, length)
