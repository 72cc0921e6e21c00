"""What a run has left in its output folder: the photos with their areas, the failures, run.json."""

import csv
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import Any

from ovseg_cli.errors import UsageError, VocabularyError
from ovseg_cli.exports import LABELS, OVERLAY, WRITERS
from ovseg_cli.json_files import open_regular, read_json
from ovseg_cli.links import first_link
from ovseg_cli.printable import printable
from ovseg_cli.run_folder import layout, tables
from ovseg_cli.run_folder.journal import Journal
from ovseg_cli.run_folder.journal_entry import Entry, is_sound
from ovseg_cli.run_folder.noted_areas import ids_fit
from ovseg_cli.vocabulary import ClassName, Vocabulary
from ovseg_cli.whole_files import stays_inside

_LONGEST_LINE = 1 << 20  # characters of stats.csv; a name has fewer


@dataclass(frozen=True, kw_only=True)
class RunClass(ClassName):
    """A class as classes.json has it; position in `FinishedRun.classes` = id."""

    color: tuple[int, int, int]  # red, green, blue


@dataclass(frozen=True)
class FinishedPhoto:
    """One photo that the run has finished."""

    name: str  # what the tables call it
    entry: Entry  # its path is empty where the folder does not tell it
    overlay: Path | None  # as the run saved it
    labels: Path | None

    @property
    def confidence(self) -> float:
        """Mean over all its pixels, 0..1."""
        total = sum(pixels for _, pixels, _ in self.entry.areas)
        return sum(pixels * mean for _, pixels, mean in self.entry.areas) / max(total, 1)


@dataclass(frozen=True)
class FinishedRun:
    """An output folder of `ovseg segment`; the run may have been interrupted."""

    out: Path
    classes: tuple[RunClass, ...]
    photos: tuple[FinishedPhoto, ...]
    failures: tuple[tuple[str, str], ...]  # path and reason
    record: Mapping[str, Any]  # run.json; empty where the run was killed before it was written
    left_over: int  # photos of earlier runs with other options, which the page leaves out

    @property
    def exif(self) -> bool:
        """Whether the photos were turned upright."""
        options = self.record.get("options")
        return not isinstance(options, dict) or options.get("exif") is not False

    def require_loose_labels(self, purpose: str) -> None:
        """Raise UsageError where label maps lie in tar shards, of which nothing is read."""
        labels = (photo.labels for photo in self.photos)
        packed = {file.name for file in labels if file is not None and file.suffix == ".tar"}
        if packed:
            raise UsageError(
                f"{printable(str(self.out))} has its label maps in tar shards "
                f"({printable(min(packed))}), from which nothing is {purpose}: run ovseg segment "
                "without --tar-size, into another folder"
            )

    def sizes_above(self, limit: int) -> list[int]:
        """The pixels of each photo that has more than so many."""
        sizes = (photo.entry.width * photo.entry.height for photo in self.photos)
        return [size for size in sizes if size > limit]


def read_run(out: Path) -> FinishedRun:
    """Read an output folder; raises UsageError where it is none."""
    _is_own_folder.cache_clear()  # links come and go
    classes = read_classes(out)
    record = _read_record(out)
    latest: dict[str, Entry] = {}
    names: dict[str, str] = {}  # in the tables, by REL, where no path tells them
    try:
        for entry in Journal(out / layout.STATE).entries():
            if entry.rel not in latest or entry.order >= latest[entry.rel].order:
                latest[entry.rel] = entry
        if not latest:  # copied without its hidden folder
            for name, entry in _entries_of_stats(out):
                latest[entry.rel], names[entry.rel] = entry, name
    except OSError as error:
        raise UsageError(f"cannot read {printable(str(out))}: {error.strerror}") from error
    runs = tables.runs_of_classes(out)  # a run with other names may have ended before any photo
    named = [e for e in latest.values() if runs is None or e.run in runs or not e.run]
    newest = max(named, key=lambda entry: entry.order, default=None)
    own = _once([e for e in named if newest is not None and e.run == newest.run])
    done = [entry for entry in own if not entry.reason and fits_classes(entry, len(classes))]
    return FinishedRun(
        out=out,
        classes=classes,
        photos=tuple(_finished_photo(out, entry, names.get(entry.rel)) for entry in done),
        failures=tuple(_failures(own, record)),
        record=record,
        left_over=len(latest) - len(own),
    )


def _once(entries: Sequence[Entry]) -> list[Entry]:
    """Of each photo the latest: its REL changes when others begin, or cease, to meet with it."""
    newest: dict[str, Entry] = {}
    for entry in entries:
        other = newest.get(entry.path)
        if other is None or entry.order >= other.order:
            newest[entry.path] = entry
    return [entry for entry in entries if not entry.path or newest[entry.path] is entry]


def read_classes(out: Path) -> tuple[RunClass, ...]:
    """classes.json; raises UsageError where the folder is none of a run."""
    shown = printable(str(out))
    if not out.is_dir():
        raise UsageError(f"no such folder: {shown}; name the output folder of ovseg segment")
    try:
        values = read_json(out / layout.CLASSES)
        classes = tuple(
            RunClass(
                str(value["name"]),
                tuple(map(str, value["synonyms"])),
                tuple(map(str, value.get("parents", ()))),
                color=(int(value["color"][0]), int(value["color"][1]), int(value["color"][2])),
            )
            for value in values
        )
        if not all(0 <= part <= 255 for entry in classes for part in entry.color):
            raise ValueError("a colour beyond 0 to 255")
        vocabulary_of(classes)
    except VocabularyError as error:
        raise UsageError(f"{printable(str(out / layout.CLASSES))}: {error}") from error
    except (OSError, ValueError, TypeError, LookupError, OverflowError, AttributeError) as error:
        raise UsageError(
            f"{shown} is no output folder of ovseg segment: it has no {layout.CLASSES} as a run "
            f"writes it{of_clips(out)}"
        ) from error
    return classes


