"""JSON that may come from anywhere."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """What a file holds. Raises OSError, and ValueError for whatever is wrong with its content."""
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """What a text holds; raises ValueError, also for one that is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
