"""Names in scripts that models have not learnt."""

import re
from collections.abc import Iterable

NOT_LATIN = "models know English names"  # what is to be said of such names

_LATIN = re.compile("[A-Za-z]")


def without_latin(phrases: Iterable[str]) -> bool:
    """Whether no text encoder here can know a class by any of its names."""
    return not any(map(_LATIN.search, phrases))
