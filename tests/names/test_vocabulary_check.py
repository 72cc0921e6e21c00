"""Class names that are alike, too long or mistyped."""

import zlib

import numpy as np
import pytest

from ovseg_cli.errors import VocabularyError
from ovseg_cli.model.prompts import TextEncoder
from ovseg_cli.names.nouns import common_nouns
from ovseg_cli.names.vocabulary_check import check
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.vocabulary_files import presets

ALIKE = {"automobile": "car", "auto": "car"}


def encode(phrases):
    """A direction of its own for each word, a common part for all; synonyms nearly the same."""
    rows = []
    for phrase in phrases:
        if len(phrase) > 40:
            raise VocabularyError(f"'{phrase}' is longer than the 77 tokens of the context")
        word = ALIKE.get(phrase, phrase)
        row = np.random.default_rng(zlib.crc32(word.encode())).normal(size=64)
        row = row / np.linalg.norm(row) + np.full(64, 0.15)
        if word != phrase:
            row = row + 0.02 * np.random.default_rng(1).normal(size=64)
        rows.append(row / np.linalg.norm(row))
    return np.array(rows)


def checked(*classes):
    return {entry.name: entry for entry in check(Vocabulary(classes), encode)}


def test_similarity_is_told_from_what_any_two_nouns_have():
    found = checked("car", "tree", "automobile")
    assert [other.name for other in found["car"].nearest] == ["automobile", "tree"]
    alike, other = (near.similarity for near in found["car"].nearest)
    assert alike > 0.9
    assert other == pytest.approx(0, abs=0.25)  # although the cosine is about 0.6
    assert encode(["car"])[0] @ encode(["tree"])[0] > 0.4
    assert any("hardly tell it from 'automobile'" in text for text in found["car"].warnings)
    assert not found["tree"].warnings


def test_the_most_alike_synonyms_of_two_classes_count():
    found = checked("lorry|automobile", "car", "tree")
    assert found["car"].nearest[0].name == "lorry"
    assert found["car"].nearest[0].similarity > 0.9


def test_a_name_that_is_too_long_is_said_and_the_others_go_on():
    long = "a very long name of a thing that nobody can name shortly"
    found = checked("car", long, "tree")
    assert "longer than the 77 tokens" in found[long].warnings[0]
    assert found[long].nearest == ()
    assert [other.name for other in found["car"].nearest] == ["tree"]


def test_names_without_latin_letters():
    found = checked("天空", "テレビ|TV", "car")
    assert found["天空"].warnings == ("it has no Latin letter: models know English names",)
    assert found["テレビ"].warnings == found["car"].warnings == ()


def test_a_class_is_no_other_s_for_what_cannot_be_told_of_it():
    long = "a very long name of a thing that nobody can name shortly"
    found = checked(long, "car|lorry", f"{long} twice", "tree", "automobile|bus")
    assert found["car"].nearest[0].name == "automobile"
    assert found["automobile"].nearest[0].name == "car"
    assert {other.name for other in found["tree"].nearest} == {"car", "automobile"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("buidling", "building"), ("traffic ligth", "traffic light"), ("Umbrela", "umbrella")],
)
def test_what_looks_mistyped(typed, meant):
    (text,) = checked(typed, "sky")[typed].warnings
    assert text == f"'{typed}': is '{meant}' meant?"


@pytest.mark.parametrize(
    "name", ["dogs", "traffic lights", "Building", "xyzzy", "Škoda", "t-shirt", "old car"]
)
def test_what_does_not(name):
    assert checked(name, "sky")[name].warnings == ()


def test_words_that_the_model_knows_besides_are_not_mistyped():
    words = Vocabulary(["peak", "buidling", "peak of a mountian"])
    found = [entry.warnings for entry in check(words, encode, "peak".__eq__)]
    assert found == [
        (),
        ("'buidling': is 'building' meant?",),
        ("'peak of a mountian': is 'peak of a mountain' meant?",),
    ]


def test_frequent_words():
    assert all(map(TextEncoder.is_word, ["peak", "Kayak", "facade", "rocks"]))
    assert not any(map(TextEncoder.is_word, ["buidling", "peson", "mountian", "stream bed"]))


def test_one_class_has_no_neighbours():
    assert checked("car")["car"].nearest == ()


def test_the_nouns():
    nouns = common_nouns()
    assert 2000 < len(nouns) < 5000
    assert list(nouns) == sorted(set(nouns))
    assert {"car", "tree", "dog", "umbrella", "traffic light"} <= set(nouns)
    assert "nouns" not in presets()
