"""What is noted of each frame of a clip, and the tables that are made of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

from ovseg_cli.clips.removal import remove_file
from ovseg_cli.json_files import parse_json
from ovseg_cli.run_folder.noted_areas import NotedAreas, are_sound, class_areas, ids_fit
from ovseg_cli.run_folder.tables import Row, parent_areas, shares, write_table
from ovseg_cli.segmentation import ClassArea
from ovseg_cli.vocabulary import Vocabulary

LONGEST = 1e10  # seconds: streams may count from 1970
SHARES = ("pixels", "fraction", "mean_confidence")
STATS_COLUMNS = ("frame", "seconds", "class_id", "class", *SHARES)
PARENTS_COLUMNS = ("frame", "seconds", "parent", *SHARES)

Records = Callable[[], Iterable["FrameRecord"]]  # gives the frames of a clip, each time anew


@dataclass(frozen=True)
class FrameRecord:
    """A frame that is written."""

    index: int  # in the clip, from 0
    seconds: float
    size: int  # pixels
    areas: NotedAreas | None  # None: held

    @classmethod
    def of(cls, line: str, classes: int) -> FrameRecord:
        """From what `line` gives, of so many classes; raises ValueError for anything else."""
        try:
            index, seconds, size, areas = parse_json(line)
            held = areas is None
            found = cls(index, seconds, size, None if held else tuple(map(tuple, areas)))
            sound = (
                type(index) is int
                and type(size) is int
                and index >= 0 <= seconds < LONGEST
                and are_sound(found.areas or (), size)
                and ids_fit(found.areas or (), classes)
            )
        except TypeError:
            sound = False
        if not sound or size < 1:
            raise ValueError("no record of a frame")
        return found

    def line(self) -> str:
        """As a line of a journal."""
        return json.dumps(astuple(self)) + "\n"

    def class_areas(self, vocabulary: Vocabulary) -> list[ClassArea]:
        """The classes of the frame; none where it is held."""
        return class_areas(self.areas or (), self.size, vocabulary.names)


def write_tables(stats: Path, parents: Path, records: Records, vocabulary: Vocabulary) -> None:
    """The table of classes and, where they are kinds of something, that of those; else it goes.

    Raises OutputError.
    """

    def rows(of_classes: bool) -> Iterator[Row]:
        for record in records():
            moment = record.index + 1, f"{record.seconds:.6f}"
            areas = record.class_areas(vocabulary)
            if of_classes:
                for area in areas:
                    yield *moment, area.class_id, area.name, area.pixels, *shares(area)
            else:
                for kind in parent_areas(areas, vocabulary.parents):
                    yield *moment, kind.name, kind.pixels, *shares(kind)

    write_table(stats, STATS_COLUMNS, rows(of_classes=True))
    if any(vocabulary.parents):
        write_table(parents, PARENTS_COLUMNS, rows(of_classes=False))
    else:
        remove_file(parents)
