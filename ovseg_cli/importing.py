"""Checkpoints of other programs become models of ours. No code that a file brings along is run."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ovseg_cli import weights
from ovseg_cli.errors import CheckpointError, UsageError
from ovseg_cli.json_files import read_json

if TYPE_CHECKING:
    from torch import Tensor


log = logging.getLogger(__name__)

ZIP = b"PK\x03\x04"  # how torch's files begin
WRAPPINGS = ("model", "state_dict")  # keys under which programs store a model's tensors
PREFIXES = ("module.", "model.")  # what wrappers of a whole model put before all its names
# Of files that are no checkpoint: how they begin, and what to do.
STRANGERS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (
        re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype )?html\b", re.IGNORECASE),
        "a web page and no checkpoint: its site may have wanted you to sign in, or to follow "
        "another link to the file itself",
    ),
    (
        re.compile(rb"version https://git-lfs"),
        "what Git LFS keeps in the place of a file, not the file: `git lfs pull` fetches it",
    ),
    (
        re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ\0|7z\xbc\xaf|\x28\xb5\x2f\xfd"),
        "packed: unpack it first",
    ),
    (re.compile(rb"\x89HDF"), "an HDF5 file, of Keras or another program that is not read"),
    (re.compile(rb"GGUF"), "a GGUF file, which is not read"),
    (re.compile(rb"\s*\{"), "JSON, as lies beside weights; the weights are another file"),
    (re.compile(rb"$"), "empty: copy or download it again"),
)
READ_AT_ONCE = 1 << 20  # bytes


def import_checkpoint(
    path: Path,
    name: str,
    options: Mapping[str, Any] = MappingProxyType({}),
    *,
    description: str = "",
    licence: str = "unknown",
) -> weights.ModelEntry:
    """Turn a checkpoint of DeOP's or SAN's authors, or a plain CLIP, into a model of this name.

    options: sizes that shapes do not tell (README, "Importing a checkpoint"). Another model of
    this name is replaced, which is said. Raises UsageError for a bad name or option,
    CheckpointError for tensors that are missing, surplus, of another shape or not finite,
    OutputError where the model cannot be written.
    """
    from ovseg_cli.model.foreign import convert_any

    target = weights.place_of(name)
    tensors = read_tensors(path)
    try:
        config, state = convert_any(tensors, options)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    description = description or f"imported from {path.name}"
    checkpoint = weights.Checkpoint(config, state, description, licence)
    replaced = weights.holds_another(target, checkpoint)
    weights.save(checkpoint, target)
    if replaced:
        log.warning("another model named %s was there: this one has taken its place", name)
    return weights.entry_of(target)


def read_options(path: Path) -> dict[str, Any]:
    """The JSON object of `ovseg models import --config`. Raises UsageError."""
    try:
        options = read_json(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(options, dict):
        raise UsageError(f"{path} must hold a JSON object")
    return options


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a foreign file (safetensors, torch's, or a pickle of NumPy arrays).

    No code from it is run. What programs wrap the tensors in is taken off: a dict around them, and
    what all their names begin with. Raises UsageError where there is no file, CheckpointError where
    it holds anything else.
    """
    import torch

    if not os.path.isfile(path):  # pathlib's raises where a name is too long for the disk
        raise UsageError(f"no checkpoint at {path}")
    try:
        state = _read(path)
    except CheckpointError:
        raise
    except Exception as error:  # the readers fail in many ways on what is no checkpoint
        raise CheckpointError(
            f"{path} cannot be read as plain tensors{reason_of(error)}; code in checkpoints is "
            "never run: save it as a dict of tensors, or as safetensors"
        ) from error
    for key in WRAPPINGS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path} holds no dict of tensors (key 'model' or 'state_dict')")
    state = {key: _as_tensor(path, key, value) for key, value in state.items()}
    strangers = [
        f"{str(key)[:80]!r} is not a tensor"
        for key, value in state.items()
        if not isinstance(key, str) or not isinstance(value, torch.Tensor)
    ] or [f"{key[:80]!r} {fault}" for key, value in state.items() if (fault := _fault(value))]
    if strangers:
        raise CheckpointError(f"{path}: {strangers[0]}")
    return _without_prefix(state)


