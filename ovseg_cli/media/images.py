"""Photos of any kind, whole or broken -> Frame, with Pillow only."""

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from ovseg_cli.errors import InputError
from ovseg_cli.frame import Frame, ReducedFrame
from ovseg_cli.media.conversion import by_strips, grey, over_white, strips, value_range
from ovseg_cli.media.inputs import ImageInput, open_photo
from ovseg_cli.media.picture_formats import HEAVY_PIXELS, open_picture
from ovseg_cli.printable import printable

MAX_PIXELS = 178_956_970  # what Pillow itself would refuse
AMPLE = 2  # a photo made smaller is still at least so many times as large as a network needs it

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
_SIDEWAYS = (5, 6, 7, 8)  # those that make height of width
_OPPOSITE = {6: 8, 8: 6}  # all other turns undo themselves


Size = tuple[int, int]  # height and width, pixels


def read_image(
    path: str | Path | ImageInput,
    *,
    exif: bool = True,
    max_pixels: int = MAX_PIXELS,
    seen_at: Callable[[Size], Size] | None = None,
) -> Frame:
    """Read a photo as 8-bit RGB, upright after its EXIF orientation unless `exif` is False.

    Of an animation or a multi-page file the first picture is taken. Transparent pixels are laid
    over white. 16-bit values are divided by 257. Embedded colour profiles are not applied.
    Raises InputError, and nothing else, whatever the file holds; a photo of more than
    `max_pixels` pixels is refused before it is decoded.

    seen_at: the size at which a network looks at a photo of a given size. Of a JPEG that is much
    larger a copy is decoded at 1/2, 1/4 or 1/8 of its size, still `AMPLE` times as large as the
    network needs it, and the photo itself only if somebody asks for its pixels (`ReducedFrame`).
    """
    name = path.name if isinstance(path, ImageInput) else str(path)
    with (
        naming(name),
        path.open() if isinstance(path, ImageInput) else open_photo(path) as file,
    ):
        image = open_picture(file)
        width, height = image.size
        limit = limit_of(image.format, max_pixels)
        if width * height > limit:
            raise InputError(
                f"{width}×{height} pixels ({width * height / 1e6:.1f} megapixels) exceed the "
                f"limit of {limit} pixels: make it smaller, or give 'ovseg segment' "
                f"--max-pixels {width * height}"
            )
        reduction = 1 if seen_at is None else _reduction(image, exif, seen_at)
        if reduction > 1 and file.seek(0, io.SEEK_END) < width * height:
            file.seek(0)
            return _reduced(file.read(), reduction, exif, name)
        return Frame(_pixels(image, exif), source=name)


def limit_of(kind: str | None, max_pixels: int) -> int:
    """The most pixels of a picture of this format: its own, unless another was asked for."""
    own = HEAVY_PIXELS.get(kind or "", max_pixels)
    return own if max_pixels == MAX_PIXELS else max_pixels


def frame_of(image: Image.Image) -> Frame:
    """A picture that Pillow has opened or made, as 8-bit RGB, converted as `read_image` does.

    It is not turned, so that labels lie on it as it is. Raises InputError where Pillow cannot
    decode it.
    """
    with _as_input_error():
        if not image.width * image.height:
            raise InputError(f"a picture of {image.width}×{image.height} pixels")
        image.load()
        return Frame(_array(_rgb(image)))


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Turn whatever a file makes Pillow raise into an InputError that begins with its name."""
    try:
        with _as_input_error():
            yield
    except InputError as error:
        raise InputError(f"{printable(name)}: {error}") from error.__cause__


@contextmanager
def _as_input_error() -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # Pillow raises a dozen types for damaged files, old and new
        raise InputError(_reason(error)) from error


def _reduction(image: Image.Image, exif: bool, seen_at: Callable[[Size], Size]) -> int:
    """By what a photo may be divided: 1, or of a JPEG that is much too large 2, 4 or 8."""
    if not isinstance(image, JpegImageFile):
        return 1
    size_hw = _upright_size(image, exif)
    sides = zip(size_hw, seen_at(size_hw), strict=True)
    room = min(side // (AMPLE * seen) for side, seen in sides)
    return next((scale for scale in (8, 4, 2) if room >= scale), 1)


def _reduced(content: bytes, reduction: int, exif: bool, name: str) -> ReducedFrame:
    """A JPEG file decoded at a part of its size, by libjpeg's scaled inverse DCT.

    Its content is kept until its own pixels are asked for, so that they are the same photo's,
    whatever became of the file.
    """
    image = open_picture(io.BytesIO(content))
    width, height = image.size
    size_hw = _upright_size(image, exif)
    drafted = image.draft(None, (width // reduction, height // reduction))
    assert drafted is not None  # a JPEG file that is not loaded yet
    box = drafted[1]  # what shows the photo; the last column and row may stand out by a part
    rgb = _rgb(image)
    if box[2:] != rgb.size:
        size = round(box[2]), round(box[3])
        rgb = rgb.resize(size, Image.Resampling.BILINEAR, box=box)
    turn = _TURNS.get(_orientation(image)) if exif else None
    view = _array(rgb if turn is None else rgb.transpose(turn))
    return ReducedFrame(view, size_hw, partial(_decoded, content, exif, name), name)


def _upright_size(image: Image.Image, exif: bool) -> Size:
    width, height = image.size
    return (width, height) if exif and _orientation(image) in _SIDEWAYS else (height, width)


def _decoded(content: bytes, exif: bool, name: str) -> np.ndarray:
    with naming(name):
        return _pixels(open_picture(io.BytesIO(content)), exif)


def _pixels(image: Image.Image, exif: bool) -> np.ndarray:
    """(H, W, 3) uint8, a copy that may be written to."""
    upright = _upright_rgb(image, exif)
    if upright is not image:
        image.close()
    return _array(upright)


def _array(rgb: Image.Image) -> np.ndarray:
    """Copied a strip at a time: Pillow takes three copies of what is copied at once."""
    pixels = np.empty((rgb.height, rgb.width, 3), np.uint8)
    for box in strips(rgb):
        part = rgb if box[3] - box[1] == rgb.height else rgb.crop(box)  # which copies, too
        pixels[box[1] : box[3]] = np.asarray(part)
    return pixels


def format_of(path: Path) -> str:
    """What Pillow calls the format of a photo; raises InputError where it is none."""
    with _as_input_error(), open_photo(path) as file:
        return open_picture(file).format or ""


def is_turned(path: Path) -> bool:
    """Whether a photo's EXIF orientation turns it; raises InputError where it is no photo."""
    with naming(str(path)), open_photo(path) as file:
        return _orientation(open_picture(file)) in _TURNS


