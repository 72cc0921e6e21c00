"""The tables of a run: stats.csv, summary.csv, parents.csv, classes.json."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ovseg_cli.json_files import read_json, write_json
from ovseg_cli.render import palette
from ovseg_cli.run_folder import layout
from ovseg_cli.run_folder.journal_entry import Entry
from ovseg_cli.run_folder.noted_areas import class_areas
from ovseg_cli.segmentation import UNLABELED, ClassArea, class_name
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.whole_files import atomic_path, remove

STATS = "stats"  # the name in --save for these tables; the others are in `exports.WRITERS`
Row = Sequence[object]

# What spreadsheets take for a formula (owasp.org/www-community/attacks/CSV_Injection), numbers
# apart; what has apostrophes before it, which are our own, or would be taken for them.
_SIGNS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_STARTS = "'" + _SIGNS
_FORMULA = re.compile(rf"'+[{re.escape(_SIGNS)}]|[{re.escape(_SIGNS)}](?![\d.]*\Z)")
STATS_COLUMNS = (
    "image",
    "width",
    "height",
    "class_id",
    "class",
    "pixels",
    "fraction",
    "mean_confidence",
)
PARENTS_COLUMNS = ("image", "parent", "pixels", "fraction", "mean_confidence")
SUMMARY_COLUMNS = ("class_id", "class", "pixels", "fraction", "images")


@dataclass(frozen=True)
class ClassTotal:
    """How much of all photos of a run a class covers."""

    class_id: int
    name: str
    pixels: int
    fraction: float  # of the pixels of all photos, 0..1
    images: int  # in which the class occurs


def image_name(rel: str, path: str) -> str:
    """What the tables call a photo: REL with the suffix that the input's name has."""
    name = os.path.basename(path)  # as text: there may be millions
    if rel.rpartition("/")[2] == name:
        return rel
    dot = name.rfind(".")
    return rel + name[dot:] if 0 < dot < len(name) - 1 else rel


def areas_of(entry: Entry, vocabulary: Vocabulary) -> list[ClassArea]:
    """The classes of one finished input, as `Segmentation.areas` gave them."""
    return class_areas(entry.areas, entry.width * entry.height, vocabulary.names)


@dataclass(frozen=True)
class ParentArea:
    """How much of one picture the kinds of something cover together."""

    path: tuple[str, ...]  # its name, and before it what it is itself a kind of
    pixels: int
    fraction: float  # of the picture's pixels, 0..1
    mean_confidence: float  # over these pixels, 0..1

    @property
    def name(self) -> str:
        """As tables show it."""
        return " > ".join(self.path)


def parent_areas(
    areas: Iterable[ClassArea], parents_of: Sequence[tuple[str, ...]]
) -> list[ParentArea]:
    """The areas of classes added up for everything that they are kinds of, in their order.

    parents_of: of each class, by id.
    """
    found: dict[tuple[str, ...], tuple[int, float, float]] = {}
    for area in areas:
        parents = parents_of[area.class_id] if area.class_id >= 0 else ()
        for depth in range(len(parents)):
            pixels, fraction, weighted = found.get(parents[: depth + 1], (0, 0.0, 0.0))
            found[parents[: depth + 1]] = (
                pixels + area.pixels,
                fraction + area.fraction,
                weighted + area.pixels * area.mean_confidence,
            )
    return [
        ParentArea(path, pixels, fraction, weighted / pixels)
        for path, (pixels, fraction, weighted) in found.items()
    ]


def write_stats(
    folder: Path, vocabulary: Vocabulary, entries: Iterable[Entry]
) -> Sequence[ClassTotal]:
    """Write stats.csv and summary.csv of the finished inputs, in the order given.

    The entries are taken one by one, so that a run of any length needs little memory. Returns the
    rows of the summary: every class, also one that never occurs, and the unlabelled pixels if any.
    """
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()

    def rows() -> Iterator[Row]:
        for entry in entries:
            image = image_name(entry.rel, entry.path)
            for area in areas_of(entry, vocabulary):
                pixels[area.class_id] += area.pixels
                images[area.class_id] += 1
                names = image, entry.width, entry.height, area.class_id, area.name
                yield *names, area.pixels, *shares(area)

    write_table(folder / layout.STATS, STATS_COLUMNS, rows())
    totals = _totals(vocabulary, pixels, images)
    rows_of_totals = (
        (total.class_id, total.name, total.pixels, f"{total.fraction:.9f}", total.images)
        for total in totals
    )
    write_table(folder / layout.SUMMARY, SUMMARY_COLUMNS, rows_of_totals)
    return totals


