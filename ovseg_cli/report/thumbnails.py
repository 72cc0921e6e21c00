"""Small pictures for the page: photo and overlay of one size, so that one can lie on the other."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from ovseg_cli.cores import available_cores
from ovseg_cli.encoding import encoded
from ovseg_cli.errors import InputError
from ovseg_cli.exports import label_kind
from ovseg_cli.frame import Frame
from ovseg_cli.legend import MIN_WIDTH
from ovseg_cli.links import refuse_links, refuse_links_within
from ovseg_cli.media.images import MAX_PIXELS, format_of, limit_of, read_image, read_values
from ovseg_cli.render import tinted
from ovseg_cli.run_folder.finished_run import FinishedPhoto, FinishedRun, vocabulary_of
from ovseg_cli.run_folder.journal_entry import Entry
from ovseg_cli.segmentation import UNLABELED, Segmentation
from ovseg_cli.whole_files import atomic_path, remove

LONGER_SIDE = 480  # pixels: a card is about 320 wide, on a phone's finer screen more
_OWN_NAME = re.compile(r"[0-9a-f]{20}-(photo|overlay|grey)\.jpg")
_HIGHEST_LEGEND = 8192  # pixels; 41 lines of the largest letters are less
TOO_LARGE = "the photo has more pixels than were to be read (--max-pixels)"
_CHANGED = "the photo has changed since the run"
_PAPER = 200  # grey level below an overlay that is made without its photo


@dataclass(frozen=True)
class Thumbnails:
    """The small pictures of one photo: file names in the page's folder, empty for none."""

    photo: str
    overlay: str
    missing: str = ""  # why there is no photo
    unsure: bool = False  # the file has another time than the run saw: copied, or another photo

    def files(self) -> Iterator[str]:
        """The names of those that there are."""
        return filter(None, (self.photo, self.overlay))


def write_thumbnails(
    run: FinishedRun, folder: Path, max_pixels: int = MAX_PIXELS
) -> Iterator[Thumbnails]:
    """Write those that are not there yet; yields each photo's, in the order of the run.

    A photo that cannot be read, has more than `max_pixels`, or is another by now, has its overlay
    alone. Raises OutputError.
    """
    refuse_links_within(run.out, folder)
    refuse_links(folder.parent, folder)
    maker = _Maker(run, folder, max_pixels)
    with ThreadPoolExecutor(available_cores()) as threads:
        # Not all at once: an error, or Ctrl-C, is to end this soon.
        step = 4 * available_cores()
        for start in range(0, len(run.photos), step):
            yield from threads.map(maker, run.photos[start : start + step])


def remove_others(folder: Path, kept: Sequence[Thumbnails]) -> None:
    """Remove thumbnails that are not kept, and the folder if it is empty then, where possible."""
    names = {name for each in kept for name in each.files()}
    own = [file for file in folder.glob("*.jpg") if _OWN_NAME.fullmatch(file.name)]
    remove(file for file in own if file.name not in names)
    with suppress(OSError):  # others' files stay
        folder.rmdir()


