"""Writers of results by name: Segmentation -> files."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ovseg_cli import png
from ovseg_cli.encoding import encoded
from ovseg_cli.errors import UsageError
from ovseg_cli.frame import Frame
from ovseg_cli.png import Metadata
from ovseg_cli.printable import printable
from ovseg_cli.render import overlay, palette
from ovseg_cli.segmentation import UNLABELED, Segmentation
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.whole_files import atomic_path, output_errors, remove

OVERLAY = "overlay"  # the name in --save of what --show shows, too
VOCABULARY = "Vocabulary"  # text chunk of label maps: the names whose positions the values are
LABELS = "labels"  # the name in --save of the label maps
UNLABELED_8 = 255  # in 8-bit label maps
UNLABELED_16 = 65535  # in 16-bit label maps
JPEG_LIMIT = 65500  # pixels along a side
SLUG_BYTES = 60  # of a class name in the name of a file


@dataclass(frozen=True)
class Writer:
    """One kind of result: OUT/folder/REL + suffix."""

    name: str  # in --save
    folder: str
    suffix: str  # of the file; empty = the target is a folder of files
    write: Callable[[Path, Frame, Segmentation, Metadata], list[Path]]  # returns the files written
    max_classes: int  # that the format can tell apart

    def check(self, vocabulary: Vocabulary) -> None:
        """Raise UsageError where the format has too few values for the vocabulary."""
        if len(vocabulary) > self.max_classes:
            raise UsageError(
                f"--save {self.name} holds at most {self.max_classes} classes, "
                f"the vocabulary has {len(vocabulary)}"
            )

    def target(self, out: Path, rel: str) -> Path:
        """Where the result of the photo named REL goes."""
        return out / self.folder / f"{rel}{self.suffix}"


def select(
    names: Iterable[str], vocabulary: Vocabulary, others: Iterable[str] = ()
) -> list[Writer]:
    """The writers of these names, checked against the vocabulary.

    others are names that are valid but written by somebody else; they are passed over.
    Raises UsageError for a name that nobody knows.
    """
    names, others = list(dict.fromkeys(names)), tuple(others)
    for name in names:
        if name not in WRITERS and name not in others:
            known = ", ".join(dict.fromkeys([*WRITERS, *others]))
            raise UsageError(f"--save does not know '{printable(name)}'; there are: {known}")
    writers = [WRITERS[name] for name in names if name in WRITERS]
    for writer in writers:
        writer.check(vocabulary)
    return writers


def _write_bytes(target: Path, data: bytes) -> list[Path]:
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)
    return [target]


def write_png(target: Path, image: Image.Image, metadata: Metadata) -> list[Path]:
    """Write a PNG with text chunks; returns its path."""
    return _write_bytes(target, png.encoded(image, metadata))


def write_jpeg(target: Path, image: Image.Image) -> list[Path]:
    """Write a picture with letters in it, made smaller where the format has no such size."""
    if max(image.size) > JPEG_LIMIT:
        image.thumbnail((JPEG_LIMIT, JPEG_LIMIT))
    # 4:4:4 keeps letters and borders sharp.
    return _write_bytes(target, encoded(image, "JPEG", quality=90, subsampling=0))


def _write_map(target: Path, values: np.ndarray, metadata: Metadata) -> list[Path]:
    return _write_bytes(target, png.encoded_map(values, metadata))


def _write_overlay(
    target: Path, frame: Frame, segmentation: Segmentation, metadata: Metadata
) -> list[Path]:
    return write_jpeg(target, overlay(frame, segmentation))


def _write_labels(
    target: Path, frame: Frame, segmentation: Segmentation, metadata: Metadata
) -> list[Path]:
    ids = _ids(segmentation, label_kind(len(segmentation.vocabulary)))
    return _write_map(target, ids, metadata)


def label_kind(classes: int) -> type[np.unsignedinteger]:
    """The numbers in a label map of so many classes; the greatest of them is unlabelled."""
    return np.uint8 if classes <= UNLABELED_8 else np.uint16


def _write_palette(
    target: Path, frame: Frame, segmentation: Segmentation, metadata: Metadata
) -> list[Path]:
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(segmentation.vocabulary)] = palette(len(segmentation.vocabulary))
    return write_png(target, paletted(_ids(segmentation, np.uint8), colors), metadata)


def paletted(ids: np.ndarray, colors: np.ndarray) -> Image.Image:
    """A palette image of ids (H, W) uint8 and the colours (256, 3) uint8 of all of them.

    All 256: with fewer, Pillow packs several ids into a byte.
    """
    image = Image.frombytes("P", (ids.shape[1], ids.shape[0]), ids.tobytes())
    image.putpalette(colors.tobytes())
    return image


def _write_masks(
    target: Path, frame: Frame, segmentation: Segmentation, metadata: Metadata
) -> list[Path]:
    """A file a class that occurs, 255 where it is and 0 elsewhere; masks of others are removed."""
    files: list[Path] = []
    try:
        for area in segmentation.areas():
            if area.class_id != UNLABELED:
                mask = np.where(segmentation.labels == area.class_id, np.uint8(255), np.uint8(0))
                stem = f"{area.class_id}-{slug(area.name)}".rstrip("-")
                files += _write_map(target / f"{stem}.png", mask, metadata)
        with output_errors(target):
            target.mkdir(parents=True, exist_ok=True)  # also where every pixel is unlabelled
            for old in set(target.glob("*.png")).difference(files):
                if is_mask(old.name) and old.is_file():
                    old.unlink()
    except BaseException:
        remove(files)
        raise
    return files


def _write_confidence(
    target: Path, frame: Frame, segmentation: Segmentation, metadata: Metadata
) -> list[Path]:
    values = np.rint(segmentation.confidence * np.float32(65535)).astype(np.uint16)
    return write_png(target, Image.fromarray(values), metadata)


def _write_npz(
    target: Path, frame: Frame, segmentation: Segmentation, metadata: Metadata
) -> list[Path]:
    """For numpy.load: `labels` (H, W) int32, -1 = unlabelled; `confidence` float32; `names`."""
    with atomic_path(target) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            labels=segmentation.labels,
            confidence=segmentation.confidence,
            names=np.array(segmentation.vocabulary.names),
        )
    return [target]


def _ids(segmentation: Segmentation, kind: type[np.unsignedinteger]) -> np.ndarray:
    """The label map in 8 or 16 bits; UNLABELED = -1 becomes the greatest value, 255 or 65535."""
    return segmentation.labels.astype(kind)


def is_mask(name: str) -> bool:
    """Whether a file is called as the mask of a class is."""
    return re.fullmatch(r"\d+(-.*)?\.png", name, re.ASCII) is not None


def slug(name: str) -> str:
    """A class name as part of a file name: its letters and digits, at most SLUG_BYTES."""
    normal = unicodedata.normalize("NFC", name).lower()
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else "-" for c in normal)
    words = re.sub("-+", "-", kept).strip("-")
    return words.encode()[:SLUG_BYTES].decode(errors="ignore").strip("-")


WRITERS: Mapping[str, Writer] = {
    writer.name: writer
    for writer in (
        Writer(OVERLAY, "overlays", ".jpg", _write_overlay, UNLABELED_16),
        Writer(LABELS, "labels", ".png", _write_labels, UNLABELED_16),
        Writer("palette", "palette", ".png", _write_palette, UNLABELED_8),
        Writer("masks", "masks", "", _write_masks, UNLABELED_16),
        Writer("confidence", "confidence", ".png", _write_confidence, UNLABELED_16),
        Writer("npz", "npz", ".npz", _write_npz, UNLABELED_16),
    )
}
