"""Recorded tensors of the original DeOP code, and loading them under our names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ovseg_cli.model.convert import source_name


@dataclass(frozen=True)
class Recording:
    """One fixture file of ../shared/parity."""

    tensors: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def load_into(
        self, module: nn.Module, ours: str, theirs: str, given: Mapping[str, Tensor] | None = None
    ) -> None:
        """Fills a module, which DeOP calls `ours`, with the weights below the authors' `theirs`.

        given: tensors by our names that are not taken from the weights.
        """
        state = dict(given or {})
        for name in module.state_dict():
            if name not in state:
                source = source_name(f"{ours}{name}").removeprefix(theirs)
                state[name] = self.tensors[f"weights.{source}"]
        module.load_state_dict(state)


@pytest.fixture(scope="session")
def recording(shared_dir: Path) -> Callable[[str], Recording]:
    """Reads a fixture by name: gps, cal, text."""
    return lambda name: Recording(load_file(shared_dir / "parity" / f"{name}.safetensors"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random inputs of a test are the same in each run."""
    torch.manual_seed(0)
