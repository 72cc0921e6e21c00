"""Stage "text": the small text tower learns the teacher's vector of every noun.

After it the tower is frozen: all that is trained later points at these features, and words that no
photo was labelled with (lawn, puppy) lie near those that were (grass, dog).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg_cli.data.bounds import COUNT, SEED, SHARE, WEIGHT, require
from ovseg_cli.model.network import Network
from ovseg_cli.training.teacher import TextTargets


@dataclass(frozen=True)
class TextStageConfig:
    """How phrases are drawn."""

    wordnet: str  # folder of data.noun and index.noun
    batch: int = 1024  # phrases a step
    named_share: float = 0.15  # of them drawn from the names of data sets and benchmarks
    contrast_scale: float = 20.0  # of the cosines in the contrastive loss
    seed: int = 0

    def __post_init__(self) -> None:
        require(self, batch=COUNT, named_share=SHARE, contrast_scale=WEIGHT, seed=SEED)


class TextStage:
    """See the module's text. The targets' named phrases are drawn more often."""

    def __init__(
        self,
        model: Network,
        config: TextStageConfig,
        targets: TextTargets,
        device: torch.device,
    ) -> None:
        self.model = model
        self.config = config
        self.named = targets.named
        self.device = device
        self.features = torch.from_numpy(targets.features).to(device)
        self.tokens = model.text.tokenize(targets.phrases)  # (n, context)
        self.lengths = self.tokens.argmax(-1).numpy()
        model.requires_grad_(False)
        model.text.requires_grad_(True)
        model.text.non_object_embedding.requires_grad_(False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group: a small tower on many phrases needs no decay."""
        learning = [p for p in self.model.text.parameters() if p.requires_grad]
        return [{"params": learning, "weight_decay": 0.0}]

    def batch(self, step: int) -> Tensor:
        """Rows of the targets (batch,), part of them from the named ones."""
        draw = np.random.default_rng((self.config.seed, step))
        named = int(self.config.batch * self.config.named_share)
        rows = np.concatenate(
            [
                draw.integers(self.named, size=named),
                draw.integers(len(self.tokens), size=self.config.batch - named),
            ]
        )
        # Phrases of like length side by side: the tower reads as far as the longest beside them.
        return torch.from_numpy(rows[np.argsort(self.lengths[rows], kind="stable")])

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        """Distance to the teacher's vectors, and telling each phrase's vector from the others'."""
        targets = self.features[batch.to(self.device)]
        features = self._features(self.model, batch)
        cosine = (features * targets).sum(-1)
        logits = self.config.contrast_scale * features @ targets.T
        wanted = self.config.contrast_scale * targets @ targets.T
        contrast = F.kl_div(
            logits.float().log_softmax(-1),
            wanted.float().log_softmax(-1),
            reduction="batchmean",
            log_target=True,
        )
        return {"distance": (1 - cosine).mean(), "contrast": contrast}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean cosine to the targets: of the named classes, and of every 50th phrase."""
        assert isinstance(model, Network)
        parts = {"named": torch.arange(self.named), "all": torch.arange(0, len(self.tokens), 50)}
        return {name: self._cosine(model, rows) for name, rows in parts.items()}

    def _cosine(self, model: Network, rows: Tensor) -> float:
        total = 0.0
        for part in rows.split(512):
            features = self._features(model, part)
            total += float((features * self.features[part.to(self.device)]).sum())
        return total / len(rows)

    def _features(self, model: Network, rows: Tensor) -> Tensor:
        parts = [model.text.features(self.tokens[r].to(self.device)) for r in rows.split(128)]
        return torch.cat(parts)
