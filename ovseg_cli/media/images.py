"""Photos of any kind, whole or broken -> Frame, with Pillow only."""

import importlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageCms

from ovseg_cli.errors import InputError
from ovseg_cli.frame import Frame
from ovseg_cli.media.inputs import ImageInput, find_images, is_image_name
from ovseg_cli.vocabulary import printable

__all__ = ["MAX_PIXELS", "ImageInput", "find_images", "is_image_name", "read_image"]

MAX_PIXELS = 178_956_970  # what Pillow itself would refuse

# In the order in which a file is tried. Left out are formats that start other programs (EPS) or
# that accept any bytes (TGA).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
for _plugin in ("Jpeg", "Png", "WebP", "Gif", "Bmp", "Tiff", "Ppm", "Jpeg2K", "Avif"):
    with suppress(ImportError):  # AVIF came with Pillow 11.3
        importlib.import_module(f"PIL.{_plugin}ImagePlugin")

_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {  # its values -> what brings the photo upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OPPOSITE = {6: 8, 8: 6}  # all other turns undo themselves


def read_image(path: str | Path, *, exif: bool = True, max_pixels: int = MAX_PIXELS) -> Frame:
    """Read a photo as 8-bit RGB, upright after its EXIF orientation unless `exif` is False.

    Of an animation or a multi-page file the first picture is taken. Transparent pixels are laid
    over white. 16-bit values are divided by 257. Embedded colour profiles are not applied.
    Raises InputError, and nothing else, whatever the file holds; a photo of more than
    `max_pixels` pixels is refused before it is decoded.
    """
    shown = printable(str(path))
    try:
        _require_regular_file(path)
        with open(path, "rb") as file:
            image = _open(file)
            width, height = image.size
            if width * height > max_pixels:
                raise InputError(
                    f"{width}×{height} pixels ({width * height / 1e6:.1f} megapixels) exceed the "
                    f"limit of {max_pixels / 1e6:.1f}; "
                    f"to read it all the same: --max-pixels {width * height}"
                )
            pixels = np.array(_upright_rgb(image, exif))  # a copy that may be written to
        return Frame(pixels, source=str(path))
    except InputError as error:
        raise InputError(f"{shown}: {error}") from error.__cause__
    except Exception as error:  # Pillow raises a dozen types for damaged files, old and new
        raise InputError(f"{shown}: {_reason(error)}") from error


def _require_regular_file(path: str | Path) -> None:
    status = os.stat(path)  # not opened before it is known: a pipe would block for ever
    if stat.S_ISDIR(status.st_mode):
        raise InputError(
            "a folder, not an image"
            if os.access(path, os.R_OK | os.X_OK)
            else "this folder may not be read"
        )
    if not stat.S_ISREG(status.st_mode):
        raise InputError("a device or pipe, not an image file")
    if status.st_size == 0:
        raise InputError("the file is empty")


def _open(file: IO[bytes]) -> Image.Image:
    """Read the header. Unlike Image.open, leaves judging the size to us, and does so silently."""
    prefix = file.read(16)
    failure: Exception | None = None
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None or (accept is not None and accept(prefix) is not True):
            continue
        try:
            file.seek(0)
            return factory(file, "")
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure
    raise InputError("not an image in a format that can be read (JPEG, PNG, WebP, TIFF, ...)")


def _upright_rgb(image: Image.Image, exif: bool) -> Image.Image:
    stored = _orientation(image)
    image.load()
    left = _orientation(image)  # PNG: known only now; TIFF: gone, since Pillow has turned it
    rgb = _rgb(image)
    if exif:
        return rgb.transpose(_TURNS[left]) if left in _TURNS else rgb
    if image.format == "TIFF" and left == 1 and stored in _TURNS:
        return rgb.transpose(_TURNS[_OPPOSITE.get(stored, stored)])
    return rgb


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data must not cost the photo
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        sixteen_bit = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
        full = 65535.0 if sixteen_bit and image.mode != "F" else None
        return Image.fromarray(_grey(np.asarray(image), full)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None  # it is None only where the image is changed in place
        return converted
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey(values: np.ndarray, full: float | None) -> np.ndarray:
    """Scale to 0..255. Without a full scale it is the least of 1, 255 and 65535 that holds all
    values (1 for fractions only); where none does, the values are stretched."""
    finite = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    if full is None:
        scales = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
        full = next((scale for scale in scales if low >= 0 and high <= scale), None)
    if full is None:
        finite, full = finite - low, max(high - low, 1e-30)
    return np.rint(finite * (255.0 / full)).clip(0, 255).astype(np.uint8)


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "too large for the memory of this machine"
    if isinstance(error, FileNotFoundError | PermissionError):
        return f"{error.strerror}"
    text = printable(str(error))
    if isinstance(error, Image.DecompressionBombError):
        return f"too large ({text})"
    if isinstance(error, EOFError) or "truncat" in text.lower() or "end of file" in text:
        return "the file is truncated"
    return f"the image is damaged ({text[:100] or type(error).__name__})"
