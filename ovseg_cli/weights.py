"""Model files: where they lie and what is in them.

A model is one safetensors file: float16 or float32 tensors by name, and a JSON text with its
configuration and origin in the header. Nothing here runs code that a file brings along.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovseg_cli.catalogue import OPEN_CLIP, catalogue
from ovseg_cli.errors import CheckpointError, OutputError, UsageError
from ovseg_cli.whole_files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

    from ovseg_cli.model.config import ModelConfig

log = logging.getLogger(__name__)

# In our JSON; files of earlier versions lack the second.
DIGEST_KEY, CONFIG_DIGEST_KEY = "tensors_sha256", "config_sha256"
HEADER_KEY = "ovseg"  # of our JSON in a safetensors header
LARGEST_HEADER = 100_000_000  # bytes; the safetensors format's own limit
MODEL_FILE = "model.safetensors"  # in the folder of a training
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")  # file systems know up to 255 bytes


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be loaded by name."""

    name: str
    description: str
    path: Path
    size_bytes: int
    licence: str
    bundled: bool
    checksum: str  # SHA-256 of the file, hexadecimal


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model's tensors with the configuration they belong to."""

    config: ModelConfig
    state_dict: Mapping[str, Tensor]
    description: str = ""
    licence: str = "unknown"


def home() -> Path:
    """The folder of imported models and cached text features; OVSEG_HOME overrides it."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("OVSEG_HOME")
    return Path(chosen) if chosen else user_cache_path("ovseg", appauthor=False)


def place_of(name: str) -> Path:
    """Where an imported model of this name lies. Raises UsageError for a name that cannot be."""
    stem = _stem(name)
    bundled = any(stem == path.stem for path, is_bundled in _files() if is_bundled)
    if bundled or not NAME.fullmatch(stem):
        raise UsageError(
            f"a model cannot be named {name!r:.80}: letters, digits, '.', '_' and '-', 200 at "
            "most, and not the name of a bundled model"
        )
    return home() / "models" / f"{stem}.safetensors"


def _stem(name: str) -> str:
    """open_clip:ARCH/PRETRAINED has characters that file names lack."""
    return OPEN_CLIP.sub(r"open_clip--\1--\2", name) if OPEN_CLIP.fullmatch(name) else name


def _name(stem: str) -> str:
    return re.sub(r"^open_clip--(.+)--(.+)$", r"open_clip:\1/\2", stem)


def available() -> list[ModelEntry]:
    """Bundled models, then imported ones, each sorted by name; of damaged files a warning."""
    found = []
    for path, bundled in _files():
        try:
            found.append(entry_of(path, bundled))
        except (CheckpointError, UsageError) as error:
            log.warning("%s; ovseg models remove %s removes it", error, _name(path.stem))
    return found


def names() -> list[str]:
    """Of all files of models that are here, whatever is in them."""
    return [_name(path.stem) for path, _ in _files()]


def _known() -> dict[str, tuple[Path, bool]]:
    """File of each model that is here by its stem, and whether it is bundled; the first counts."""
    return {path.stem: (path, bundled) for path, bundled in reversed([*_files()])}


def find(name_or_path: str | Path) -> ModelEntry:
    """The model of this name, or in this file. Raises UsageError where there is none."""
    known = _known()
    name = str(name_or_path)
    if _stem(name) in known:
        return entry_of(*known[_stem(name)])
    path = Path(name_or_path)
    if os.path.isfile(path):  # pathlib's raises where a name is too long for the disk
        return entry_of(path, bundled=False)
    if os.path.isfile(path / MODEL_FILE):
        raise UsageError(f"{name} is a folder: name the file in it, {path / MODEL_FILE}")
    published = [entry for entry in catalogue() if entry.name == name]
    if published and published[0].by_hand:
        raise UsageError(f"the model {name} is not here. {published[0].by_hand}")
    if published or OPEN_CLIP.fullmatch(name):
        raise UsageError(
            f"the model {name} is not here yet: `ovseg models download {name}` fetches it, "
            f"`ovseg models show {name}` tells about it"
        )
    raise UsageError(
        f"no model {name!r}: neither a file nor one of {', '.join(sorted(map(_name, known)))}; "
        "see `ovseg models list`"
    )


def load(path: Path) -> Checkpoint:
    """Read a model file, tensors as float32. Raises CheckpointError where it is not one of ours."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from ovseg_cli.model.build import config_from_dict

    about = _about(path)
    try:
        config = config_from_dict(about["config"])
        tensors = load_file(path)
    except (AttributeError, LookupError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; download or import it again") from error
    state = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    return Checkpoint(config, state, about.get("description", ""), about.get("licence", "unknown"))


def save(checkpoint: Checkpoint, path: Path, half: bool = False) -> None:
    """Write a model file, beside its place first.

    half: store float32 tensors as float16, but for those with values that are too large for it.
    Raises CheckpointError for values that are not finite, OutputError where it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {
        name: _stored(tensor.detach().cpu(), half).contiguous()
        for name, tensor in checkpoint.state_dict.items()
    }
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{name} holds values that are not finite; nothing is written")
    tensors = _apart(tensors)
    config = checkpoint.config.to_dict()
    about = {
        "config": config,
        "description": checkpoint.description,
        "licence": checkpoint.licence,
        DIGEST_KEY: _tensors_digest(tensors),
        CONFIG_DIGEST_KEY: _config_digest(config),
    }
    try:
        with atomic_path(path) as partial:
            partial.touch()
            mode = partial.stat().st_mode  # by the user's umask; save_file lets only them read
            save_file(tensors, partial, {HEADER_KEY: json.dumps(about)})
            partial.chmod(mode)
    except SafetensorError as error:  # of a full disk
        raise OutputError(f"cannot write {path}: {error}") from error


def _stored(tensor: Tensor, half: bool) -> Tensor:
    """As it is, or as float16 where that holds the values."""
    import torch

    if not half or tensor.dtype != torch.float32:
        return tensor
    halved = tensor.half()
    return halved if halved.isfinite().all() else tensor


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same values, each in memory of its own: safetensors refuses tensors that overlap."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        shared = storage.nbytes() > tensor.nbytes or storage.data_ptr() in seen
        seen.add(storage.data_ptr())
        apart[name] = tensor.clone() if shared else tensor
    return apart


def verify(entry: ModelEntry) -> None:
    """Raise CheckpointError unless the file's tensors and configuration are those that were saved.

    Of a file without a checksum of its configuration, the tensors alone.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    about = _about(entry.path)
    if about.get(DIGEST_KEY) is None:
        raise CheckpointError(
            f"{entry.path} holds no checksum of its tensors (an earlier version wrote it): "
            "import or train it again"
        )
    try:
        intact = _tensors_digest(load_file(entry.path)) == about[DIGEST_KEY]
        if CONFIG_DIGEST_KEY in about:
            intact &= _config_digest(about.get("config")) == about[CONFIG_DIGEST_KEY]
    except (OSError, ValueError, RecursionError, SafetensorError):
        intact = False
    if not intact:
        raise CheckpointError(f"{entry.path} is damaged: download or import it again")


def holds_another(path: Path, checkpoint: Checkpoint) -> bool:
    """Whether a model lies there that is not this one; a file that is none, or damaged, is not."""
    try:
        about = _about(path)
    except CheckpointError:
        return False
    # Through JSON, as it was written: that knows no tuples.
    config = json.loads(json.dumps(checkpoint.config.to_dict()))
    tensors = {name: tensor.detach() for name, tensor in checkpoint.state_dict.items()}
    return about.get("config") != config or about.get(DIGEST_KEY) != _tensors_digest(tensors)


def remove(name: str) -> Path:
    """Delete an imported model, damaged or not; returns its file.

    Raises UsageError for one that is bundled or not there.
    """
    known = _known()
    if _stem(name) not in known:
        entry = find(name)  # a path, or not there
        raise UsageError(f"{name} is not an imported model: {entry.path} is left alone")
    path, bundled = known[_stem(name)]
    if bundled:
        raise UsageError(f"{name} is not an imported model: {path} is left alone")
    try:
        path.unlink()
    except OSError as error:
        raise OutputError(f"{path} cannot be removed: {error.strerror}") from error
    return path


def _files() -> Iterator[tuple[Path, bool]]:
    bundled = Path(str(resources.files("ovseg_cli.bundled")))
    for folder, is_bundled in ((bundled, True), (home() / "models", False)):
        for path in sorted(folder.glob("[!.]*.safetensors")):
            yield path, is_bundled


def entry_of(path: Path, bundled: bool = False) -> ModelEntry:
    """What a model file says of itself. Raises CheckpointError where it is not one of ours."""
    about = _about(path)
    return ModelEntry(
        name=_name(path.stem),
        description=str(about.get("description", "")),
        path=path,
        size_bytes=path.stat().st_size,
        licence=str(about.get("licence", "unknown")),
        bundled=bundled,
        checksum=file_digest(path),
    )


def digest(content: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values; the order does not matter."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _config_digest(config: Any) -> str:
    """SHA-256 of a configuration's plain values; the order does not matter."""
    return digest(json.dumps(config, sort_keys=True).encode())


def _about(path: Path) -> dict[str, Any]:
    """Our JSON of a safetensors header: 8 bytes of length, then the header's own JSON.

    Raises CheckpointError where it is not one of ours, or the file not as long as its header says.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LARGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
            about = json.loads(header.pop("__metadata__")[HEADER_KEY])
        ends = [entry["data_offsets"][1] for entry in header.values()]
        whole = 8 + length + max(ends, default=0) == path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (
        struct.error,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise CheckpointError(
            f"{path} is not a model of ovseg; a checkpoint of DeOP's or SAN's authors becomes one "
            "by `ovseg models import`"
        ) from error
    if not isinstance(about, dict):
        raise CheckpointError(f"{path} is not a model of ovseg: its description is no JSON object")
    if not whole:
        raise CheckpointError(
            f"{path} is damaged: it is not as long as its header says; download or import it again"
        )
    return about
