import subprocess
import sys
from pathlib import Path

import pytest
from mock_segmenter import make_photos

from ovseg_cli import __version__
from ovseg_cli.cli import main as program_module
from ovseg_cli.errors import CheckpointError, UsageError

ROOT = Path(__file__).parents[2]


def python_m(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ovseg_cli", *arguments], capture_output=True, text=True, cwd=ROOT
    )


def test_python_m_is_the_same_program():
    ran = python_m("--version")
    assert ran.returncode == 0
    assert ran.stdout.split() == ["ovseg,", "version", __version__]


def test_help_names_every_command(program):
    ended = program("--help")
    assert ended.code == 0
    assert all(f"  {name} " in ended.out for name in program_module.COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["segment"],
        ["segment", "x", "--nonsense"],
        ["segment", "x", "--classes", "a", "--device", "toaster"],
        ["segment", "x", "--classes", "a", "--threshold", "2"],
        ["segment", "x", "--classes", "a", "--batch-size", "0"],
        ["segment", "x", "--classes", "a", "--workers", "0"],
        ["segment", "x", "--classes", "a", "--shard", "3/2"],
    ],
)
def test_wrong_usage(program, arguments):
    ended = program(*arguments)
    assert ended.code == 2
    assert ended.err.startswith("ovseg: error: ")
    assert "--help" in ended.err
    assert not ended.out


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("segmnet", "did you mean segment?"),
        (".", "ovseg segment . --classes"),
        ("x", "there are: "),
    ],
)
def test_what_is_no_command(program, word, meant):
    ended = program(word)
    assert ended.code == 2 and f"there is no command {word}" in ended.err and meant in ended.err


def command_that_raises(monkeypatch, error):
    import click

    @click.command()
    @program_module.click.option("--debug", is_flag=True, expose_value=False, callback=debug)
    def command():
        raise error

    module = type(sys)("raising")
    module.command = command
    monkeypatch.setitem(sys.modules, "raising", module)
    monkeypatch.setitem(program_module.COMMANDS, "raising", "raising")


def debug(context, parameter, value):
    program_module.console.set_debug(value)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UsageError("no such thing"), 2, "ovseg: error: no such thing\n"),
        (CheckpointError("broken\nfetch it anew"), 2, "ovseg: error: broken\nfetch it anew\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("division"), 1, "bug in ovseg"),
        (MemoryError(), 1, "bug in ovseg"),
    ],
)
def test_errors_become_messages_and_exit_codes(program, monkeypatch, error, code, message):
    command_that_raises(monkeypatch, error)
    ended = program("raising")
    assert ended.code == code
    assert message in ended.err


def test_debug_shows_the_traceback(program, monkeypatch):
    command_that_raises(monkeypatch, ZeroDivisionError("division"))
    ended = program("raising", "--debug")
    assert ended.code == 1
    assert "Traceback (most recent call last)" in ended.err and "raise error" in ended.err
    assert "--debug" in program("raising").err


@pytest.mark.parametrize("command", ["segment", "video", "train", "merge", "report", "export"])
@pytest.mark.parametrize(("place", "reason"), [("", "empty name"), (" ", "empty"), ("-", "files")])
def test_a_place_for_results_has_a_name(program, tmp_path, command, place, reason):
    ended = program(command, "x", "-o", place)
    assert ended.code == 2
    assert "-o: " in ended.err and reason in ended.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment", "photos", "--classes", "sky", "-o", "x" * 300],
        ["report", "x" * 300],
        ["export", "x" * 300, "--to", "coco"],
        ["merge", "x" * 300],
    ],
)
def test_a_name_that_no_file_can_have(program, tmp_path, arguments):
    make_photos(tmp_path / "photos", 1)
    ended = program(*arguments)
    assert ended.code == 2
    assert "name too long" in ended.err and "bug" not in ended.err


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use stays there")
def test_a_current_folder_that_is_gone(program, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    ended = program("segment", "photo.png", "--classes", "sky", "-o", "out")
    assert ended.code == 2 and "bug" not in ended.err


def test_escapes_in_messages_do_not_reach_the_terminal(program):
    ended = program("segment", "\x1b[31mred\x07\u202e", "--classes", "a")
    assert ended.code == 2
    assert not {"\x1b", "\x07", "\u202e"} & set(ended.err)
    assert r"\x1b[31mred\x07\u202e" in ended.err
