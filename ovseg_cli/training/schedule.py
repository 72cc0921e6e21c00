"""How long and how fast a stage learns."""

from __future__ import annotations

import math
from dataclasses import dataclass

CHOICES = {
    "optimizer": ("adamw", "muon", "sgd"),
    "decay": ("cosine", "poly"),
    "precision": ("fp32", "bf16"),
}


@dataclass(frozen=True)
class Schedule:
    """The `[schedule]` table of a stage's TOML file."""

    steps: int
    learning_rate: float
    optimizer: str = "adamw"  # or "muon" (with AdamW for what is no matrix), "sgd" (momentum 0.9)
    weight_decay: float = 0.05
    warmup: int = 200  # steps of linear warm-up
    decay: str = "cosine"  # or "poly" (power 0.9), both to zero
    clip: float | None = 1.0  # largest gradient norm
    ema: float | None = None  # decay of the averaged weights; None = no averaging
    precision: str = "fp32"  # or "bf16": autocast, where the device multiplies in it
    evaluate_every: int = 0  # steps; 0 = at the end only
    checkpoint_every: int = 500
    log_every: int = 50

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name} is {value!r}, not one of {', '.join(known)}")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; a run has at least one")
        positive = {"learning_rate": self.learning_rate, "clip": self.clip}
        for name, value in positive.items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}, not a number above 0")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}, not from 0 to less than 1")
        if self.warmup < 0 or not 0 <= self.weight_decay < math.inf:
            raise ValueError("warmup and weight_decay are 0 or more")

    def rate(self, step: int) -> float:
        """The learning rate's factor at a step, 0..1."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        if self.decay == "poly":
            return (1 - done) ** 0.9
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
