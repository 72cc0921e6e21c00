"""Results as PNG: pictures by Pillow, label maps by a quicker way that suits them."""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo, putchunk

from ovseg_cli import encoding

Metadata = Mapping[str, str]  # keyword -> text, for text chunks

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREYSCALE = 0  # colour type
_UP = 2  # filter of a row: what it differs by from the row above
_BAND = 1 << 16  # bytes filtered at a time: they stay in the processor's cache
_COMPRESS = (256, 1 << 20)  # characters: text chunks between these are compressed


def encoded(image: Image.Image, metadata: Metadata) -> bytes:
    """The content of a PNG with text chunks."""
    # Run-length strategy: for large areas of one colour both faster and smaller than the default.
    how = {"compress_level": 1, "compress_type": zlib.Z_RLE}
    return encoding.encoded(image, "PNG", pnginfo=_text_chunks(metadata), **how)


def encoded_map(values: np.ndarray, metadata: Metadata) -> bytes:
    """The same for values (H, W) uint8 or uint16, as a greyscale PNG of 8 or 16 bits.

    Pillow tries five filters for each row. In a map of classes nearly every row is the one above
    but for a few borders, so that one filter serves all: a third of the time, about as small.
    """
    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, _GREYSCALE, 0, 0, 0)
    buffer = io.BytesIO()
    buffer.write(_SIGNATURE)
    putchunk(buffer, b"IHDR", header)
    for kind, content, *_ in _text_chunks(metadata).chunks:
        putchunk(buffer, kind, content)
    compressor = zlib.compressobj(1, strategy=zlib.Z_RLE)
    parts = [compressor.compress(band.data) for band in _filtered(values)]
    putchunk(buffer, b"IDAT", *parts, compressor.flush())
    putchunk(buffer, b"IEND")
    return buffer.getvalue()


def _filtered(values: np.ndarray) -> Iterator[np.ndarray]:
    """The rows as the format wants them before compression, some at a time: (., 1 + bytes)."""
    values = values.astype(values.dtype.newbyteorder(">"), copy=False)
    rows = np.ascontiguousarray(values).view(np.uint8)
    step = max(1, _BAND // rows.shape[1])
    above = np.zeros_like(rows[0])
    for top in range(0, len(rows), step):
        band = rows[top : top + step]
        filtered = np.empty((len(band), 1 + rows.shape[1]), np.uint8)
        filtered[:, 0] = _UP
        np.subtract(band[0], above, out=filtered[0, 1:])
        np.subtract(band[1:], band[:-1], out=filtered[1:, 1:])
        above = band[-1]
        yield filtered


def _text_chunks(metadata: Metadata) -> PngInfo:
    """tEXt where Latin-1 is enough, else iTXt; long texts compressed."""
    chunks = PngInfo()
    for keyword, text in metadata.items():
        valid = text.encode("utf-8", "backslashreplace").decode()  # file names may hold anything
        chunks.add_text(keyword, valid, zip=_COMPRESS[0] <= len(valid) < _COMPRESS[1])
    return chunks
