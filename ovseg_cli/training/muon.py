"""Muon: the momentum of a matrix is orthogonalised before it becomes a step (Jordan et al., 2024).

All directions of a matrix then move by the same amount, not those most that the gradient favours.
For networks that learn from nothing in few steps that pays: see weights/EXPERIMENTS.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ovseg_cli.model.bfloat16 import multiplies_bfloat16

# Of the quintic that drives singular values towards 1 (Jordan et al., "Muon", 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# What Adam's steps are like, so that one learning rate serves both (Liu et al., 2025, 2502.16982).
ADAM_RMS = 0.2


class Muon(torch.optim.Optimizer):
    """For matrices alone; a convolution's weight (out, in, h, w) counts as (out, in · h · w)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step along each matrix's orthogonalised momentum, with decoupled weight decay."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._advance(weight, weight.grad, group)

    def _advance(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(momentum, group["momentum"])  # Nesterov's
        matrix = ahead.flatten(1)
        size = ADAM_RMS * max(matrix.shape) ** 0.5
        step = orthogonalised(matrix).view(weight.shape)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(step.to(weight.dtype), alpha=-group["lr"] * size)


def orthogonalised(matrix: Tensor) -> Tensor:
    """About U·Vᵀ of a matrix (m, n) = U·S·Vᵀ: singular values of 0.7 to 1.2.

    Newton-Schulz iterations: products of matrices only, no decomposition. In bfloat16, which is
    enough for them, where the device multiplies in it.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x.bfloat16() if multiplies_bfloat16(x.device) else x.float()
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


def split_matrices(
    model: nn.Module, groups: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The parts of parameter groups that Muon is for, and the rest (biases, norms, embeddings).

    What reads pixels is with the rest: a few colours have no directions to balance.
    """
    matrices = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Linear) or isinstance(module, nn.Conv2d) and module.in_channels > 3
    }
    matrices |= {id(p) for name, p in model.named_parameters() if name.endswith("in_proj_weight")}

    def part(wanted: bool) -> list[dict[str, Any]]:
        found = []
        for group in groups:
            params = [p for p in group["params"] if (id(p) in matrices) == wanted]
            found += [{**group, "params": params}] if params else []
        return found

    return part(True), part(False)
