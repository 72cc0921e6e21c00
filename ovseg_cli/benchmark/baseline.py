"""Figures kept in a file, and later ones held against them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovseg_cli.benchmark.figure import HIGHER, LOWER, Figure
from ovseg_cli.benchmark.plan import SECTIONS
from ovseg_cli.errors import UsageError
from ovseg_cli.json_files import read_json
from ovseg_cli.whole_files import atomic_path

FORMAT = 1  # of the file
WORSE, BETTER, NEW, INCOMPARABLE = "worse", "better", "new", "not comparable"
# What two machines have in common whose figures may be compared.
MACHINE = ("cpu", "cores", "threads", "gpu", "system", "torch")


@dataclass(frozen=True)
class Comparison:
    """A figure beside the one of the baseline."""

    before: float | None  # None: the baseline does not have it
    ratio: float | None  # now / before; None: one that says nothing, as of 0
    verdict: str  # one of the above, or empty where the two are as good as equal

    def record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"baseline": self.before, "ratio": self.ratio, "verdict": self.verdict or "same"}


class Baseline:
    """The figures of an earlier run."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError for a file that is none of ours."""
        self.path = path
        try:
            stored = read_json(path)
        except OSError as error:
            raise UsageError(f"cannot read the baseline {path}: {error.strerror}") from error
        except ValueError as error:
            raise self._unusable(str(error)) from error
        figures = _mapping(stored).get("figures")
        if not isinstance(figures, list) or not figures:
            raise self._unusable("no figures in it")
        form = stored.get("format")
        if form != FORMAT or isinstance(form, bool):
            raise self._unusable(f"its format is {form!r:.40}, not {FORMAT}")
        self.machine = _mapping(stored.get("machine"))
        self.settings = _mapping(stored.get("settings"))
        self.values: dict[str, float] = {}
        for key, value in map(self._entry, figures):
            if key in self.values:  # which of the two counts, nothing says
                raise self._unusable(f"two figures with the key {key!r:.80}")
            self.values[key] = value

    def _entry(self, figure: Any) -> tuple[str, float]:
        key: Any = _mapping(figure).get("key")
        value: Any = _mapping(figure).get("value")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        # Compared, as a whole number of JSON may be too large to be made a float.
        if isinstance(key, str) and number and abs(value) <= sys.float_info.max:
            return key, float(value)
        raise self._unusable(f"a figure without key or number: {json.dumps(figure)[:80]}")

    def _unusable(self, reason: str) -> UsageError:
        return UsageError(
            f"{self.path} is no baseline ({reason}): 'ovseg bench --store FILE' makes one"
        )

    def require(self, sections: Iterable[str]) -> None:
        """Raises UsageError where none of the sections was measured for this baseline."""
        known = (*SECTIONS, "profile")
        keys = dict.fromkeys(key.partition(".")[0] for key in self.values)
        held = [section for section in keys if section in known]
        if not held:
            raise self._unusable(f"no figures of {', '.join(known)} in it")
        if not set(held) & set(sections):
            raise UsageError(
                f"{self.path} holds figures of {', '.join(held)}, none of what is to be measured: "
                f"--only {','.join(held)} (or --profile) measures the same"
            )

    def differences(self, machine: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
        """In what the baseline was measured otherwise, so that ratios say little."""
        then, now = {**self.machine, **self.settings}, {**machine, **settings}
        return [
            f"{name} {then.get(name)!s:.80}, now {now.get(name)!s:.80}"
            for name in (*MACHINE, *settings)
            if then.get(name) != now.get(name)
        ]

    def compare(self, figure: Figure, tolerance: float) -> Comparison:
        """tolerance: 0.15 allows 15 % more of what should be low, or 1 / 1.15 of what should be
        high: the same change of speed, whichever way it is written.
        """
        before = self.values.get(figure.key)
        if before is None:
            return Comparison(None, None, NEW)
        # What is below that has few digits, or none.
        ratio = figure.value / before if before >= sys.float_info.min else 0.0
        if not 0 < ratio < math.inf:
            return Comparison(before, None, INCOMPARABLE)
        slower = {LOWER: ratio, HIGHER: 1 / ratio}.get(figure.better, 1.0)
        limit = 1 + tolerance
        verdict = WORSE if slower > limit else BETTER if slower < 1 / limit else ""
        return Comparison(before, ratio, verdict)


def store(
    path: Path,
    figures: Sequence[Figure],
    machine: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Write figures for later comparison; raises OutputError."""
    values = {
        "format": FORMAT,
        "machine": dict(machine),
        "settings": dict(settings),
        "figures": [figure.record() for figure in figures],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
