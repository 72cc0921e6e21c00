import subprocess
import sys
from pathlib import Path

import pytest

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


def test_escapes_in_messages_do_not_reach_the_terminal(program):
    ended = program("segment", "\x1b[31mred\x07\u202e", "--classes", "a")
    assert ended.code == 2
    assert not {"\x1b", "\x07", "\u202e"} & set(ended.err)
    assert r"\x1b[31mred\x07\u202e" in ended.err
