"""A profile as a timeline, in the format that chrome://tracing and Perfetto show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ovseg_cli.benchmark.profile import PARTS, STAGES, Profile
from ovseg_cli.benchmark.spans import Span
from ovseg_cli.whole_files import atomic_path


def write_trace(path: Path, profile: Profile, machine: dict[str, Any]) -> None:
    """Both runs of a profile as two processes of one trace; raises OutputError."""
    runs = (("one photo after the other", profile.alone), ("side by side", profile.piped))
    events = [
        event for number, (name, spans) in enumerate(runs) for event in _events(number, name, spans)
    ]
    values = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": machine}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values), encoding="utf-8")


def _events(process: int, name: str, spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
    """Times are microseconds from the first span on; threads are numbered as they appear."""
    ordered = sorted(spans, key=lambda span: (span.begin, -span.end))
    threads = {thread: n for n, thread in enumerate(dict.fromkeys(s.thread for s in ordered))}
    naming = {"name": "process_name", "ph": "M", "pid": process, "tid": 0}
    yield {**naming, "args": {"name": name}}
    for span in ordered:
        stage, _, part = span.label.partition("/")
        yield {
            "name": PARTS.get(part) or STAGES.get(stage, stage),
            "cat": stage,
            "ph": "X",
            "ts": round(1e6 * (span.begin - ordered[0].begin), 1),
            "dur": round(1e6 * (span.end - span.begin), 1),
            "pid": process,
            "tid": threads[span.thread],
        }
