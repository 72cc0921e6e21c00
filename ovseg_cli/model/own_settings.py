"""What a program has set of torch for its own numbers is not for the model's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

_CPU = torch.device("cpu")


@contextmanager
def own_settings(device: torch.device) -> Iterator[None]:
    """The block computes on `device` as if the caller had no autocast and no default device.

    Both are of this thread alone. Torch's default dtype is of the whole process, so that it cannot
    be changed for a while: where a tensor is made its dtype is said.
    """
    # A default device goes through each call of torch, so it is set only against another.
    away = torch.get_default_device() != _CPU
    with torch.autocast(device.type, enabled=False), _CPU if away else nullcontext():
        yield
