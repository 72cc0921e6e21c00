"""WordNet's nouns, read from its own database files (wndb(5WN)), for the text tower's training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ovseg_cli.errors import UsageError


@dataclass(frozen=True)
class Synset:
    """One meaning: the words for it, its definition and its direct hypernyms."""

    lemmas: tuple[str, ...]
    definition: str
    hypernyms: tuple[int, ...]  # keys of the noun table


def read_nouns(folder: Path) -> tuple[dict[int, Synset], dict[str, tuple[int, ...]]]:
    """All noun synsets by offset, and each noun's synsets with the most frequent sense first.

    `folder` holds `data.noun` and `index.noun` (Debian: package wordnet-base). Raises UsageError.
    """
    try:
        data = (folder / "data.noun").read_text("utf-8").splitlines()
        index = (folder / "index.noun").read_text("utf-8").splitlines()
    except OSError as error:
        raise UsageError(
            f"WordNet's noun files cannot be read: {error}. "
            "On Debian the package wordnet-base has them; name their folder with "
            "--set stage.wordnet=DIR"
        ) from error
    synsets = {}
    for line in data:
        if not line.startswith(" "):  # the licence's lines start with a blank
            offset, synset = _parse_synset(line)
            synsets[offset] = synset
    senses = {}
    for line in index:
        if not line.startswith(" "):
            fields = line.split()
            count = int(fields[2])
            senses[fields[0].replace("_", " ")] = tuple(int(field) for field in fields[-count:])
    return synsets, senses


def _parse_synset(line: str) -> tuple[int, Synset]:
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    words = int(fields[3], 16)
    lemmas = tuple(fields[4 + 2 * i].replace("_", " ") for i in range(words))
    start = 4 + 2 * words
    pointers = [fields[start + 1 + 4 * i : start + 5 + 4 * i] for i in range(int(fields[start]))]
    hypernyms = tuple(int(p[1]) for p in pointers if p[0] in ("@", "@i") and p[2] == "n")
    definition = gloss.split('; "')[0].strip()  # the examples follow the definition
    return int(fields[0]), Synset(lemmas, definition, hypernyms)