class _Maker:
    def __init__(self, run: FinishedRun, folder: Path, max_pixels: int) -> None:
        self.folder = folder
        self.max_pixels = max_pixels
        self.exif = run.exif
        self.vocabulary = vocabulary_of(run.classes)

    def __call__(self, photo: FinishedPhoto) -> Thumbnails:
        entry = photo.entry
        modified_ns, missing = _state(entry)
        # What is made of a file that may be another has names of its own.
        key = _key(replace(entry, modified_ns=modified_ns))
        name = f"{key}-photo.jpg"
        small = None
        if not missing:
            small, missing = self._photo(photo, name)
        kept = self.folder / name
        below = kept if small is None and _is_kept(kept) else small
        return Thumbnails(
            photo="" if missing else name,
            overlay=self._overlay(photo, key, below),
            missing=missing,
            unsure=not missing and modified_ns != entry.modified_ns,
        )

    def _photo(self, photo: FinishedPhoto, name: str) -> tuple[Image.Image | None, str]:
        """The small photo where it had to be made, and why there is none."""
        entry = photo.entry
        if _is_kept(self.folder / name):
            return None, ""
        path = Path(entry.path)
        try:
            if entry.width * entry.height > limit_of(format_of(path), self.max_pixels):
                return None, TOO_LARGE
            pixels = read_image(path, exif=self.exif, max_pixels=self.max_pixels).pixels
        except InputError:
            return None, "the photo cannot be read any more"
        if pixels.shape[:2] != (entry.height, entry.width):
            return None, _CHANGED
        small = _resized(Image.fromarray(pixels), photo)
        _write(self.folder / name, small)
        return small, ""

    def _overlay(self, photo: FinishedPhoto, key: str, below: Image.Image | Path | None) -> str:
        """The name of the photo's part of the saved overlay, or of one made of the label map.

        below: the small photo that it is made upon, or its file. Made without, upon grey, it has a
        name of its own, so that another is made once the photo is back.
        """
        if photo.overlay is None and photo.labels is None:
            return ""
        name = f"{key}-overlay.jpg"
        if _is_kept(self.folder / name):
            return name
        if photo.overlay is None and below is None:
            name = f"{key}-grey.jpg"
        try:
            picture = _without_legend(photo) if photo.overlay else self._tinted(photo, below)
        except Exception:
            # Damaged since, in one of Pillow's many ways: the page does without.
            return ""
        _write(self.folder / name, picture)
        return name

    def _tinted(self, photo: FinishedPhoto, below: Image.Image | Path | None) -> Image.Image:
        assert photo.labels is not None
        stored = Image.fromarray(read_values(photo.labels, max_pixels=self.max_pixels))
        labels = np.array(stored.resize(_size(photo), Image.Resampling.NEAREST)).astype(np.int32)
        labels[labels == np.iinfo(label_kind(len(self.vocabulary))).max] = UNLABELED
        if below is None:
            pixels = np.full((*labels.shape, 3), _PAPER, np.uint8)
        else:
            pixels = read_values(below, "RGB") if isinstance(below, Path) else np.array(below)
        segmentation = Segmentation(labels, np.zeros(labels.shape, np.float32), self.vocabulary)
        out = np.empty_like(pixels)
        tinted(Frame(pixels), segmentation, out=out)
        return Image.fromarray(out)


def _state(entry: Entry) -> tuple[int, str]:
    """When the photo's file was last written, in ns, and why it cannot be shown."""
    if not entry.path:
        return entry.modified_ns, "the folder does not tell where the photo is"
    try:
        found = Path(entry.path).stat()
    except (OSError, ValueError):
        return entry.modified_ns, "the photo is no longer where it was"
    if found.st_size != entry.size:
        return entry.modified_ns, _CHANGED
    return found.st_mtime_ns, ""


def _is_kept(file: Path) -> bool:
    """Whether a thumbnail is there; a link may lead to what is to be in no page."""
    return file.is_file() and not file.is_symlink()


def _without_legend(photo: FinishedPhoto) -> Image.Image:
    """The small overlay: the photo lies at its top left, a legend below and, if narrow, beside."""
    assert photo.overlay is not None
    entry = photo.entry
    with JpegImageFile(photo.overlay) as picture:  # not Image.open, which refuses large ones
        widest, highest = max(entry.width, MIN_WIDTH), entry.height + _HIGHEST_LEGEND
        # Ours are never progressive, of which a decoder holds the whole, at whatever scale.
        if picture.width > widest or picture.height > highest or "progressive" in picture.info:
            raise ValueError("this is not the overlay of the photo")
        # Decoded at a fraction of its size where that is enough: much faster. Enough for the photo,
        # which may be a small part of the picture.
        width, height = _size(photo)
        wanted = 2 * width * picture.width / entry.width, 2 * height * picture.height / entry.height
        picture.draft("RGB", (math.ceil(wanted[0]), math.ceil(wanted[1])))
        scale = picture.width / max(entry.width, MIN_WIDTH)
        # Whole pixels: at such a fraction the last one may be half of the legend.
        right, bottom = int(min(entry.width * scale, picture.width)), int(entry.height * scale)
        if bottom > picture.height:
            raise ValueError("this is not the overlay of the photo")
        box = (0, 0, max(1, right), max(1, bottom))
        return picture.convert("RGB").resize(_size(photo), Image.Resampling.BOX, box)


def _size(photo: FinishedPhoto) -> tuple[int, int]:
    """Width and height of its small pictures."""
    width, height = photo.entry.width, photo.entry.height
    scale = min(1.0, LONGER_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(picture: Image.Image, photo: FinishedPhoto) -> Image.Image:
    return picture.resize(_size(photo), Image.Resampling.BOX)


def _write(target: Path, picture: Image.Image) -> None:
    with atomic_path(target) as temporary:
        temporary.write_bytes(encoded(picture, "JPEG", quality=80))


def _key(entry: Entry) -> str:
    """The same for the same result only: a name that no file name can steer."""
    text = json.dumps(asdict(entry), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
