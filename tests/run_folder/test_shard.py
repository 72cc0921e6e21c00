from random import Random

import pytest

from ovseg_cli.errors import UsageError
from ovseg_cli.run_folder.shard import Division, Shard, divide, place

RELS = [f"folder {i % 7}/photo-{i}" for i in range(1000)]
RANDOM = Random(0)
SIZES = [int(RANDOM.lognormvariate(13, 1.5)) for _ in RELS]  # most small, some very large


def bytes_of_parts(division, rels, sizes):
    held = [0] * division.count
    for rel, size in zip(rels, sizes, strict=True):
        held[division.part_of(rel) - 1] += size
    return held


class TestDivide:
    @pytest.mark.parametrize("count", [1, 2, 3, 8, 100])
    def test_the_parts_hold_equal_bytes_to_within_an_input(self, count):
        held = bytes_of_parts(divide(RELS, SIZES, count), RELS, SIZES)
        share = sum(SIZES) / count
        assert all(abs(part - share) <= max(SIZES) for part in held)
        assert sum(held) == sum(SIZES)

    def test_it_is_more_even_than_the_hash_alone(self):
        count = 8
        even = bytes_of_parts(divide(RELS, SIZES, count), RELS, SIZES)
        plain = [0] * count
        for rel, size in zip(RELS, SIZES, strict=True):
            plain[place(rel) % count] += size
        assert max(even) - min(even) < (max(plain) - min(plain)) / 2

    def test_the_order_of_the_inputs_does_not_matter(self):
        pairs = list(zip(RELS, SIZES, strict=True))
        Random(1).shuffle(pairs)
        assert divide(*zip(*pairs, strict=True), 5) == divide(RELS, SIZES, 5)

    def test_what_comes_later_has_a_part_and_moves_nothing(self):
        division = divide(RELS, SIZES, 4)
        later = [f"new/{i}" for i in range(400)]
        parts = [division.part_of(rel) for rel in later]
        assert all(50 < parts.count(index) < 150 for index in (1, 2, 3, 4))

    def test_a_folder_that_has_grown_a_little_is_divided_almost_alike(self):
        grown = [*RELS, *(f"new/{i}" for i in range(10))]
        before, after = divide(RELS, [1] * 1000, 4), divide(grown, [1] * 1010, 4)
        moved = sum(before.part_of(rel) != after.part_of(rel) for rel in RELS)
        assert moved < 30

    def test_inputs_that_cannot_be_read_are_distributed(self):
        held = bytes_of_parts(divide(RELS, [-1] * 1000, 4), RELS, [1] * 1000)
        assert held == [250] * 4

    def test_more_parts_than_inputs(self):
        division = divide(["a", "b"], [10, 10], 5)
        assert sorted(bytes_of_parts(division, ["a", "b"], [10, 10])) == [0, 0, 0, 10, 10]

    def test_no_inputs(self):
        assert divide([], [], 3).count == 3

    def test_one_huge_input_has_a_part_of_its_own(self):
        held = bytes_of_parts(divide(RELS, [10**9] + [1] * 999, 3), RELS, [10**9] + [1] * 999)
        assert max(held) >= 10**9 and sum(held) == 10**9 + 999

    def test_names_that_are_not_unicode_have_a_part(self):
        assert divide(["caf\udce9"], [5], 1).part_of("caf\udce9") == 1


def test_the_place_of_an_input_never_changes():
    # SHA-256 of "a" begins with ca978112ca1bbdca (FIPS 180 test value).
    assert place("a") == 0xCA978112CA1BBDCA
    assert Division((0xCA978112CA1BBDCA,)).part_of("a") == 2
    assert Division((0xCA978112CA1BBDCB,)).part_of("a") == 1


def test_parse():
    assert Shard.parse("2/4") == Shard(2, 4)


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "a/b", "1/2/3", "-1/2", "1.5/2", "²/3"])
def test_parse_refuses(text):
    with pytest.raises(UsageError, match="I/N"):
        Shard.parse(text)


def slurm(index, count, **more):
    values = {"ID": index, "COUNT": count, **more}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


class TestSlurm:
    @pytest.mark.parametrize("numbers", [range(10), range(1, 11), range(5, 30, 5), range(100, 103)])
    def test_an_array_gives_every_part_once(self, numbers):
        rest = {"MIN": numbers[0], "MAX": numbers[-1], "STEP": numbers.step}
        parts = [Shard.of_slurm(slurm(i, len(numbers), **rest)) for i in numbers]
        assert parts == [Shard(i + 1, len(numbers)) for i in range(len(numbers))]

    def test_without_its_least_number_it_begins_at_one(self):
        assert Shard.of_slurm(slurm(2, 4)) == Shard(2, 4)

    @pytest.mark.parametrize(
        "environment",
        [
            slurm(3, 3, MIN=1, MAX=7, STEP=1),  # --array=1,3,7
            slurm(7, 3, MIN=1, MAX=7, STEP=1),
            slurm(0, 4),
            slurm(5, 4, MIN=1, MAX=4),
            slurm(2, 4, MIN=1, MAX=7, STEP=2),
        ],
    )
    def test_gaps_are_refused(self, environment):
        with pytest.raises(UsageError, match="gaps.*--shard I/N"):
            Shard.of_slurm(environment)

    @pytest.mark.parametrize("environment", [{}, {"SLURM_ARRAY_TASK_ID": "1"}])
    def test_outside_of_an_array_job(self, environment):
        with pytest.raises(UsageError, match="no task of a Slurm array"):
            Shard.of_slurm(environment)

    def test_numbers_that_are_none(self):
        with pytest.raises(UsageError, match="cannot be read"):
            Shard.of_slurm(slurm("x", 4))


@pytest.mark.parametrize(
    "text", ["9" * 5000 + "/4", "1/" + "9" * 5000, "0/3", "4/3", "/", "1/", "-1/3"]
)
def test_no_part(text):
    with pytest.raises(UsageError) as raised:
        Shard.parse(text)
    assert len(str(raised.value)) < 150


def test_leading_zeros():
    assert Shard.parse("02/0000004") == Shard(2, 4)
