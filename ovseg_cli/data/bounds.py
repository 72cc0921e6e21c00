"""Bounds of the numbers in a recipe, for the dataclasses that it is built into."""

from __future__ import annotations

import math
from typing import Any

SHARE = (0, 1)
COUNT = (1, math.inf)
WEIGHT = (0, math.inf)
SOME_WEIGHT = (1e-6, math.inf)  # where weights are divided by, and none would be nothing
SIDE = (8, math.inf)  # of a view, pixels
SEED = (0, 2**63 - 1)  # that torch and NumPy both take
SCALE = (0.01, 100)  # enlargement of a photo


def require(config: Any, **bounds: tuple[float, float]) -> None:
    """Raise ValueError for a field of `config` that is not within its bounds, ends included.

    A field with a number for each of several names has them for each.
    """
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        named = value if isinstance(value, dict) else {"": value}
        for key, number in named.items():
            if not least <= number <= most or number == math.inf:
                wanted = f"{least} or more" if most == math.inf else f"from {least} to {most}"
                which = f"{name}: that of {key}" if key else name
                raise ValueError(f"{which} is {number}, not {wanted}")


def require_scales(name: str, scales: tuple[float, float]) -> None:
    """Raise ValueError for a smallest and a largest enlargement that nothing can be drawn between.

    name: of the field that has them.
    """
    (least, most), (low, high) = SCALE, scales
    if not least <= low <= high <= most:
        raise ValueError(
            f"{name} are the smallest and the largest, from {least} to {most}, not {list(scales)}"
        )
