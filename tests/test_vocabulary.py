import pickle

import pytest

from ovseg_cli import vocabulary
from ovseg_cli.errors import VocabularyError
from ovseg_cli.vocabulary import (
    ClassName,
    Vocabulary,
    parse,
    preset,
    presets,
    printable,
    read,
    template_sets,
    templates,
)

# Number of classes, first, last: from the benchmarks' own pages.
BENCHMARKS = {
    "ade150": (150, "wall", "flag"),
    "ade847": (847, "wall", "adding machine"),
    "camvid11": (11, "sky", "bicyclist"),
    "cityscapes19": (19, "road", "bicycle"),
    "coco171": (171, "person", "wood"),
    "coco80": (80, "person", "toothbrush"),
    "pc459": (459, "accordion", "wool"),
    "pc59": (59, "aeroplane", "wood"),
    "voc21": (21, "background", "tvmonitor"),
    "pc60": (60, "background", "wood"),
    "coco81": (81, "background", "toothbrush"),
    "voc20": (20, "aeroplane", "tvmonitor"),
}


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

    def test_duplicates_are_named_with_their_positions(self):
        with pytest.raises(VocabularyError, match=r'"car" occurs 2 times \(positions 0, 2\)'):
            parse("car,sky,CAR")

    @pytest.mark.parametrize(
        "text", ["car|auto,sky|Auto", "car,sky|car", "car|car", "caf\u00e9,cafe\u0301", "a  b,a b"]
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


class TestVocabulary:
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


class TestRead:
    def test_comments_blank_lines_and_newlines_of_all_kinds(self, tmp_path):
        file = tmp_path / "names.txt"
        file.write_bytes("\ufeff# all\r\nsky\r\n\r\n  car|auto # red\rC#\n天空".encode())
        assert read(file) == Vocabulary(["sky", "car|auto", "C#", "天空"])

    def test_an_error_names_the_line(self, tmp_path):
        file = tmp_path / "names.txt"
        file.write_text("# head\nsky\n\ncar\nSky\n")
        with pytest.raises(VocabularyError, match=r"names.txt: .*lines 2, 5"):
            read(file)

    def test_a_comma_is_an_error(self, tmp_path):
        file = tmp_path / "names.txt"
        file.write_text("sky\nwall, brick\n")
        with pytest.raises(VocabularyError, match=r"line 2: .*comma"):
            read(file)

    def test_blank_synonym(self, tmp_path):
        file = tmp_path / "names.txt"
        file.write_text("sky\ncar|\n")
        with pytest.raises(VocabularyError, match="synonym at line 2"):
            read(file)

    @pytest.mark.parametrize("data", [b"sky\n\xe9t\xe9\n", "sky".encode("utf-16")[:-1]])
    def test_other_encodings(self, tmp_path, data):
        file = tmp_path / "names.txt"
        file.write_bytes(data)
        with pytest.raises(VocabularyError, match=r"line \d: not UTF-8"):
            read(file)

    @pytest.mark.parametrize("data", [b"", b"# only this\n"])
    def test_no_names(self, tmp_path, data):
        file = tmp_path / "names.txt"
        file.write_bytes(data)
        with pytest.raises(VocabularyError, match="names.txt: no class names"):
            read(file)

    @pytest.mark.parametrize("name", [".", "missing.txt", "a\0b"])
    def test_unreadable(self, tmp_path, name):
        with pytest.raises(VocabularyError, match="cannot read"):
            read(tmp_path / name)


class TestPresets:
    def test_all_are_there(self):
        assert presets() == tuple(sorted(BENCHMARKS))

    @pytest.mark.parametrize("name", BENCHMARKS)
    def test_counts_and_ends(self, name):
        count, first, last = BENCHMARKS[name]
        found = preset(name)
        assert (len(found), found.names[0], found.names[-1]) == (count, first, last)

    @pytest.mark.parametrize("name", ["ade150", "ade847", "coco171", "pc459", "pc59", "voc20"])
    def test_positions_and_words_are_the_benchmark_s(self, name, shared_dir):
        text = (shared_dir / "data/vocabularies" / f"{name}.txt").read_text()
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        rows = [[word.strip() for word in line.split(",")] for line in lines]
        classes = preset(name).classes
        assert len(classes) == len(rows)
        everywhere = [word for row in rows for word in row]
        for ours, row in zip(classes, rows, strict=True):
            assert set(ours.phrases) <= set(row)
            # What was left out belongs to several classes.
            assert all(everywhere.count(word) > 1 for word in set(row) - set(ours.phrases))
            # A class that the benchmark names uniquely keeps that name.
            assert ours.name == row[0] or everywhere.count(row[0]) > 1

    @pytest.mark.parametrize("name", ["imagenet", "../presets/voc20", "voc20.txt", ""])
    def test_unknown(self, name):
        with pytest.raises(VocabularyError, match="unknown preset.*voc20"):
            preset(name)


class TestTemplates:
    def test_sets(self):
        counts = {name: len(templates(name)) for name in template_sets()}
        assert counts == {"imagenet80": 80, "single": 1, "vild": 14}
        assert templates("single") == ("a photo of a {}.",)

    def test_the_80_are_those_of_open_clip(self):
        from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

        assert templates("imagenet80") == tuple(t("{}") for t in OPENAI_IMAGENET_TEMPLATES)

    def test_a_file(self, tmp_path):
        file = tmp_path / "mine.txt"
        file.write_text("# mine\n\na drawing of {}  # nice\n{}\n", encoding="utf-8")
        assert templates(str(file)) == ("a drawing of {}", "{}")
        grown = Vocabulary(["sky", "car|auto"]).with_templates(templates(str(file)))
        assert grown.templates == ("a drawing of {}", "{}")
        assert grown.names == ("sky", "car")
        assert grown.with_templates(None) == Vocabulary(["sky", "car|auto"])

    @pytest.mark.parametrize(
        ("text", "message"),
        [("a photo\n", 'unlike "a photo"'), ("{} {}", "needs '{}' once"), ("#\n", "there is none")],
    )
    def test_wrong_lines(self, tmp_path, text, message):
        (tmp_path / "t.txt").write_text(text)
        with pytest.raises(VocabularyError, match=message):
            templates(str(tmp_path / "t.txt"))

    def test_neither_a_set_nor_a_file(self):
        with pytest.raises(VocabularyError, match="cannot read.*imagenet80, single, vild"):
            templates("imagenet81")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_files_as_windows_writes_them(encoding, tmp_path):
    content = "\ufeff" * (encoding == "utf-16-be") + "sky\r\nstra\u00dfe\r\n"
    (tmp_path / "names.txt").write_bytes(content.encode(encoding))
    assert vocabulary.read(tmp_path / "names.txt").names == ("sky", "stra\u00dfe")


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

    def test_messages_are_printable(self):
        with pytest.raises(VocabularyError) as caught:
            vocabulary.parse("\x1b[2J,\x1b[2J")
        assert str(caught.value).isprintable()


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
