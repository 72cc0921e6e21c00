"""What a benchmark yields."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

LOWER, HIGHER = "lower", "higher"


@dataclass(frozen=True)
class Figure:
    """One line of a benchmark."""

    key: str  # stable, "SECTION.what.measure": what a stored baseline is compared by
    name: str  # for people
    value: float
    unit: str
    better: str = ""  # LOWER or HIGHER; empty where neither is
    at: float | None = None  # of a cost against a number: that number
    series: str = ""  # of several such lines in one plot: which
    share: float | None = None  # of the whole that it is a part of

    @property
    def section(self) -> str:
        """What of the benchmark it belongs to."""
        return self.key.partition(".")[0]

    def record(self) -> dict[str, Any]:
        """Plain values for JSON, without those that say nothing."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


def memory(key: str, name: str, peak_bytes: float, **place: Any) -> Figure:
    """A peak of memory; place: `at` and `series` of the figure."""
    return Figure(key, name, peak_bytes / 1e6, "MB", LOWER, **place)
