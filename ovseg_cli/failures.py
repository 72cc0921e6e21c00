"""Why an input fails, whether others will, too, and what helps."""

import errno

from ovseg_cli.errors import OutputError, OvsegError
from ovseg_cli.printable import printable

_FULL = (errno.ENOSPC, errno.EDQUOT)
_GPUS = ("CUDA", "HIP", "MPS")  # what torch's messages call the memory of
_RUN_WIDE = (*_FULL, errno.EROFS)


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python or the model's library found no memory."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(sign in text for sign in ("out of memory", "not enough memory", "can't allocate"))
    )


def is_run_wide(error: Exception) -> bool:
    """Whether no other result could be written either: a disk that is full or read-only."""
    return isinstance(error, OutputError) and _number(error) in _RUN_WIDE


def remedy_of(error: OutputError, again: str) -> str:
    """What helps where a result could not be written; again: how the run goes on afterwards."""
    return f"{'make room' if _number(error) in _FULL else 'mend that'}, then {again}"


def _number(error: Exception) -> int | None:
    return getattr(error.__cause__, "errno", None)


def reason_of(
    error: Exception, name: str, size_hw: tuple[int, int] | None = None, kind: str = "photo"
) -> str:
    """Why an input failed, in words to be read beside its name."""
    if isinstance(error, OvsegError):
        return str(error).removeprefix(f"{printable(name)}: ")
    if is_out_of_memory(error):
        size = f" of {size_hw[1]}x{size_hw[0]} pixels" if size_hw else ""
        on_gpu = any(sign in str(error) for sign in _GPUS)
        helps = "--device cpu may have more" if on_gpu else "one of fewer pixels needs less"
        return f"not enough memory for this {kind}{size}; {helps}"
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)"
