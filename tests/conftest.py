"""Fixtures that several rooms share."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

# The tests' tensors are tiny: threads would only wait for each other. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of data and reference outputs beside the checkout, where there is one."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder.name}/ beside the checkout")
    return folder


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A colourful picture without fine detail, which JPEG keeps well: (24, 36, 3) uint8 RGB."""
    y, x = np.mgrid[0:24, 0:36]
    return np.stack([60 + 4 * x, 200 - 6 * y, 90 + 2 * x + 2 * y], axis=-1).astype(np.uint8)


@pytest.fixture
def odd_images(tmp_path: Path, photo: np.ndarray) -> dict[str, Path]:
    """Photos of unusual kinds that can all be read."""
    folder = tmp_path / "odd"
    folder.mkdir()
    image = Image.fromarray(photo)
    other = Image.fromarray(255 - photo)
    images: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "cmyk.jpg": (image.convert("CMYK"), {}),
        "grey.png": (image.convert("L"), {}),
        "grey16.png": (Image.fromarray(photo[..., 0].astype(np.uint16) * 257), {}),
        "bilevel.png": (image.convert("1"), {}),
        "palette.png": (image.quantize(256), {}),
        "transparent-palette.png": (image.quantize(256), {"transparency": 0}),
        "alpha.png": (image.convert("RGBA"), {}),
        "grey-alpha.png": (image.convert("LA"), {}),
        "float.tif": (Image.fromarray(photo[..., 0].astype(np.float32) / 255), {}),
        "animated.gif": (image, {"save_all": True, "append_images": [other]}),
        "animated.webp": (
            image,
            {"save_all": True, "append_images": [other], "lossless": True},
        ),
        "pages.tif": (image, {"save_all": True, "append_images": [other]}),
    }
    for name, (picture, options) in images.items():
        picture.save(folder / name, **options)
    return {name: folder / name for name in images}


@pytest.fixture
def broken_images(tmp_path: Path, photo: np.ndarray) -> dict[str, tuple[Path, str]]:
    """Files that cannot be read: name -> path and a pattern of the reason that is expected."""
    folder = tmp_path / "broken"
    folder.mkdir()
    image = Image.fromarray(photo.repeat(8, axis=0).repeat(8, axis=1))
    image.save(folder / "whole.jpg")
    image.save(folder / "whole.png")
    jpeg, png = (folder / "whole.jpg").read_bytes(), (folder / "whole.png").read_bytes()
    files = {
        "empty.png": (b"", "the file is empty"),
        "text.jpg": (b"this is a text\n" * 100, "not an image"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "truncated.png": (png[: len(png) // 2], "truncated|damaged"),
        "header-only.jpg": (jpeg[:20], "truncated|damaged"),
        "bomb.png": (png_claiming(30_000, 20_000), r"30000×20000 pixels.*--max-pixels 600000000"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    for name in ("whole.jpg", "whole.png"):
        (folder / name).unlink()
    return {name: (folder / name, reason) for name, (_, reason) in files.items()}


def png_claiming(width: int, height: int) -> bytes:
    """A valid start of a grey PNG of that size, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
