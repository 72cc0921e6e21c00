"""`ovseg vocab check`, with the bundled model."""

import json

import pytest

from ovseg_cli.cli.main import ovseg


@pytest.fixture
def vocab(capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            ovseg.main(["vocab", "check", *arguments], prog_name="ovseg")
        return end.value.code, *capfd.readouterr()

    return run


def test_names_that_mini_finds_alike_and_one_mistyped(vocab, tmp_path):
    (tmp_path / "names.txt").write_text("car\nautomobile  # the same\ngrass\nbuidling\n")
    code, out, err = vocab("names.txt")
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in rows] == ["car", "automobile", "grass", "buidling"]
    assert rows[0][1].startswith("automobile 0.")
    assert "car: the model can hardly tell it from 'automobile'" in err
    assert "is 'building' meant?" in err
    assert "grass:" not in err


def test_json(vocab):
    code, out, _ = vocab("--classes", "car|auto, sky", "--json")
    assert code == 0
    first, second = map(json.loads, out.splitlines())
    assert first["name"] == "car" and first["nearest"][0][0] == "sky"
    assert second["warnings"] == []


@pytest.mark.parametrize("arguments", [[], ["names.txt", "--classes", "a,b"]])
def test_the_names_are_given_once(vocab, arguments):
    code, _, err = vocab(*arguments)
    assert code == 2
    assert "name the classes once" in err


def test_a_file_that_is_not_there(vocab):
    code, _, err = vocab("absent.txt")
    assert code == 2 and "absent.txt" in err