def vocabulary_of(classes: Iterable[RunClass]) -> Vocabulary:
    """What the run was asked for; raises VocabularyError for what none can have been."""
    return Vocabulary(ClassName(c.name, c.synonyms, c.parents) for c in classes)


def of_clips(out: Path) -> str:
    """The end of a message about a folder without photos: that it holds clips, where it does."""
    record = min((file.name for file in out.glob(f"*.{layout.REPORT}")), default=None)
    if record is None:
        return ""
    return f" (it holds clips, as {printable(record)} tells; report and export are of photos)"


def _read_record(out: Path) -> Mapping[str, Any]:
    """run.json; empty where it is missing or damaged, since the page can do without."""
    try:
        record = read_json(out / layout.REPORT)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def fits_classes(entry: Entry, classes: int) -> bool:
    """Whether an entry can be of a run of so many classes; it may come of a table, too."""
    return is_sound(entry) and ids_fit(entry.areas, classes)


def _finished_photo(out: Path, entry: Entry, name: str | None) -> FinishedPhoto:
    name = tables.image_name(entry.rel, entry.path) if name is None else name
    return FinishedPhoto(name, entry, _saved(out, entry, OVERLAY), _saved(out, entry, LABELS))


def _saved(out: Path, entry: Entry, kind: str) -> Path | None:
    """A file that the run wrote, if it is still there; never one outside the folder."""
    for name in entry.files.get(kind, ()):
        path = PurePath(name)
        if stays_inside(path) and _is_own_file(out, out / path):
            return out / path
    return None


def _is_own_file(out: Path, path: Path) -> bool:
    """Whether a file lies in the folder: to where a link leads may be anybody's."""
    return os.path.isfile(path) and not os.path.islink(path) and _is_own_folder(out, path.parent)


@lru_cache(maxsize=1024)  # there may be millions of files in it
def _is_own_folder(out: Path, folder: Path) -> bool:
    return first_link(out, folder) is None


def _entries_of_stats(out: Path) -> Iterator[tuple[str, Entry]]:
    """What stats.csv tells of the photos, where there is one, with their names in it."""
    areas: dict[str, list[tuple[int, int, float]]] = defaultdict(list)
    sizes: dict[str, tuple[int, int]] = {}
    try:
        opened = open_regular(out / layout.STATS)
        with io.TextIOWrapper(opened, encoding="utf-8", newline="") as stream:
            lines = iter(partial(stream.readline, _LONGEST_LINE), "")
            for row in csv.DictReader(lines):
                image = tables.text_of_cell(row["image"])
                sizes[image] = (int(row["width"]), int(row["height"]))
                area = (int(row["class_id"]), int(row["pixels"]), float(row["mean_confidence"]))
                areas[image].append(area)
                if not stays_inside(PurePath(image)):
                    raise ValueError("a photo's results cannot lie outside the folder")
    except FileNotFoundError:
        return
    except (ValueError, TypeError, LookupError, csv.Error) as error:
        shown = printable(str(out / layout.STATS))
        raise UsageError(f"{shown} is not a table as ovseg segment writes it") from error
    stems = {image: os.path.splitext(image)[0] for image in sizes}
    shared = Counter(stems.values())
    for image, (width, height) in sizes.items():
        stem = stems[image]
        rels = [image, stem] if shared[stem] > 1 else [stem, image]
        found = {rel: _results_of(out, rel) for rel in rels}
        rel = next(filter(found.get, rels), rels[0])
        told = tuple(areas[image])
        yield (
            image,
            Entry(rel, "", -1, 0, "", width=width, height=height, areas=told, files=found[rel]),
        )


def _results_of(out: Path, rel: str) -> dict[str, dict[str, int]]:
    """The overlay and label map of a photo that lie in the folder."""
    return {
        kind: {target.relative_to(out).as_posix(): 0}
        for kind in (OVERLAY, LABELS)
        for target in [WRITERS[kind].target(out, rel)]
        if _is_own_file(out, target)
    }


def _failures(entries: Sequence[Entry], record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Those of the journal, and those of run.json that it does not know (files never there)."""
    for entry in entries:
        if entry.reason:
            yield entry.path, entry.reason
    known: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        known[PurePath(entry.path).name].append(entry.path)
    for path, reason in recorded_failures(record):
        if not any(is_end_of(path, whole) for whole in known[PurePath(path).name]):
            yield path, reason


def recorded_failures(record: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Path, as it was typed, and reason of each failure in run.json."""
    failures = record.get("failures")
    for failure in failures if isinstance(failures, list) else ():
        if isinstance(failure, dict):
            yield str(failure.get("path", "")), str(failure.get("reason", ""))


def is_end_of(path: str, whole: str) -> bool:
    """Whether a path as it was typed may be this absolute one."""
    parts = tuple(part for part in PurePath(os.path.normpath(path)).parts if part != "..")
    return bool(parts) and PurePath(whole).parts[-len(parts) :] == parts
