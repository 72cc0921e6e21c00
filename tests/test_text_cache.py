"""Text features are kept between runs, and where they cannot be, nothing is left or lost."""

import os
import stat

import pytest
import torch

from ovseg_cli import text_cache
from ovseg_cli.text_cache import text_features
from ovseg_cli.vocabulary import Vocabulary


class Encoder:
    """Counts how often it is asked."""

    asked = 0

    def encode(self, phrases, templates):
        self.asked += 1
        return torch.arange(3.0 * len(phrases)).reshape(len(phrases), 3)


def test_encoded_once_and_readable_by_all_whom_the_umask_lets(tmp_path):
    encoder, names = Encoder(), Vocabulary(["sky", "car|auto"])
    before = os.umask(0o022)
    try:
        found = [text_features(encoder, names, "abc", tmp_path / "cache") for _ in range(2)]
    finally:
        os.umask(before)
    assert encoder.asked == 1
    assert torch.equal(found[0].features, found[1].features)
    (file,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    text_features(encoder, names, "another model", tmp_path / "cache")
    assert encoder.asked == 2


@pytest.mark.parametrize("failure", ["no folder", "full disk"])
def test_where_nothing_can_be_kept_nothing_is_left(tmp_path, monkeypatch, failure):
    folder = tmp_path / "cache"
    if failure == "no folder":
        folder.write_text("a file")
    else:
        folder.mkdir()

        def full(self, data):
            with self.open("wb") as stream:
                stream.write(data[:3])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("pathlib.Path.write_bytes", full)
    encoder = Encoder()
    for _ in range(3):
        assert text_features(encoder, Vocabulary(["sky"]), "abc", folder).features.shape == (1, 3)
    assert encoder.asked == 3
    if folder.is_dir():
        assert not list(folder.iterdir())


def test_ever_new_names_do_not_fill_the_disk(tmp_path, monkeypatch):
    encoder, folder = Encoder(), tmp_path / "cache"
    (folder / "other").mkdir(parents=True)
    text_features(encoder, Vocabulary(["sky"]), "abc", folder)
    (first,) = folder.glob("*.safetensors")
    monkeypatch.setattr(text_cache, "KEPT_BYTES", 3 * first.stat().st_size)
    os.utime(first, (1000, 1000))
    for number in range(1, 4):
        before = set(folder.glob("*.safetensors"))
        text_features(encoder, Vocabulary([f"name {number}"]), "abc", folder)
        (made,) = set(folder.glob("*.safetensors")) - before
        os.utime(made, (1000 + number, 1000 + number))
    assert not first.exists() and len(list(folder.glob("*.safetensors"))) == 3
    assert (folder / "other").is_dir()
    asked = encoder.asked
    text_features(encoder, Vocabulary(["name 1"]), "abc", folder)
    assert encoder.asked == asked
