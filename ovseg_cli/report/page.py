"""Put the page together: one HTML file that needs no other, or of a large run its thumbnails."""

import base64
import hashlib
import json
import math
import os
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from ovseg_cli import __version__
from ovseg_cli.json_files import open_regular
from ovseg_cli.links import first_link
from ovseg_cli.media.folders import is_image_name
from ovseg_cli.printable import printable
from ovseg_cli.report.accuracy import Accuracy
from ovseg_cli.report.thumbnails import Thumbnails, remove_others
from ovseg_cli.run_folder.finished_run import FinishedPhoto, FinishedRun
from ovseg_cli.run_folder.tables import parent_areas
from ovseg_cli.segmentation import UNLABELED, ClassArea, class_name
from ovseg_cli.whole_files import atomic_path, remove

# Of JPEG, for a page to hold its own thumbnails: those of some 500 photos. As base64 they make a
# page of 32 MB, which a browser opens within a second; it takes in all before it shows any, so that
# more would have to be waited for.
EMBEDDED_BYTES = 24_000_000

_GENERATOR = b'<meta name="generator" content="ovseg '  # in page.html
SCRIPTS = ("elements.js", "sections.js", "photos.js")  # one script, in this order

# What the script takes these parts of run.json for.
_RECORD = {name: str for name in ("command", "status", "version", "device", "precision")} | {
    name: dict for name in ("model", "options", "timing", "counts")
}
_TIMING = {"started": str}

# "<" could end the script element, "&" and ">" begin something in older parsers; U+2028 and U+2029
# end lines in older JavaScript. json.dumps has escaped those two, as all that is not ASCII.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def thumbnails_folder(target: Path) -> Path:
    """Where thumbnails are made, and those of a large run stay: beside the page, named after it."""
    return target.parent / f"{target.stem}-files"


def write_page(
    target: Path,
    run: FinishedRun,
    thumbnails: Sequence[Thumbnails],
    accuracy: Accuracy | None = None,
) -> bool:
    """Write the page of a run, with one entry of `thumbnails` a photo; returns if it stands alone.

    If so, the thumbnails are in it, and no longer in their folder; else those of earlier pages go
    from there. Raises OutputError.
    """
    folder = thumbnails_folder(target)
    with atomic_path(target) as temporary:
        alone = stands_alone(folder, thumbnails)
        text = page(contents(target, run, thumbnails, accuracy, embed=alone))
        temporary.write_bytes(text.encode())
    remove_others(folder, () if alone else thumbnails)
    return alone


def stands_alone(folder: Path, thumbnails: Sequence[Thumbnails]) -> bool:
    """Whether the thumbnails are small enough, together, to be within the page."""
    total = 0
    for name in (name for each in thumbnails for name in each.files()):
        total += (folder / name).stat().st_size
        if total > EMBEDDED_BYTES:
            return False
    return True


def discard_page(target: Path) -> None:
    """Remove a page and its thumbnails, as far as that is possible; no page of others."""
    try:
        with open_regular(target) as stream:
            is_ours = _GENERATOR in stream.read(2000)
    except (OSError, ValueError):
        is_ours = False
    folder = thumbnails_folder(target)
    if not is_ours or first_link(target.parent, folder) is not None:
        return
    remove([target])
    remove_others(folder, ())


