import pytest

from ovseg_cli.errors import UsageError
from ovseg_cli.shard import Shard

RELS = [f"folder {i % 7}/photo-{i}" for i in range(1000)]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_input_belongs_to_exactly_one_part(count):
    parts = [Shard(index, count) for index in range(1, count + 1)]
    for rel in RELS:
        assert sum(part.holds(rel) for part in parts) == 1


def test_the_parts_are_about_equal():
    sizes = [sum(Shard(index, 4).holds(rel) for rel in RELS) for index in (1, 2, 3, 4)]
    assert all(200 < size < 300 for size in sizes)


def test_a_part_does_not_depend_on_the_other_inputs():
    # SHA-256 of "a" begins with ca978112ca1bbdca (FIPS 180 test value): odd or even is what counts.
    assert Shard(1 + 0xCA978112CA1BBDCA % 2, 2).holds("a")


def test_names_that_are_not_unicode_have_a_part():
    assert Shard(1, 1).holds("caf\udce9")


def test_parse():
    assert Shard.parse("2/4") == Shard(2, 4)


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "a/b", "1/2/3", "-1/2", "1.5/2", "²/3"])
def test_parse_refuses(text):
    with pytest.raises(UsageError, match="I/N"):
        Shard.parse(text)
