"""CLIP's byte pair encoder, open_clip's, without what else open_clip loads."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any


@lru_cache(maxsize=2)
def tokenizer(tokens: int) -> Any:
    """The encoder with the first merges of its table only, `tokens` ids in all.

    The ids are 256 bytes, 256 bytes at a word's end, the merges, start and end. Raises ValueError
    where the table has not that many.
    """
    encoder = _open_clip_tokenizer().SimpleTokenizer()
    merges = tokens - 512 - 2
    if not 0 <= merges <= len(encoder.bpe_ranks):
        raise ValueError(f"CLIP's tokenizer has no table of {tokens} tokens")
    kept = {token: index for token, index in encoder.encoder.items() if index < 512 + merges}
    start, end = list(encoder.encoder)[-2:]
    encoder.encoder = {**kept, start: tokens - 2, end: tokens - 1}
    encoder.bpe_ranks = {pair: rank for pair, rank in encoder.bpe_ranks.items() if rank < merges}
    return encoder


@lru_cache(maxsize=1)
def _open_clip_tokenizer() -> Any:
    """The module open_clip.tokenizer, from its file: it needs nothing of open_clip itself, whose
    import takes seconds, for it brings torchvision along.
    """
    package = importlib.util.find_spec("open_clip")
    folder = package and package.submodule_search_locations
    file = Path(folder[0]) / "tokenizer.py" if folder else Path()
    found = importlib.util.spec_from_file_location(f"{__name__}_of_open_clip", file)
    with _kept_environment():
        try:
            if found is None or found.loader is None:
                raise ImportError(f"{file} is no module")
            module: Any = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
        except (ImportError, OSError):  # an open_clip whose files are arranged in another way
            import open_clip

            module = open_clip.tokenizer
    return module


@contextmanager
def _kept_environment() -> Iterator[None]:
    """The module sets a variable when it is loaded, which is the caller's to set."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TOKENIZERS_PARALLELISM", None)
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
