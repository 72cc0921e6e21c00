"""Small pictures for the page: photo and overlay of one size, so that one can lie on the other."""

import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from ovseg_cli.cores import available_cores
from ovseg_cli.errors import InputError
from ovseg_cli.exports import label_kind
from ovseg_cli.finished_run import FinishedPhoto, FinishedRun
from ovseg_cli.frame import Frame
from ovseg_cli.legend import MIN_WIDTH
from ovseg_cli.links import refuse_links
from ovseg_cli.media.images import MAX_PIXELS, read_image, read_values
from ovseg_cli.render import tinted
from ovseg_cli.segmentation import UNLABELED, Segmentation
from ovseg_cli.vocabulary import ClassName, Vocabulary
from ovseg_cli.whole_files import atomic_path, remove

LONGER_SIDE = 480  # pixels: a card is about 320 wide, on a phone's finer screen more
_OWN_NAME = re.compile(r"[0-9a-f]{20}-(photo|overlay)\.jpg")
_HIGHEST_LEGEND = 8192  # pixels; 41 lines of the largest letters are less
_PAPER = 200  # grey level below an overlay that is made without its photo


@dataclass(frozen=True)
class Thumbnails:
    """The small pictures of one photo: file names in the page's folder, empty for none."""

    photo: str
    overlay: str
    missing: str = ""  # why there is no photo


def write_thumbnails(run: FinishedRun, folder: Path) -> Iterator[Thumbnails]:
    """Write those that are not there yet; yields each photo's, in the order of the run.

    A photo that cannot be read, or is another by now, has its overlay alone. Raises OutputError.
    """
    refuse_links(folder.parent, folder)
    maker = _Maker(run, folder)
    with ThreadPoolExecutor(available_cores()) as threads:
        # Not all at once: an error, or Ctrl-C, is to end this soon.
        step = 4 * available_cores()
        for start in range(0, len(run.photos), step):
            yield from threads.map(maker, run.photos[start : start + step])


def remove_others(folder: Path, kept: Sequence[Thumbnails]) -> None:
    """Remove thumbnails of earlier pages that the page no longer shows, as far as possible."""
    names = {name for each in kept for name in (each.photo, each.overlay)}
    own = [file for file in folder.glob("*.jpg") if _OWN_NAME.fullmatch(file.name)]
    remove(file for file in own if file.name not in names)


class _Maker:
    def __init__(self, run: FinishedRun, folder: Path) -> None:
        self.folder = folder
        self.exif = run.exif
        self.vocabulary = Vocabulary([ClassName(entry.name) for entry in run.classes])

    def __call__(self, photo: FinishedPhoto) -> Thumbnails:
        key = _key(photo)
        names = Thumbnails(f"{key}-photo.jpg", f"{key}-overlay.jpg")
        small, missing = self._photo(photo, names.photo)
        overlay = photo.overlay is not None or photo.labels is not None
        if overlay and not (self.folder / names.overlay).exists():
            picture = self._overlay(photo, small, names.photo)
            overlay = picture is not None
            if picture is not None:
                _write(self.folder / names.overlay, picture)
        return Thumbnails(
            photo="" if missing else names.photo,
            overlay=names.overlay if overlay else "",
            missing=missing,
        )

    def _photo(self, photo: FinishedPhoto, name: str) -> tuple[Image.Image | None, str]:
        """The small photo where it had to be made, and why there is none."""
        entry = photo.entry
        if not entry.path:
            return None, "the folder does not tell where the photo is"
        path = Path(entry.path)
        try:
            if path.stat().st_size != entry.size:
                return None, "the photo has changed since the run"
        except (OSError, ValueError):
            return None, "the photo is no longer where it was"
        if (self.folder / name).exists():
            return None, ""
        try:
            limit = max(MAX_PIXELS, entry.width * entry.height)
            pixels = read_image(path, exif=self.exif, max_pixels=limit).pixels
        except InputError:
            return None, "the photo cannot be read any more"
        if pixels.shape[:2] != (entry.height, entry.width):
            return None, "the photo has changed since the run"
        small = _resized(Image.fromarray(pixels), photo)
        _write(self.folder / name, small)
        return small, ""

    def _overlay(
        self, photo: FinishedPhoto, small: Image.Image | None, name: str
    ) -> Image.Image | None:
        """The photo's part of the saved overlay, or one made of the label map."""
        try:
            if photo.overlay is not None:
                return _without_legend(photo)
            if small is None and (self.folder / name).exists():
                with Image.open(self.folder / name) as kept:
                    small = kept.convert("RGB")
            return self._tinted(photo, small)
        except Exception:
            # Damaged since, in one of Pillow's many ways: the page does without.
            return None

    def _tinted(self, photo: FinishedPhoto, small: Image.Image | None) -> Image.Image:
        assert photo.labels is not None
        stored = Image.fromarray(read_values(photo.labels))
        labels = np.array(stored.resize(_size(photo), Image.Resampling.NEAREST)).astype(np.int32)
        labels[labels == np.iinfo(label_kind(len(self.vocabulary))).max] = UNLABELED
        below = np.full((*labels.shape, 3), _PAPER, np.uint8)
        if small is not None:
            below = np.array(small)
        segmentation = Segmentation(labels, np.zeros(labels.shape, np.float32), self.vocabulary)
        out = np.empty_like(below)
        tinted(Frame(below), segmentation, out=out)
        return Image.fromarray(out)


def _without_legend(photo: FinishedPhoto) -> Image.Image:
    """The small overlay: the photo lies at its top left, a legend below and, if narrow, beside."""
    assert photo.overlay is not None
    entry = photo.entry
    with JpegImageFile(photo.overlay) as picture:  # not Image.open, which refuses large ones
        widest, highest = max(entry.width, MIN_WIDTH), entry.height + _HIGHEST_LEGEND
        # Ours are never progressive, of which a decoder holds the whole, at whatever scale.
        if picture.width > widest or picture.height > highest or "progressive" in picture.info:
            raise ValueError("this is not the overlay of the photo")
        # Decoded at a fraction of its size where that is enough: much faster.
        picture.draft("RGB", tuple(2 * side for side in _size(photo)))
        scale = picture.width / max(entry.width, MIN_WIDTH)
        box = (0, 0, min(entry.width * scale, picture.width), entry.height * scale)
        if box[3] > picture.height:
            raise ValueError("this is not the overlay of the photo")
        return picture.convert("RGB").resize(_size(photo), Image.Resampling.BOX, box)


def _size(photo: FinishedPhoto) -> tuple[int, int]:
    """Width and height of its small pictures."""
    width, height = photo.entry.width, photo.entry.height
    scale = min(1.0, LONGER_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(picture: Image.Image, photo: FinishedPhoto) -> Image.Image:
    return picture.resize(_size(photo), Image.Resampling.BOX)


def _write(target: Path, picture: Image.Image) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    with atomic_path(target) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _key(photo: FinishedPhoto) -> str:
    """The same for the same result only: a name that no file name can steer."""
    text = json.dumps(asdict(photo.entry), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