def page(values: Mapping[str, Any]) -> str:
    """The HTML of what `contents` gives. Data stands in it as JSON only, never as HTML."""
    style, script = _text("page.css"), "".join(map(_text, SCRIPTS))
    policy = (
        "default-src 'none'; img-src 'self' file: data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    data = json.dumps(values, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)
    parts = {"policy": policy, "style": style, "script": script, "data": data}
    return string.Template(_text("page.html")).substitute(parts, version=__version__)


def contents(
    target: Path,
    run: FinishedRun,
    thumbnails: Sequence[Thumbnails],
    accuracy: Accuracy | None = None,
    *,
    embed: bool,
) -> dict[str, Any]:
    """All that the page shows, ready for JSON; names have no control or direction characters.

    embed: the thumbnails themselves, not their addresses.
    """
    source = partial(_embedded if embed else _beside, thumbnails_folder(target))
    score = partial(_score, accuracy, {} if accuracy is None else accuracy.undefined())
    return {
        "name": printable(run.out.resolve().name),
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "classes": _classes(run, accuracy),
        "kinds": _kinds(run),
        "photos": [
            _photo(target, photo, small, source) | score(photo)
            for photo, small in zip(run.photos, thumbnails, strict=True)
        ],
        "failures": [[printable(path), printable(reason)] for path, reason in run.failures],
        "left_over": run.left_over,
        "run": _record(run.record),
        "accuracy": None if accuracy is None else _accuracy(accuracy),
    }


def _classes(run: FinishedRun, accuracy: Accuracy | None) -> list[dict[str, Any]]:
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for photo in run.photos:
        for class_id, count, _ in photo.entry.areas:
            pixels[class_id] += count
            images[class_id] += 1
    iou = {} if accuracy is None else accuracy.iou()
    everything = max(pixels.total(), 1)
    rows: list[tuple[int, str, tuple[str, ...], Sequence[int] | None]] = [
        (class_id, entry.name, entry.synonyms, entry.color)
        for class_id, entry in enumerate(run.classes)
    ]
    if pixels[UNLABELED]:
        rows.append((UNLABELED, class_name(UNLABELED, ()), (), None))
    return [
        {
            "id": class_id,
            "name": printable(name),
            "synonyms": [printable(word) for word in synonyms],
            "color": color,
            "share": round(pixels[class_id] / everything, 9),
            "photos": images[class_id],
            "iou": _number(iou.get(class_id)),
        }
        for class_id, name, synonyms, color in rows
    ]


def _kinds(run: FinishedRun) -> list[dict[str, Any]]:
    """What classes are kinds of, with its share of all pixels."""
    parents_of = [entry.parents for entry in run.classes]
    pixels: Counter[str] = Counter()
    images: Counter[str] = Counter()
    everything = 0
    for photo in run.photos:
        areas = [ClassArea(i, "", count, 0.0, mean) for i, count, mean in photo.entry.areas]
        everything += sum(area.pixels for area in areas)
        for area in parent_areas(areas, parents_of):
            pixels[area.name] += area.pixels
            images[area.name] += 1
    return [
        {"name": printable(name), "share": round(count / everything, 9), "photos": images[name]}
        for name, count in pixels.most_common()
    ]


def _photo(
    target: Path,
    photo: FinishedPhoto,
    small: Thumbnails,
    source: Callable[[str], str],
) -> dict[str, Any]:
    entry = photo.entry
    size = entry.width * entry.height
    return {
        "name": printable(photo.name),
        "width": entry.width,
        "height": entry.height,
        "confidence": round(photo.confidence, 6),
        # Class id (-1: unlabelled), share of the photo, mean confidence.
        "areas": [[i, round(n / size, 9), round(mean, 9)] for i, n, mean in entry.areas],
        "photo": small.photo and source(small.photo),
        "overlay": small.overlay and source(small.overlay),
        "missing": small.missing,
        "unsure": small.unsure,
        "links": {
            "photo": _address(target, Path(entry.path)) if small.photo else "",
            "overlay": _address(target, photo.overlay) if photo.overlay else "",
        },
    }


def _score(
    accuracy: Accuracy | None, undefined: Mapping[str, str], photo: FinishedPhoto
) -> dict[str, Any]:
    """The IoU of a photo, or why it has none; nothing where no labels were at hand."""
    if accuracy is None:
        return {}
    rel = photo.entry.rel
    iou = _number(accuracy.photos.get(rel))
    return {"iou": iou, "no_iou": undefined.get(rel, "no labels") if iou is None else ""}


def _beside(folder: Path, name: str) -> str:
    """The address of a thumbnail that lies in the page's folder."""
    return f"{quote_from_bytes(os.fsencode(folder.name))}/{name}"


def _embedded(folder: Path, name: str) -> str:
    """A thumbnail as an address that holds all of it; raises OSError."""
    return f"data:image/jpeg;base64,{base64.b64encode((folder / name).read_bytes()).decode()}"


def _accuracy(accuracy: Accuracy) -> dict[str, Any]:
    return {
        "data": printable(accuracy.data.name),
        "photos": accuracy.labelled,
        "mean_iou": _number(accuracy.mean_iou()),
        "not_named": [printable(name) for name in accuracy.not_named],
        "none_named": sum(map(math.isnan, accuracy.photos.values())),
        "other_size": len(accuracy.other_size),
        "unread": len(accuracy.unread),
    }


def _address(target: Path, file: Path) -> str:
    """A link from the page to a picture: relative, so that it can be no other kind of address.

    Empty for a file that a browser might not take for a picture: what it holds could run.
    """
    if not is_image_name(file):
        return ""
    place = os.path.join(os.path.realpath(file.parent), file.name)
    try:
        relative = os.path.relpath(place, os.path.realpath(target.parent))
    except ValueError:  # another drive of Windows
        return ""
    return quote_from_bytes(os.fsencode(relative.replace(os.sep, "/")))


def _number(value: float | None) -> float | None:
    """JSON has neither NaN nor infinity."""
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _record(record: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json tells, with all text safe to show.

    It may come from elsewhere: what is not of the type that the page's script takes it for is left
    out.
    """
    told: dict[str, Any] = _printable(record)
    for values, kinds in ((told, _RECORD), (told.get("timing"), _TIMING)):
        if isinstance(values, dict):
            for name in values.keys() & kinds.keys():
                if not isinstance(values[name], kinds[name]):
                    del values[name]
    return told


def _printable(values: Any) -> Any:
    """The same with all text safe to show, and without numbers that JSON does not have."""
    if isinstance(values, Mapping):
        return {printable(str(key)): _printable(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_printable(value) for value in values]
    if isinstance(values, float):
        return _number(values)
    return printable(values) if isinstance(values, str) else values


def _text(name: str) -> str:
    """A part of the page as it is packaged, in lines that end as the browser will see them."""
    text = (resources.files("ovseg_cli.report") / name).read_text("utf-8")
    return text.replace("\r\n", "\n")


def _hash(text: str) -> str:
    """What the content security policy lets through: this text and no other."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
