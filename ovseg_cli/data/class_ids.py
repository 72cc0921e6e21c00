"""classes.json of a labelled set: which name each id in its label maps has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ovseg_cli.json_files import once, read_json


def names_by_id(file: Path) -> dict[int, str]:
    """What classes.json says; of a plain list of names the ids are 0, 1, ... Raises OSError and
    ValueError.

    An id has one spelling: of two, one would take the place of the other's class in silence.
    """
    by_id: dict[int, str] = {}
    try:
        classes = read_json(file, once)
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error
    if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
        classes = {str(number): name for number, name in enumerate(classes)}
    if not isinstance(classes, dict):
        raise ValueError(
            'classes.json has the name of each id, such as {"0": "background", "1": "sky"}, or is '
            f"a list of names from id 0; this is {_kind_of_json(classes)}"
        )
    for key, name in classes.items():
        if not (key.isascii() and key.isdigit() and str(int(key)) == key):
            raise ValueError(f"classes.json: {key!r:.40} is no class id such as 0 or 17")
        if not isinstance(name, str):
            raise ValueError(f"classes.json: the name of class {key} is no text: {name!r:.40}")
        if "|" in name:  # synonyms to what scores it, one odd phrase to what learns from it
            raise ValueError(
                f"classes.json: class {key} has several names, {name!r:.40}: leave one; "
                "ovseg eval --rename tells the model others"
            )
        by_id[int(key)] = name.strip()  # as of names that are typed
    return by_id


def _kind_of_json(values: Any) -> str:
    """What a file holds that has no ids and names, for messages."""
    if isinstance(values, list) and all(isinstance(entry, dict) for entry in values):
        return "a list of objects, such as ovseg segment writes beside its results"
    return "a list of other things" if isinstance(values, list) else "none of these"
