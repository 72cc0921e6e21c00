"""Class names -> text features: tokens, templates, and DeOP's learned prompt (Sec. 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ovseg_cli.errors import VocabularyError
from ovseg_cli.model.bpe import tokenizer
from ovseg_cli.model.clip import TextTower
from ovseg_cli.model.config import TextConfig

DOT = 269  # id of "." at the end of a word; it does not depend on the number of merges
BATCH = 256  # prompts that go through the tower at once


def signal_rows(tokens: int) -> dict[str, int]:
    """Where start, "." and end, by the names of `LearnedPrompt`, stand in a table of tokens."""
    return {"start": tokens - 2, "dot": DOT, "end": tokens - 1}


class LearnedPrompt(nn.Module):
    """Vectors that stand around a name in place of words."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.prefix = self._vectors(config.prompt_prefix, config.width)
        self.suffix = self._vectors(config.prompt_suffix, config.width)
        # The tower's own start, "." and end embeddings. They are kept with the prompt, as in the
        # authors' checkpoints, and do not follow when the tower's table changes.
        for name in ("start", "dot", "end"):
            self.register_buffer(name, torch.zeros(1, config.width))
        self.start: Tensor
        self.dot: Tensor
        self.end: Tensor

    @staticmethod
    def _vectors(count: int, width: int) -> nn.Parameter | None:
        return nn.Parameter(torch.randn(count, width) * 0.02) if count else None

    def adopt_signals(self, token_embedding: Tensor) -> None:
        """Takes start, "." and end from a tower's table (tokens, width); for a fresh prompt."""
        for name, row in signal_rows(len(token_embedding)).items():
            self.get_buffer(name).copy_(token_embedding[row].detach())

    def forward(self, name: Tensor) -> Tensor:
        """Embeddings of a name's tokens (n, width) -> of the whole prompt (n + p + s + 3, .)."""
        parts = [self.start, self.prefix, name, self.suffix, self.dot, self.end]
        return torch.cat([part for part in parts if part is not None])


class TextEncoder(nn.Module):
    """Phrases -> unit features in the space that they share with patches."""

    def __init__(self, config: TextConfig, joint_width: int) -> None:
        super().__init__()
        self.config = config
        self.tower = TextTower(config, joint_width)
        self.prompt: LearnedPrompt | None = None
        if config.prompt_prefix or config.prompt_suffix:
            self.prompt = LearnedPrompt(config)
            self.prompt.adopt_signals(self.tower.token_embedding.weight)
        self.non_object_embedding = nn.Parameter(torch.randn(1, joint_width) * joint_width**-0.5)

    def encode(self, phrases: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        """Features (P, C) of unit length.

        templates: texts with "{}" where the phrase goes; the features of a phrase's filled
        templates are normalised, averaged and normalised again. None = the learned prompt,
        and for a model without one its own templates.
        Raises VocabularyError for a phrase that does not fit into the context.
        """
        if templates is None and self.prompt is not None:
            return self._encode_prompted(phrases, self.prompt)
        templates = self.config.templates if templates is None else templates
        names = [phrase.strip() for phrase in phrases for _ in templates]
        filled = [t.replace("{}", phrase.strip()) for phrase in phrases for t in templates]
        ids = self.tokenize(filled, names).to(self.non_object_embedding.device)
        features = torch.cat([self.features(part) for part in ids.split(BATCH)])
        return F.normalize(features.unflatten(0, (-1, len(templates))).mean(1), dim=-1)

    def features(self, ids: Tensor) -> Tensor:
        """Unit features (n, C) of token ids (n, context) as `tokenize` gives them."""
        return F.normalize(self.tower(ids), dim=-1)

    @staticmethod
    def is_word(text: str) -> bool:
        """Whether CLIP's whole table has one token for it: a word that web pages use often."""
        return f"{text.lower()}</w>" in tokenizer(TextConfig.tokens).encoder

    def tokenize(self, texts: Sequence[str], names: Sequence[str] | None = None) -> Tensor:
        """Token ids (n, context) int64 with start and end, zeros behind.

        names: the names that the texts were made of, for the error; None = the texts themselves.
        Raises VocabularyError for a text that does not fit.
        """
        ids = torch.zeros(len(texts), self.config.context, dtype=torch.long)
        for row, (text, name) in enumerate(zip(texts, names or texts, strict=True)):
            tokens = self._token_ids(text, name, taken=2)
            tokens = [self.config.tokens - 2, *tokens, self.config.tokens - 1]
            ids[row, : len(tokens)] = torch.tensor(tokens)
        return ids

    def _token_ids(self, text: str, name: str, taken: int) -> list[int]:
        """The ids of a text's own tokens; `taken` of the context's places belong to others."""
        ids: list[int] = tokenizer(self.config.tokens).encode(text)
        room = self.config.context - taken
        if len(ids) > room:
            short = name if len(name) <= 60 else f"{name[:60]}…"
            prompt = "" if text == name else " with its prompt"
            raise VocabularyError(
                f"the name {short!r} is too long: {len(ids)} tokens{prompt}, "
                f"and this model's text encoder takes {room}"
            )
        return ids

    def _encode_prompted(self, phrases: Sequence[str], prompt: LearnedPrompt) -> Tensor:
        # Start, ".", end and the learned vectors stand beside the name.
        taken = 3 + self.config.prompt_prefix + self.config.prompt_suffix
        names = [self._token_ids(phrase.strip(), phrase.strip(), taken) for phrase in phrases]
        device = self.non_object_embedding.device
        features = []
        for first in range(0, len(names), BATCH):
            sequences = [
                prompt(self.tower.token_embedding(torch.tensor(ids, dtype=torch.long).to(device)))
                for ids in names[first : first + BATCH]
            ]
            # The end position is counted, not searched: embeddings do not tell it.
            ends = torch.tensor([len(sequence) - 1 for sequence in sequences], device=device)
            features.append(self.tower(pad_sequence(sequences, batch_first=True), ends))
        return F.normalize(torch.cat(features), dim=-1)