def read_values(
    source: str | Path | IO[bytes], mode: str | None = None, *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """A picture's values as they are stored: the ids of a label map, a palette's indices.

    Those of 1, 2 and 4 bits, which Pillow stretches over 0 to 255, are 0 to 1, 3 and 15 again.
    mode: of Pillow, to which they are converted if given. Neither orientation nor transparency is
    heeded. Raises InputError, and nothing else, whatever the file holds.
    """
    with (
        _as_input_error(),
        open_photo(source) if isinstance(source, str | Path) else source as file,
    ):
        image = open_picture(file)
        if image.width * image.height > limit_of(image.format, max_pixels):
            raise InputError(f"{image.width}×{image.height} pixels are too many")
        if mode is not None:
            return np.array(image.convert(mode))
        step = _stretched_by(image)  # before it is decoded
        values = np.array(image)
        if values.dtype == np.bool_:
            return values.astype(np.uint8)
        return values if step == 1 else values // step


def _stretched_by(image: Image.Image) -> int:
    """By what Pillow multiplies the values of a greyscale PNG of 2 or 4 bits; 1 for all others."""
    packing = image.tile[0][3] if isinstance(image, PngImageFile) and image.tile else None
    return {"L;2": 85, "L;4": 17}.get(packing, 1) if isinstance(packing, str) else 1


def read_opacity(path: Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray | None:
    """How opaque a picture is, upright as `read_image` has it: (H, W) uint8, 0 = transparent.

    None where it is opaque by its kind. Raises InputError, and nothing else.
    """
    with naming(str(path)), open_photo(path) as file:
        image = open_picture(file)
        if image.width * image.height > limit_of(image.format, max_pixels):
            raise InputError(f"{image.width}×{image.height} pixels are too many")
        image.load()  # a PNG may say only behind its pixels that it is to be turned
        if not image.has_transparency_data or image.mode.startswith("I"):
            return None
        stored = image if "A" in image.getbands() else image.convert("RGBA")
        turn = _TURNS.get(_orientation(image))
        opacity = stored.getchannel("A")
        return np.array(opacity if turn is None else opacity.transpose(turn))


def _upright_rgb(image: Image.Image, exif: bool) -> Image.Image:
    # Asked of a PNG, Pillow would load it there, and what is damaged would pass the second time.
    stored = _orientation(image) if image.format == "TIFF" else None
    image.load()
    left = _orientation(image)  # TIFF: gone, since Pillow has turned it
    rgb = _rgb(image)
    if exif:
        return rgb.transpose(_TURNS[left]) if left in _TURNS else rgb
    if left == 1 and stored in _TURNS:
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
        known = sixteen_bit and image.mode != "F"
        low, span = (0.0, 65535.0) if known else value_range(image)
        return by_strips(image, lambda part: Image.fromarray(grey(part, low, span)))
    if image.has_transparency_data:
        return by_strips(image, over_white)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None  # it is None only where the image is changed in place
        return converted
    return image if image.mode == "RGB" else image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "too large for the memory of this machine"
    if isinstance(error, FileNotFoundError | PermissionError):
        return f"{error.strerror}"
    text = printable(str(error))
    if isinstance(error, Image.DecompressionBombError):
        return f"too large ({text})"
    # Pillow's readers make a SyntaxError of what they find missing.
    if "unknown pixel mode" in text:
        return "its bands, or their bits, are of a kind that cannot be read: save it as 8-bit RGB"
    ended = isinstance(error.__cause__ or error, EOFError | struct.error | IndexError)
    if ended or "truncat" in text.lower() or "end of file" in text:
        return "the file is truncated"
    return f"the image is damaged ({text[:100] or type(error).__name__})"
