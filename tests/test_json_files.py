"""JSON that may come from anywhere: no file that has no end, is too large or too deep."""

import os

import pytest

from ovseg_cli import json_files
from ovseg_cli.json_files import DEEPEST, parse_json, read_json

posix = pytest.mark.skipif(os.name != "posix", reason="no pipes and devices there")


@posix
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(ValueError, match="not a regular file"):
        read_json(tmp_path / "a.json")


@posix
def test_a_link_to_a_device_is_not_read(tmp_path):
    (tmp_path / "a.json").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="not a regular file"):
        read_json(tmp_path / "a.json")


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "MOST_BYTES", 1_000_000)
    file = tmp_path / "a.json"
    file.write_text(" " * 999_999 + "1")
    assert read_json(file) == 1
    os.truncate(file, 1_000_001)
    with pytest.raises(ValueError, match="larger than 1 MB"):
        read_json(file)


def test_more_lists_than_memory_is_for(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("[[], {}]")
    monkeypatch.setattr(json_files, "MOST_PARTS", 3)
    assert json_files.read_json(tmp_path / "a.json") == [[], {}]
    monkeypatch.setattr(json_files, "MOST_PARTS", 2)
    with pytest.raises(ValueError, match="more than 2 lists and objects"):
        json_files.read_json(tmp_path / "a.json")


@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"b":[],"a":', "}"), ("[0,[],", ",0]")])
def test_values_within_each_other(start, end):
    for depth in (1, DEEPEST - 1):
        parse_json(start * depth + "0" + end * depth)
    for depth in (DEEPEST + 1, 600, 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(start * depth + "0" + end * depth)
