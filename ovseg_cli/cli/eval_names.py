"""Which of a labelled set's names `ovseg eval` scores, and what the model is told for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ovseg_cli.cli.options import listed_names
from ovseg_cli.errors import UsageError, VocabularyError

if TYPE_CHECKING:
    from ovseg_cli.data.pixel_set import PixelSet
    from ovseg_cli.vocabulary import ClassName


def own_names(option: str, text: str) -> tuple[str, ...]:
    """Names of the set that an option lists; raises UsageError for none, or for other words."""
    try:
        listed = listed_names(text)
    except VocabularyError as error:
        raise UsageError(f"{option}: {error}") from error
    for entry in listed.classes:
        if entry.synonyms:
            words = "|".join(entry.phrases)
            raise UsageError(
                f"{option} {words}: it takes the set's own names alone; other words for one of "
                f'them are told by --rename "{entry.name}={words}"'
            )
    return listed.names


def renamed(
    photos: PixelSet, synonyms: Sequence[ClassName], text: str | None
) -> list[str | ClassName]:
    """The set's names, with synonyms where it has some, and replaced where `text` has another.

    Raises UsageError for a text that is not NAME=WORD,..., and a name that the set does not have.
    """
    known = {entry.name: entry for entry in synonyms}
    words: list[str | ClassName] = [known.get(name, name) for name in photos.names]
    if text is None:
        return words
    replaced: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, equals, word = (part.strip() for part in pair.partition("="))
        if not equals or not word:
            raise UsageError(f"--rename {pair!r} is not NAME=WORD")
        if name in replaced:
            both = f"{replaced[name]}|{word}"
            raise UsageError(f"--rename has {name} twice: as synonyms they are {name}={both}")
        words[photos.positions([name])[0]] = replaced[name] = word
    if not replaced:
        raise UsageError("--rename names no class: NAME=WORD, such as car=automobile")
    return words
