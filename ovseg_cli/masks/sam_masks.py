"""Mask proposals of a Segment-Anything model (Kirillov et al., 2023, arXiv 2304.02643)."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovseg_cli.errors import CheckpointError, InputError, UsageError
from ovseg_cli.failures import is_out_of_memory
from ovseg_cli.frame import Frame
from ovseg_cli.importing import reason_of
from ovseg_cli.json_files import read_json
from ovseg_cli.model.strict import told

POINTS = 64  # prompts that the model answers at once
TYPES = ("sam", "sam_hq", "sam2", "sam2_video")  # as config.json calls them
MODEL = "config.json"
PROCESSORS = ("processor_config.json", "preprocessor_config.json")
# What makes the library run, or fetch, what is not in it.
FOREIGN = ("auto_map", "custom_pipelines", "quantization_config")
MOST_SIDE = 2048  # at which a processor may show photos to the model; SAM's see 1024
MOST_LAYERS = 200  # of a part of a model; the largest published has 48
MOST_ABSENT = 100_000_000  # numbers that a model may have beyond those in its files


class SamMasks:
    """All masks that a Segment-Anything model finds from a grid of points over a photo."""

    def __init__(self, checkpoint: Path, device: str) -> None:
        """checkpoint: a folder as transformers keeps it; device: as torch names it.

        Nothing is downloaded, and no code that the folder brings along is run. Raises UsageError
        where the folder or the library is missing, CheckpointError for a folder that holds
        something else, or not all of a model.
        """
        if not os.path.isfile(checkpoint / MODEL):
            raise UsageError(f"--proposals sam:{checkpoint}: {_what_is_missing(checkpoint)}")
        try:
            import transformers  # noqa: F401
        except ImportError as error:
            raise UsageError(
                f"--proposals sam needs transformers ({error}): pip install 'ovseg-cli[sam]'"
            ) from error
        _check(checkpoint)
        try:
            with _quiet():
                self._generate = _load(checkpoint, device)
        except CheckpointError:
            raise
        except Exception as error:  # the library fails in many ways on what is no such model
            raise CheckpointError(
                f"{checkpoint} cannot be loaded as a Segment-Anything model{reason_of(error)}"
            ) from error
        self._checkpoint = checkpoint
        self._lock = threading.Lock()  # the pipeline is not made for several threads

    def __call__(self, frame: Frame, features: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        """Masks (Q, H, W) bool of that size. Raises InputError where the model finds none.

        Raises CheckpointError where the model cannot see what its processor makes of photos.
        """
        photo = Image.fromarray(frame.pixels).resize(size_hw[::-1], Image.Resampling.BICUBIC)
        try:
            with self._lock:
                found = self._generate(photo, points_per_batch=POINTS)["masks"]
        except Exception as error:  # the library's have no common class
            if is_out_of_memory(error):
                raise
            raise CheckpointError(
                f"{self._checkpoint}: the Segment-Anything model and its processor "
                f"({' or '.join(PROCESSORS)}) do not fit each other{reason_of(error)}"
            ) from error
        if len(found) == 0:
            raise InputError(f"{frame.source}: the Segment-Anything model finds no mask")
        return np.stack([np.asarray(mask, dtype=bool) for mask in found])


def _what_is_missing(checkpoint: Path) -> str:
    if os.path.isfile(checkpoint):
        return (
            "a file, not a folder with a model of transformers. Of Segment-Anything's own .pth the "
            "script convert_sam_to_hf.py of transformers makes one, and facebook/sam-vit-base on "
            "huggingface.co is one"
        )
    return (
        f"no folder with a model of transformers ({MODEL} and its weights); nothing is downloaded "
        "for this option"
    )


def _check(checkpoint: Path) -> None:
    """Raise CheckpointError for a folder of anything but plain weights of a model in TYPES.

    Before the library looks at it, which would run the folder's own code, or ask its user to.
    """
    for file in checkpoint.iterdir():
        if not (os.path.isfile(file) or os.path.isdir(file)):  # a pipe would be waited for
            raise CheckpointError(f"{file} is not a regular file")
    if os.path.exists(checkpoint / "adapter_config.json"):
        raise CheckpointError(
            f"{checkpoint} holds an adapter, not a whole model: merge it into its model first"
        )
    for name in (MODEL, *PROCESSORS):
        file = checkpoint / name
        if name != MODEL and not os.path.isfile(file):
            continue
        try:
            values = read_json(file)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file} cannot be read: {error}") from error
        for part in _all_in(values):
            for key, value in part.items() if isinstance(part, dict) else ():
                _check_entry(file, key, value)
        kind = values.get("model_type") if isinstance(values, dict) else None
        if name == MODEL and kind not in TYPES:
            raise CheckpointError(
                f"{file} is not that of a Segment-Anything model: its model_type is {kind!r:.80}, "
                f"none of {', '.join(TYPES)}"
            )


def _check_entry(file: Path, key: str, value: Any) -> None:
    """Raise CheckpointError for what asks for foreign code, or for huge pictures."""
    # The name of an implementation with a slash is that of a repository with code in it.
    kernel = key.endswith("implementation") and isinstance(value, str) and "/" in value
    if (key in FOREIGN and value) or kernel:
        raise CheckpointError(
            f"{file} asks for code that is not in transformers ({key!r:.80}), which is never run: "
            "take a folder with nothing but a model and its processor"
        )
    if file.name in PROCESSORS and "size" in key:
        limit, kind = MOST_SIDE, "pixels"
    elif file.name == MODEL and any(part in key for part in ("layers", "blocks", "depth")):
        limit, kind = MOST_LAYERS, "layers"
    else:
        return
    for number in _all_in(value):
        if isinstance(number, int | float) and not number <= limit:
            raise CheckpointError(
                f"{file}: {key!r:.80} is {number!s:.20}, more than {limit} {kind}"
            )


def _all_in(value: Any) -> Iterator[Any]:
    """A value of JSON, and all within it at any depth."""
    yield value
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in within:
        yield from _all_in(part)


def _load(checkpoint: Path, device: str) -> Any:
    """The library's pipeline. Raises CheckpointError for tensors that are not the model's."""
    import torch
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModelForMaskGeneration,
        pipeline,
    )

    local: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    config = AutoConfig.from_pretrained(checkpoint, **local)
    with torch.device("meta"):
        described = AutoModelForMaskGeneration.from_config(config).state_dict().values()
    numbers = sum(tensor.numel() for tensor in described)
    held = sum(file.stat().st_size for file in checkpoint.iterdir() if file.is_file()) // 2
    if numbers > held + MOST_ABSENT:  # the library would make up what is not there
        raise CheckpointError(
            f"{checkpoint / MODEL} describes a model of {numbers:.3g} numbers, and the folder's "
            f"files hold at most {held:.3g}: download it again"
        )
    model, report = AutoModelForMaskGeneration.from_pretrained(
        checkpoint, output_loading_info=True, ignore_mismatched_sizes=True, **local
    )
    _require_whole(checkpoint, model, report)
    processor = AutoImageProcessor.from_pretrained(checkpoint, **local)
    if not hasattr(processor, "generate_crop_boxes"):
        raise CheckpointError(
            f"{checkpoint}: {type(processor).__name__} is not a processor for Segment-Anything"
        )
    # In half precision the pipeline's selection of masks fails.
    return pipeline(
        "mask-generation",
        model=model.float(),
        image_processor=processor,
        device=device,
        trust_remote_code=False,
    )


def _require_whole(checkpoint: Path, model: Any, report: dict[str, Any]) -> None:
    """Raise CheckpointError unless each of a model's tensors comes from its files, and no others.

    report: the library's, which gives random numbers to those that do not. Of tensors that are
    tied, and of those that are known to be of no use, it reports none.
    """
    faults = {
        "missing": sorted(report["missing_keys"]),
        "surplus": sorted(report["unexpected_keys"]),
        "misshapen": sorted(
            f"{name} is {list(found)}, not {list(wanted)}"
            for name, found, wanted in report["mismatched_keys"]
        ),
        "unreadable": [str(message).partition("\n")[0] for message in report.get("error_msgs", ())],
        "not finite": sorted(
            name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()
        ),
    }
    if any(faults.values()):
        raise CheckpointError(
            f"{checkpoint}: the tensors are not those of the model that {MODEL} describes: "
            f"{told(faults)}. Download it again, or save it again with save_pretrained"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's reports, which errors of ours replace, and bars but on a terminal."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    if sys.stderr is None or not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