def write_parents(folder: Path, vocabulary: Vocabulary, entries: Iterable[Entry]) -> None:
    """Write parents.csv: a row per photo and per what its classes are kinds of.

    Where none is a kind of anything there is none, nor that of an earlier run.
    """
    parents_of = vocabulary.parents
    if not any(parents_of):
        remove([folder / layout.PARENTS])
        return

    def rows() -> Iterator[Row]:
        for entry in entries:
            image = image_name(entry.rel, entry.path)
            for area in parent_areas(areas_of(entry, vocabulary), parents_of):
                yield image, area.name, area.pixels, *shares(area)

    write_table(folder / layout.PARENTS, PARENTS_COLUMNS, rows())


def shares(area: ClassArea | ParentArea) -> tuple[str, str]:
    """Fraction and mean confidence as tables have them."""
    return f"{area.fraction:.9f}", f"{area.mean_confidence:.6f}"


def write_table(target: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a CSV file; the rows are taken one by one. Raises OutputError."""
    with (
        atomic_path(target) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        # Python before 3.13 puts a cell into quotes for a "\r" only where lines end in one.
        table = csv.writer(_UnixLines(stream), lineterminator="\r\n")
        table.writerow(columns)
        table.writerows(
            [_cell(value) if isinstance(value, str) else value for value in row] for row in rows
        )


class _UnixLines:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: str) -> None:
        self._stream.write(row.removesuffix("\r\n") + "\n")


def _cell(value: str) -> str:
    """A text as a table has it: a text that a spreadsheet would run gets an apostrophe before it.

    So does one that looks as if it had got one, so that `text_of_cell` can undo this.
    """
    is_formula = value[:1] in _STARTS and _FORMULA.match(value)
    return f"'{value}" if is_formula else value


def text_of_cell(cell: str) -> str:
    """The text that `_cell` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def write_classes(folder: Path, vocabulary: Vocabulary) -> None:
    """Write classes.json: id, name, synonyms and colour of every class."""
    colors = palette(len(vocabulary)).tolist()
    classes = [
        {"id": class_id, "name": entry.name, "synonyms": list(entry.synonyms), "color": color}
        | ({"parents": list(entry.parents)} if entry.parents else {})
        for class_id, (entry, color) in enumerate(zip(vocabulary.classes, colors, strict=True))
    ]
    write_json(folder / layout.CLASSES, classes)


def note_run(folder: Path, vocabulary: Vocabulary, run: str) -> None:
    """Note that the ids of a run are those of the classes.json that it is about to write.

    There is such a note only where some earlier run had other names: its results may stay. Raises
    OutputError.
    """
    runs = runs_of_classes(folder)
    if holds_other_names(folder, vocabulary):
        runs = ()
    if runs is not None and run not in runs:
        write_json(folder / layout.RUNS_OF_CLASSES, [*runs, run])


def runs_of_classes(folder: Path) -> Sequence[str] | None:
    """The runs whose ids are those of classes.json; None where they are so of all."""
    try:
        return [str(run) for run in read_json(folder / layout.RUNS_OF_CLASSES)]
    except (OSError, ValueError, TypeError):
        return None


def holds_other_names(folder: Path, vocabulary: Vocabulary) -> bool:
    """Whether there is a classes.json there, of other names than these."""
    try:
        found = [entry["name"] for entry in read_json(folder / layout.CLASSES)]
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return found != list(vocabulary.names)


def _totals(
    vocabulary: Vocabulary, pixels: Counter[int], images: Counter[int]
) -> Sequence[ClassTotal]:
    everything = pixels.total()
    ids = [*range(len(vocabulary)), *([UNLABELED] if pixels[UNLABELED] else [])]
    return [
        ClassTotal(
            class_id=class_id,
            name=class_name(class_id, vocabulary.names),
            pixels=pixels[class_id],
            fraction=pixels[class_id] / everything if everything else 0.0,
            images=images[class_id],
        )
        for class_id in ids
    ]
