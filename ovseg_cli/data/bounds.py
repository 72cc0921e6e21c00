"""Bounds of the numbers in a recipe, for the dataclasses that it is built into."""

from __future__ import annotations

import math
from typing import Any

SHARE = (0, 1)
COUNT = (1, math.inf)
WEIGHT = (0, math.inf)
SIDE = (8, math.inf)  # of a view, pixels
SEED = (0, 2**63 - 1)  # that torch and NumPy both take
SCALE = (0.01, 100)  # enlargement of a photo


def require(config: Any, **bounds: tuple[float, float]) -> None:
    """Raise ValueError for a field of `config` that is not within its bounds, ends included."""
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        if not least <= value <= most or value == math.inf:
            wanted = f"{least} or more" if most == math.inf else f"from {least} to {most}"
            raise ValueError(f"{name} is {value}, not {wanted}")


def require_scales(name: str, scales: tuple[float, float]) -> None:
    """Raise ValueError for a smallest and a largest enlargement that nothing can be drawn between.

    name: of the field that has them.
    """
    (least, most), (low, high) = SCALE, scales
    if not least <= low <= high <= most:
        raise ValueError(
            f"{name} are the smallest and the largest, from {least} to {most}, not {list(scales)}"
        )
