"""How many photos go through a model at once, and in how many passes side by side."""

from dataclasses import dataclass
from typing import Any

from ovseg_cli.media.images import MAX_PIXELS


@dataclass(frozen=True)
class BatchOptions:
    """How a run goes about its work; only `exif` changes what comes out, and `batch_size` the last
    bits of scores.
    """

    batch_size: int = 1  # photos in one pass of the model, at most
    streams: int = 1  # passes at the same time; more than one needs a segmenter fit for threads
    workers: int = 2  # threads that read and write files
    exif: bool = True  # turn photos as their EXIF orientation says
    max_pixels: int = MAX_PIXELS  # larger photos fail


def auto_batch_size(device: str) -> int:
    """Photos in one pass: a GPU needs several to be busy, a CPU is busy with one."""
    return 8 if device.startswith("cuda") else 4 if device.startswith("mps") else 1


def options_for(
    device: str, cores: int, images: int, *, batch_size: int | None = None, **options: Any
) -> BatchOptions:
    """How so many photos are best gone about on a device, where it is not said."""
    return BatchOptions(
        batch_size=batch_size or auto_batch_size(device),
        streams=max(1, min(auto_streams(device, cores), images)),
        **options,
    )


def auto_streams(device: str, cores: int) -> int:
    """Passes at the same time, where there are as many photos.

    On a CPU photos side by side, each with its share of the cores, are faster than one photo after
    the other on all cores, whose threads wait for each other many times a photo. On CUDA a second
    pass is prepared while the first is computed.

    It does not depend on the number of photos, nor then do the threads of a pass, which decide in
    which order numbers are added: so a photo has the same labels alone as among others.
    """
    return min(cores, 4) if device.startswith("cpu") else 2 if device.startswith("cuda") else 1
