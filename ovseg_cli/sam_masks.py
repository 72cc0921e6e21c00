"""Mask proposals of a Segment-Anything model (Kirillov et al., 2023, arXiv 2304.02643)."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg_cli.errors import CheckpointError, InputError, UsageError
from ovseg_cli.frame import Frame

POINTS = 64  # prompts that the model answers at once


class SamMasks:
    """All masks that a Segment-Anything model finds from a grid of points over a photo."""

    def __init__(self, checkpoint: Path, device: str) -> None:
        """checkpoint: a folder as transformers keeps it; device: as torch names it.

        Raises UsageError where the folder or the library is missing, CheckpointError for a folder
        that holds something else.
        """
        if not os.path.isfile(checkpoint / "config.json"):
            raise UsageError(
                f"--proposals sam:{checkpoint}: no folder with a model of transformers "
                "(config.json and its weights); nothing is downloaded for this option"
            )
        try:
            from transformers import pipeline
        except ImportError as error:
            raise UsageError(
                f"--proposals sam needs transformers ({error}): pip install 'ovseg-cli[sam]'"
            ) from error
        try:
            self._generate = pipeline("mask-generation", model=str(checkpoint), device=device)
        except Exception as error:  # the library fails in many ways on what is no such model
            reason = str(error).partition("\n")[0]
            raise CheckpointError(
                f"{checkpoint} cannot be loaded as a Segment-Anything model: {reason}"
            ) from error
        self._lock = threading.Lock()  # the pipeline is not made for several threads

    def __call__(self, frame: Frame, features: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        """Masks (Q, H, W) bool of that size. Raises InputError where the model finds none."""
        photo = Image.fromarray(frame.pixels).resize(size_hw[::-1], Image.Resampling.BICUBIC)
        with self._lock:
            found = self._generate(photo, points_per_batch=POINTS)["masks"]
        if len(found) == 0:
            raise InputError(f"{frame.source}: the Segment-Anything model finds no mask")
        return np.stack([np.asarray(mask, dtype=bool) for mask in found])
