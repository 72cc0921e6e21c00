"""Pictures as the bytes of a file, by Pillow."""

import io
import os
from contextlib import suppress
from typing import Any

from PIL import Image


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """What `image.save` with this format and these options would write.

    In memory, for Pillow's own writing hides why a disk refuses. But it lets other threads run
    only while it writes to a file with a descriptor: a photo of 12 megapixels would hold up every
    pass of the model for the 30 ms that its JPEG takes.
    """
    if hasattr(os, "memfd_create"):  # Linux
        with (
            suppress(OSError),  # refused by a sandbox, or limited like any other file
            open(os.memfd_create("picture"), "w+b") as file,
        ):
            image.save(file, format, **options)
            file.seek(0)
            return file.read()
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()