def _read(path: Path) -> Any:
    """What a file holds, told by how it begins; its ending may be any."""
    import torch
    from safetensors.torch import load_file

    from ovseg_cli.model.pickled_arrays import SAFE_GLOBALS, load_plain

    with path.open("rb") as file:
        start = file.read(100)
        if _is_safetensors(start[:9]):
            return load_file(path)
        for begins, what in STRANGERS:
            if begins.match(start):
                raise CheckpointError(f"{path} is {what}")
        file.seek(0)
        if start.startswith(ZIP):
            _check_archive(path)
        else:
            content = load_plain(file)
            if not isinstance(content, int):  # torch's older files begin with a number
                return content
            file.seek(0)
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            # Not of the path: some versions of torch go by its ending.
            return torch.load(file, map_location="cpu", weights_only=True)


def _is_safetensors(start: bytes) -> bool:
    """Whether a file's first nine bytes are the length of a header and its opening bracket."""
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= weights.LARGEST_HEADER


def _as_tensor(path: Path, key: Any, value: Any) -> Any:
    """The tensor of a NumPy array; anything else stays. Raises CheckpointError for odd arrays."""
    from ovseg_cli.model.pickled_arrays import StoredArray

    if not isinstance(value, StoredArray):
        return value
    try:
        return value.tensor()
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {str(key)[:80]!r} is not a plain array: {error}") from error


def reason_of(error: Exception) -> str:
    """Why a reader failed, in brackets, or nothing where it does not say."""
    if found := re.search(r"GLOBAL (\S+) (?:was not|whose)", str(error)):
        return f" (it asks for {found[1]!r:.80}, which is not allowed)"
    # The first sentence: torch goes on with the advice to let the file's code run.
    reason = str(error).partition("\n")[0].partition(". ")[0]
    return f" ({reason})" if " " in reason else ""  # else it is a bare number, or key


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what a wrapper of the whole model put before each of them."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            return _without_prefix({name.removeprefix(prefix): t for name, t in state.items()})
    return state


def _fault(tensor: Tensor) -> str:
    """What is wrong with a tensor, in words; it is plain numbers, all of them in the file."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        return "is not a plain tensor"
    if tensor.dtype.itemsize > 8 or (tensor.is_floating_point() and tensor.dtype.itemsize < 2):
        return f"holds numbers of a kind that models have none of, {tensor.dtype}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"is said to be {list(tensor.shape)}, of which the file holds a part"  # a trap
    return ""


def _check_archive(path: Path) -> None:
    """Raise CheckpointError for a damaged member, ValueError for an archive that is a trap.

    torch stores tensors as they are, so one that claims to hold far more than its size is none.
    """
    if not zipfile.is_zipfile(path):  # cut short: torch's reader says what is missing
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any("/code/" in name for name in names):
            raise CheckpointError(
                f"{path} is a TorchScript archive, a program, which is not run: where you trust "
                "it, torch.save(torch.jit.load(FILE).state_dict(), OTHER) makes plain tensors of it"
            )
        if not any(name.endswith("data.pkl") for name in names):
            raise CheckpointError(f"{path} is an archive of other files than torch's: unpack it")
        size = sum(member.file_size for member in archive.infolist())
        if size > path.stat().st_size:
            raise ValueError(f"it would unpack to {size / 1e6:.0f} MB")
        for member in archive.infolist():
            if member.CRC:  # torch can leave the sums out, and writes 0 then
                _check_member(path, archive, member)


def _check_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """torch's reader looks at no check sum; Python's does once a member is read to its end."""
    try:
        with archive.open(member) as stored:
            while stored.read(READ_AT_ONCE):
                pass
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path} is damaged at {member.filename!r:.80}: copy or download it again"
        ) from error
