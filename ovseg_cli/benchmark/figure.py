"""What a benchmark yields."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of a benchmark."""

    name: str
    value: float
    unit: str
