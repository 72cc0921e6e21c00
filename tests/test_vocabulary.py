import pickle

import pytest

from ovseg_cli.errors import VocabularyError
from ovseg_cli.vocabulary import ClassName, Vocabulary, parse


class TestParse:
    def test_names_and_synonyms(self):
        found = parse(" sky ,road,car | automobile|sedan\n")
        assert found.names == ("sky", "road", "car")
        assert found.classes[2].phrases == ("car", "automobile", "sedan")
        assert len(found) == 3

    @pytest.mark.parametrize("text", ["", "  \n"])
    def test_nothing(self, text):
        with pytest.raises(VocabularyError, match="no class names"):
            parse(text)

    @pytest.mark.parametrize(
        ("text", "position"), [("sky,,road", 1), ("sky,", 1), (",sky", 0), ("sky,\u200b", 1)]
    )
    def test_blank_name(self, text, position):
        with pytest.raises(VocabularyError, match=f"class name at position {position} is blank"):
            parse(text)

    @pytest.mark.parametrize("text", ["sky,car|", "sky,car||auto"])
    def test_blank_synonym(self, text):
        with pytest.raises(VocabularyError, match="synonym at position 1 is blank"):
            parse(text)

    @pytest.mark.parametrize("text", ["sky\nroad", "sky\r\nroad\n", "sky\u2028road"])
    def test_lines_of_a_file_are_not_one_name(self, text):
        with pytest.raises(VocabularyError, match="several lines without a comma.*--vocab FILE"):
            parse(text)

    def test_duplicates_are_named_with_their_positions(self):
        with pytest.raises(VocabularyError, match=r'"car" occurs 2 times \(positions 0, 2\)'):
            parse("car,sky,CAR")

    @pytest.mark.parametrize(
        "text",
        [
            *("car|auto,sky|Auto", "car,sky|car", "car|car", "caf\u00e9,cafe\u0301", "a  b,a b"),
            *("car,\uff43\uff41\uff52", "fish,\ufb01sh", "Straße,STRASSE"),  # wide, a ligature
        ],
    )
    def test_a_phrase_occurs_once_in_all(self, text):
        with pytest.raises(VocabularyError, match="occurs 2 times"):
            parse(text)

    def test_300_equal_names_make_a_short_message(self):
        with pytest.raises(VocabularyError, match="300 times") as caught:
            parse(",".join(["sky"] * 300))
        assert len(str(caught.value)) < 200

    def test_a_long_bad_name_is_shortened(self):
        with pytest.raises(VocabularyError) as caught:
            parse(f"{'x' * 5000},{'x' * 5000}")
        assert len(str(caught.value)) < 300

    @pytest.mark.parametrize(
        "name", ["天空", "سماء", "🏠", "a\nb", "x\x1b[31m", "C#", "../a", "<b>"]
    )
    def test_any_unicode(self, name):
        assert parse(f"sky,{name}").names == ("sky", name)

    @pytest.mark.parametrize("name", ["caf\udce9", "a\0b"])
    def test_what_is_no_text_is_refused(self, name):
        with pytest.raises(VocabularyError, match="position 1 is not text in UTF-8"):
            parse(f"sky,{name}")

    def test_messages_are_printable(self):
        with pytest.raises(VocabularyError) as caught:
            parse("\x1b[2J,\x1b[2J")
        assert str(caught.value).isprintable()


class TestVocabulary:
    def test_with_templates(self):
        plain = Vocabulary(["car|auto", "sky"])
        prompted = plain.with_templates(["a {}", "the {}"])
        assert prompted == Vocabulary(["car|auto", "sky"], ["a {}", "the {}"])
        assert prompted.with_templates(None) == plain

    def test_is_a_key(self):
        first, second = (
            Vocabulary(["car|auto", "sky"]),
            Vocabulary([ClassName("car", ("auto",)), "sky"]),
        )
        assert first == second
        assert hash(first) == hash(second)
        assert first != Vocabulary(["sky", "car|auto"])
        assert first != Vocabulary(["car|auto", "sky"], ["a {}"])
        assert pickle.loads(pickle.dumps(first)) == first

    def test_a_comma_in_a_list_belongs_to_the_name(self):
        assert Vocabulary(["altar, high"]).names == ("altar, high",)

    def test_with_class(self):
        grown = Vocabulary(["sky"], ["a {}"]).with_class("other")
        assert grown.names == ("sky", "other")
        assert grown.templates == ("a {}",)
        with pytest.raises(VocabularyError, match="positions 0, 2"):
            grown.with_class("Sky")

    @pytest.mark.parametrize("classes", ["sky", [], [1], [None]])
    def test_wrong_classes(self, classes):
        with pytest.raises(VocabularyError):
            Vocabulary(classes)

    @pytest.mark.parametrize("templates", [[], ["a photo"], ["{} and {}"]])
    def test_wrong_templates(self, templates):
        with pytest.raises(VocabularyError, match="template"):
            Vocabulary(["sky"], templates)


class TestClassName:
    @pytest.mark.parametrize("what", ["synonyms", "parents"])
    def test_one_text_is_not_taken_for_its_letters(self, what):
        with pytest.raises(VocabularyError, match=f'{what} are given as a tuple.*"auto"'):
            Vocabulary([ClassName("car", **{what: "auto"})])

    @pytest.mark.parametrize("entry", [ClassName(3), ClassName("a", (3,)), ClassName("a", (), [3])])
    def test_what_is_no_text(self, entry):
        with pytest.raises(VocabularyError, match="a class name is text, not int"):
            Vocabulary([entry])

    @pytest.mark.parametrize("kind", ["", "  ", "vehicle|machine"])
    def test_a_kind_is_one_name(self, kind):
        with pytest.raises(VocabularyError, match='"car" at position 0 is a kind of ".*", which'):
            Vocabulary([ClassName("car", parents=(kind,))])

    def test_lists_become_tuples(self):
        """So that a vocabulary is hashable whatever it was made of."""
        found = Vocabulary([ClassName("car", ["auto"], ["vehicle"])])
        assert hash(found) == hash(Vocabulary([ClassName("car", ("auto",), ("vehicle",))]))


@pytest.mark.parametrize("unseen", ["\u200b", "\u00ad", "\ufeff", "\u2060"])
def test_names_that_differ_by_what_nobody_sees(unseen):
    with pytest.raises(VocabularyError, match="occurs 2 times"):
        Vocabulary(["sky", f"s{unseen}ky"])


def test_joiners_make_another_name():
    assert len(Vocabulary(["\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u062e"])) == 2
