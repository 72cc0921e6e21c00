"""The formats of pictures that are read, and how a file is opened as one of them."""

import importlib
import math
from contextlib import suppress
from typing import IO

from PIL import Image
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

from ovseg_cli.errors import InputError

# In the order in which a file is tried. Left out are formats that start other programs (EPS) or
# that accept any bytes (TGA).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")
for _plugin in ("Jpeg", "Png", "WebP", "Gif", "Bmp", "Tiff", "Ppm", "Jpeg2K", "Avif"):
    with suppress(ImportError):  # AVIF came with Pillow 11.3
        importlib.import_module(f"PIL.{_plugin}ImagePlugin")

# The most pixels of those whose decoders take 16 bytes a pixel and more, where nobody asks for
# another limit: a file of 2 kB can be a picture of that size.
HEAVY_PIXELS = {"WEBP": 80_000_000, "JPEG2000": 80_000_000, "AVIF": 80_000_000}
_LARGEST_TILE = 1 << 25  # pixels; of TIFFs, which may be larger than their pictures

# How files of other kinds begin, behind their first four bytes or with them: pictures of phones
# (HEIC), of which "mif1" and "msf1" may be AVIF, too; and films.
_BRANDS = b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split()
_HEIF = tuple(b"ftyp" + brand for brand in _BRANDS)
_FILM = tuple(b"ftyp" + brand for brand in b"iso mp4 avc1 M4V qt 3g dash MSNV f4v".split())
_OTHER_FILMS = (b"\x1aE\xdf\xa3", b"FLV\x01", b"\0\0\x01\xba")  # Matroska, Flash, MPEG

# Pillow takes memory for pictures in blocks, usually of 16 MB; what is freed in such pieces glibc
# keeps for the thread that had it. Large pieces go back: a folder of photos of 100 megapixels takes
# 3.6 GB with these, 4.8 without.
Image.core.set_block_size(64 << 20)


def open_picture(file: IO[bytes]) -> Image.Image:
    """Read a picture's header. Unlike Image.open, leaves judging the size to others, in silence.

    Raises InputError for what is no picture, and whatever Pillow raises for a damaged one.
    """
    prefix = file.read(16)
    if len(prefix) < 8:
        raise InputError(f"its {len(prefix)} bytes are too few for an image")
    lacking = prefix.startswith(_HEIF, 4) and not _has_heif()
    failure: Exception | None = None
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None or (accept is not None and accept(prefix) is not True):
            continue
        try:
            file.seek(0)
            image = factory(file, "")
            _require_small_tiles(image)
            return image
        except Exception as error:
            failure = error
    if lacking:
        raise InputError("a HEIC picture, which needs: pip install 'ovseg-cli[heic]'")
    if failure is not None:
        raise failure
    if _is_film(prefix):
        raise InputError("a video, not an image: 'ovseg video' takes it")
    raise InputError("not an image in a format that can be read (JPEG, PNG, WebP, TIFF, ...)")


def _has_heif() -> bool:
    """Whether Pillow reads HEIF, which it learns here where the extra is installed."""
    if "HEIF" not in Image.OPEN:
        with suppress(ImportError):
            from pi_heif import register_heif_opener

            # One picture, by one thread: others are at work beside it.
            options = {"thumbnails": False, "depth_images": False, "aux_images": False}
            register_heif_opener(decode_threads=1, **options)
    return "HEIF" in Image.OPEN


def _is_film(prefix: bytes) -> bool:
    return (
        prefix.startswith(_OTHER_FILMS)
        or prefix.startswith(_FILM, 4)
        or (prefix.startswith(b"RIFF") and prefix.startswith(b"AVI ", 8))
    )


def _require_small_tiles(image: Image.Image) -> None:
    """Raise InputError for a TIFF whose tiles hold far more than its picture.

    Its decoder takes memory for a whole tile, and unpacks it, however little of it is in use.
    """
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    width, height = tags.get(TILEWIDTH), tags.get(TILELENGTH)
    if isinstance(width, int) and isinstance(height, int):
        whole = math.prod(-(-side // 16) * 16 for side in image.size)  # in one tile
        if width * height > max(_LARGEST_TILE, whole):
            raise InputError(f"its tiles of {width}×{height} pixels are far larger than the photo")
