import pytest

from ovseg_cli.printable import printable, some_of


class TestPrintable:
    @pytest.mark.parametrize("text", ["sky", "天空", "a\u00a0b", "نمی\u200cخواهم", "👩\u200d🚒"])
    def test_text_stays(self, text):
        assert printable(text) == text

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a\nb\tc", r"a\nb\tc"),
            ("\x1b[31mred", r"\x1b[31mred"),
            ("\x9b2J", r"\x9b2J"),
            ("a\u202eb", r"a\u202eb"),
            ("a\udcffb", r"a\udcffb"),
            ("a\u2028b", r"a\u2028b"),
        ],
    )
    def test_what_steers_a_terminal_is_escaped(self, text, expected):
        assert printable(text) == expected


def test_the_first_few_of_many():
    assert some_of([]) == ""
    assert some_of(["a", "b"], 2) == "a, b"
    assert some_of(["a", "b\x1b", "c", "d"], 2) == "a, b\\x1b and 2 more"
