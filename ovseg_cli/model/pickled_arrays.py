"""NumPy's arrays and numbers in foreign pickles, without running any code that a file names.

A pickle says which functions rebuild what is in it. NumPy's own believe what a file says about
memory, so none of them is called: records of ours stand for what they make, and their bytes are
read as plain numbers afterwards. Any other name in a pickle is refused.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

PLAIN = re.compile(r"[biufc]\d{1,2}")  # dtypes that are numbers: "f4", "i8", "b1" ...


class StoredType:
    """A dtype as a pickle has it: a code such as "f4", and the order of its bytes."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        """The same for NumPy. Raises ValueError for what are no plain numbers."""
        if not PLAIN.fullmatch(self.code) or self.order not in ("<", ">", "=", "|"):
            raise ValueError(f"an array holds {self.code!r:.20}, no plain numbers")
        return np.dtype(f"{self.order}{self.code}")


class StoredArray:
    """An array as a pickle has it: shape, type, order of its axes and bytes."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.kind, self.fortran, self.data = state

    def tensor(self) -> Tensor:
        """Its numbers in memory of their own. Raises ValueError, TypeError for what has none."""
        # Python 2 wrote bytes as text; the reader takes each as the character of its number.
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        values = np.frombuffer(data, self.kind.dtype())
        values = values.reshape(self.shape, order="F" if self.fortran else "C")
        return torch.from_numpy(values.astype(values.dtype.newbyteorder("="), order="C"))


class Maker:
    """What stands for a function of another program, under its name there."""

    def __init__(self, path: str, make: Callable[..., Any]) -> None:
        self.__module__, _, self.__name__ = path.rpartition(".")
        self.__qualname__ = self.__name__
        self.path, self.make = path, make

    def __call__(self, *args: Any) -> Any:
        return self.make(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"{self.path} cannot be changed")  # nor by a file


def _array(shape: Any, kind: Any, fortran: bool, data: Any) -> StoredArray:
    array = StoredArray()
    array.__setstate__((1, shape, kind, fortran, data))
    return array


def _encoded(text: str, encoding: str) -> bytes:
    """How pickles of old protocols hold bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r:.20}")
    return text.encode(encoding)


def _no_bytes() -> bytes:
    """How pickles of old protocols hold no bytes at all."""
    return b""


MAKERS = (
    Maker("numpy.ndarray", _array),  # named by arrays, but never called
    Maker("numpy.dtype", StoredType),
    *(Maker(f"{module}.bytes", _no_bytes) for module in ("builtins", "__builtin__")),
    *(
        maker
        for core in ("numpy.core", "numpy._core")  # before and since NumPy 2
        for maker in (
            Maker(f"{core}.multiarray._reconstruct", lambda *_: StoredArray()),
            Maker(f"{core}.multiarray.scalar", lambda kind, data: _array((), kind, False, data)),
            Maker(
                f"{core}.numeric._frombuffer",
                lambda data, kind, shape, order: _array(shape, kind, order == "F", data),
            ),
        )
    ),
)
# For torch's reader, which gives state to objects of these classes alone.
SAFE_GLOBALS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *MAKERS,
    StoredType,
    StoredArray,
]

_KNOWN = {
    maker.path: maker
    for maker in (
        *MAKERS,
        Maker("_codecs.encode", _encoded),
        Maker("collections.OrderedDict", OrderedDict),
    )
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Maker:
        """Only what is known here; nothing is imported."""
        path = f"{module}.{name}"
        if path not in _KNOWN:
            raise pickle.UnpicklingError(f"GLOBAL {path} was not allowed")
        return _KNOWN[path]


def load_plain(file: BinaryIO) -> Any:
    """What a pickle holds: containers, numbers, text, and a `StoredArray` for each NumPy array.

    Raises UnpicklingError for anything else, and whatever a damaged pickle leads to.
    """
    return _Reader(file, encoding="latin1").load()
