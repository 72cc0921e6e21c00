import io
import json
import sys

import pytest

from ovseg_cli.errors import VocabularyError
from ovseg_cli.vocabulary import Vocabulary
from ovseg_cli.vocabulary_files import preset, presets, read, template_sets, templates

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

    @pytest.mark.parametrize("text", ["vehicle: car, bus\n", "car, bus"])
    def test_a_comma_is_an_error_in_yaml_too(self, tmp_path, text):
        (tmp_path / "names.yaml").write_text(text)
        with pytest.raises(VocabularyError, match=r'yaml: "car, bus" holds a comma.*\[car, bus\]'):
            read(tmp_path / "names.yaml")

    def test_a_name_in_a_yaml_list_may_hold_a_comma(self, tmp_path):
        (tmp_path / "names.yaml").write_text('things: ["washer, dryer", car]\n')
        assert read(tmp_path / "names.yaml").names == ("washer, dryer", "car")

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("names.txt", "sky\u2028road\n"),
            ("names.txt", "car|sky\x0broad\n"),
            ("names.yaml", "vehicle: |\n  sky\n  road\n"),
            ("names.yaml", '"sky\\nroad": [car]\n'),
        ],
    )
    def test_a_line_break_within_a_name(self, tmp_path, name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(VocabularyError, match=r"(line|position) 1 holds a line break"):
            read(tmp_path / name)

    def test_a_list_of_json(self, tmp_path):
        file = tmp_path / "names.json"
        file.write_text('[\n\t"sky",\n\t"car|auto",\n\t"caf\\u00e9"\n]\n')
        assert read(file) == Vocabulary(["sky", "car|auto", "caf\u00e9"])
        file.write_text('["sky",')
        with pytest.raises(VocabularyError, match=r"names\.json: not valid JSON"):
            read(file)

    def test_what_json_escapes(self, tmp_path):
        """Half a pair each, as Python's own writer has it by default."""
        file = tmp_path / "names.json"
        file.write_text(json.dumps({"\U0001f600 face": ["\U0001f600 head", "a\tb"]}))
        assert read(file).names == ("\U0001f600 head", "a\tb")
        assert read(file).classes[0].parents == ("\U0001f600 face",)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('{"a": ["x"], "a": ["y"]}', "json: 'a' stands there again"),
            ("[" * 200 + '"x"' + "]" * 200, "json: it is nested too deeply"),
            ("[" * 200_000, "json: it "),
            ("[" + "9" * 5000 + "]", "json: Exceeds the limit"),
            ("[3]", '"3" is no text'),
            ("[NaN]", "is no text"),
            ('["\\ud83d"]', "is not text in UTF-8"),
            ("[sky, road]", "not valid JSON"),
            ("", "no class names given"),
        ],
    )
    def test_json_that_is_no_list_of_names(self, tmp_path, text, reason):
        (tmp_path / "names.json").write_text(text)
        with pytest.raises(VocabularyError, match=reason):
            read(tmp_path / "names.json")

    @pytest.mark.parametrize("name", ["names.csv", "names.TSV"])
    def test_a_table_is_no_list_of_names(self, tmp_path, name):
        (tmp_path / name).write_text("class\nsky\n")
        with pytest.raises(VocabularyError, match=r"names\..*one name a line into a \.txt file"):
            read(tmp_path / name)

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

    def test_standard_input(self, monkeypatch):
        given = io.BytesIO("\ufeffsky # blue\nstraße|road\n".encode())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(given, "ascii"))
        assert read("-").names == ("sky", "straße")
        with pytest.raises(VocabularyError, match="^standard input: no class names"):
            read("-")  # at its end
        monkeypatch.setattr(sys, "stdin", None)
        with pytest.raises(VocabularyError, match="standard input: it is closed"):
            read("-")

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
    assert read(tmp_path / "names.txt").names == ("sky", "stra\u00dfe")
