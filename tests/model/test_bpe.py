import importlib.util
import os
import subprocess
import sys

import pytest

from ovseg_cli.model import bpe
from ovseg_cli.model.bpe import tokenizer

TEXTS = ["cat", "a photo of a Sky-Scraper.", "café 日本", "it's  &amp; 12", "👩\u200d🚒", ""]


@pytest.fixture
def afresh():
    """Nothing loaded before, nor what the test has loaded afterwards."""
    for cached in (bpe.tokenizer, bpe._open_clip_tokenizer):
        cached.cache_clear()
    yield
    for cached in (bpe.tokenizer, bpe._open_clip_tokenizer):
        cached.cache_clear()


def test_ids_are_those_of_open_clip():
    from open_clip.tokenizer import SimpleTokenizer

    theirs, whole = SimpleTokenizer(), tokenizer(49408)
    assert [whole.encode(text) for text in TEXTS] == [theirs.encode(text) for text in TEXTS]


def test_nothing_else_of_open_clip_is_loaded_and_the_environment_stays():
    code = (
        "import os, sys; before = dict(os.environ); from ovseg_cli.model.bpe import tokenizer; "
        "print(tokenizer(49408).encode('cat')); assert os.environ == before; "
        "assert not {'open_clip', 'torchvision'} & set(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout == "[2368]\n", ran.stderr  # the id of "cat</w>" in CLIP's published table


def test_a_variable_of_the_caller_stays(afresh, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    tokenizer(49408)
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


def test_an_open_clip_arranged_in_another_way_is_imported_whole(afresh, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert tokenizer(49408).encode("cat") == [2368]


def test_truncated_tokenizer_keeps_the_first_merges():
    small, full = tokenizer(512 + 1000 + 2), tokenizer(49408)
    assert small.encode("in") == full.encode("in")  # an early merge
    ids = small.encode("skyscraper café 日本")
    assert max(ids) < 512 + 1000
    assert small.decode(ids).strip() == "skyscraper café 日本"
    assert len(ids) > len(full.encode("skyscraper café 日本"))
    assert small.encode("<start_of_text>") == [1512]


def test_tokens_beyond_clips_table_are_refused():
    with pytest.raises(ValueError, match="50000"):
        tokenizer(50000)
