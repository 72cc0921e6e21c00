import pytest

from ovseg_cli.names.plurals import plural, singulars


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("car", "cars"),
        ("bus", "buses"),
        ("box", "boxes"),
        ("church", "churches"),
        ("bush", "bushes"),
        ("city", "cities"),
        ("boy", "boys"),
    ],
)
def test_plurals(noun, expected):
    assert plural(noun) == expected


@pytest.mark.parametrize(
    ("word", "singular"),
    [
        *(("cars", "car"), ("buses", "bus"), ("cities", "city"), ("ties", "tie"), ("dog", "dog")),
        *(("wolves", "wolf"), ("knives", "knife"), ("gloves", "glove"), ("people", "person")),
        *(("traffic lights", "traffic light"), ("police men", "police man"), ("shoes", "shoe")),
    ],
)
def test_singulars(word, singular):
    assert singular in singulars(word)
    assert singulars(word)[0] == word


@pytest.mark.parametrize(
    ("word", "other"),
    [("capes", "cap"), ("caves", "caf"), ("caves", "cafe"), ("tubes", "tub"), ("pines", "pin")],
)
def test_what_it_is_not_the_plural_of(word, other):
    assert other not in singulars(word)
    assert singulars(word)[1] == word[:-1]  # the likeliest first


@pytest.mark.parametrize("word", ["", "s", "ss", "glass", "sheep", "s ss"])
def test_what_is_no_plural(word):
    assert singulars(word) == (word,)


def test_a_noun_is_among_the_singulars_of_its_plural():
    for noun in ("car", "bus", "box", "church", "city", "boy", "tie", "potato", "house", "glass"):
        assert noun in singulars(plural(noun))
