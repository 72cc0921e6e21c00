import os
import re
import unicodedata
from collections import Counter
from random import Random

import pytest

from ovseg_cli.exports import WRITERS
from ovseg_cli.media.result_names import RESULT_SUFFIXES, natural, unique_names

PIECES = ["a", "A", "b", "ß", "ss", "é", "e\u0301", "0", "1", "01", "10", "2", "-", " ", ".", "天"]


def some_paths(random, count):
    """So many paths of up to three parts, many of which are much alike."""
    parts = lambda: "".join(random.choices(PIECES, k=random.randint(1, 4)))  # noqa: E731
    return [
        "/".join(parts() for _ in range(random.randint(1, 3))) + random.choice([".jpg", ".png", ""])
        for _ in range(count)
    ]


def key_of_lists(path):
    """What `natural` says in one text, as texts and numbers that Python compares by itself."""
    pieces = [re.split("([0-9]+)", part) for part in path.casefold().split("/")]
    return [[int(p) if i % 2 else p for i, p in enumerate(piece)] for piece in pieces], path


def names_by_looking_at_all(paths, folders):
    """`unique_names`, looking at all names again after every change."""

    def comparable(name):
        return unicodedata.normalize("NFC", name).casefold()

    def repeated():
        counts = Counter(map(comparable, names))
        return [i for i, name in enumerate(names) if counts[comparable(name)] > 1]

    names = [os.path.splitext(path)[0] for path in paths]
    while shortened := [i for i in repeated() if names[i] != paths[i]]:
        for i in shortened:
            names[i] = paths[i]
    for i in repeated():
        names[i] = f"{os.path.basename(folders[i])}/{names[i]}"
    taken = set(map(comparable, names))
    for i in repeated():
        numbered = (f"{names[i]}-{number}" for number in range(1, len(names) + 1))
        names[i] = next(name for name in numbered if comparable(name) not in taken)
        taken.add(comparable(names[i]))
    return names


class TestNatural:
    @pytest.mark.parametrize("seed", range(20))
    def test_it_sorts_as_lists_of_texts_and_numbers_do(self, seed):
        paths = some_paths(Random(seed), 300)
        assert sorted(paths, key=natural) == sorted(paths, key=key_of_lists)

    @pytest.mark.parametrize(
        "ordered",
        [
            ["2.jpg", "10.jpg"],
            ["a", "a/b", "a1", "aa"],
            ["a/2/b", "a/10/a"],
            ["0", "1", "a"],
            ["x09", "x9", "x010", "x10"],
            ["B.jpg", "b.jpg", "C.jpg"],
            ["A/x", "a/x", "A/y"],
            ["9" * 5000, "1" + "0" * 5000],
        ],
    )
    def test_by_hand(self, ordered):
        assert sorted(reversed(ordered), key=natural) == ordered


class TestUniqueNames:
    @pytest.mark.parametrize("seed", range(40))
    def test_it_names_as_the_slow_way_does(self, seed):
        random = Random(seed)
        paths = some_paths(random, random.choice([3, 30, 200]))
        paths += random.choices(paths, k=len(paths) // 3)  # of other folders
        folders = random.choices(["/in/x", "/in/y", "/elsewhere/x", "/1"], k=len(paths))
        names = unique_names(paths, folders)
        assert names == names_by_looking_at_all(paths, folders)
        assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(names)

    @pytest.mark.parametrize(
        ("paths", "names"),
        [
            (["x.jpg", "x.png/y.jpg"], ["x.jpg", "x.png/y"]),
            (["x.png/deep/y.jpg", "X.jpg"], ["x.png/deep/y", "X.jpg"]),
            (["a/x.bmp", "a/x.GeoJSON/y.jpg"], ["a/x.bmp", "a/x.GeoJSON/y"]),
            (["x", "x.png/y.jpg"], ["in/x", "x.png/y"]),
            (["v1.jpg", "v1.0/y.jpg", "b/v1.png/y.jpg"], ["v1", "v1.0/y", "b/v1.png/y"]),
        ],
    )
    def test_a_result_is_not_called_like_a_folder_of_others(self, paths, names):
        assert unique_names(paths, ["/in"] * len(paths)) == names

    def test_the_suffixes_of_results(self):
        assert {writer.suffix for writer in WRITERS.values()} <= {"", *RESULT_SUFFIXES}

    def test_a_name_that_was_given_up_is_not_given_again(self):
        paths, folders = ["x-1", "x-1", "x", "x"], ["/"] * 4
        assert unique_names(paths, folders) == ["x-1-1", "x-1-2", "x-2", "x-3"]
