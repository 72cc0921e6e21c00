import logging
import sys

import pytest

from ovseg_cli.cli import console


@pytest.fixture(autouse=True)
def set_up():
    console.set_up()
    yield
    logging.getLogger("ovseg_cli").handlers = []
    logging.getLogger("ovseg_cli").propagate = True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(console, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")


def test_messages_go_to_standard_error(capsys):
    console.note("one")
    console.warning("two")
    console.error("three\nwith a remedy")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ("one\novseg: warning: two\novseg: error: three\nwith a remedy\n")


def test_quiet_leaves_warnings_and_errors(capsys):
    console.set_quiet(True)
    console.note("one")
    console.warning("two")
    logging.getLogger("ovseg_cli.anything").info("three")
    assert capsys.readouterr().err == "ovseg: warning: two\n"


def test_the_librarys_log_comes_through(capsys):
    logger = logging.getLogger("ovseg_cli.anything")
    logger.debug("hidden")
    logger.info("told")
    logger.warning("odd")
    assert capsys.readouterr().err == "told\novseg: warning: odd\n"
    console.set_debug(True)
    logger.debug("shown")
    assert capsys.readouterr().err == "shown\n"


def test_data_cannot_steer_the_terminal(capsys):
    console.data("a\x1b[2Jb\tc", "d\ne")
    console.json_line({"path": "\x1b[2J\n\udce9"})
    out = capsys.readouterr().out
    assert out == 'a\\x1b[2Jb\\tc\td\\ne\n{"path": "\\u001b[2J\\n\\udce9"}\n'


def test_nothing_is_drawn_without_a_terminal(capsys):
    console.table("title", ["a"], [["b"]])
    with console.progress(3) as progress:
        progress.advance()
    assert capsys.readouterr().err == ""


def test_a_dumb_terminal_is_none(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert console.is_terminal()
    monkeypatch.setenv("TERM", "dumb")
    assert not console.is_terminal()


def test_markup_and_escapes_in_a_table_are_text(capsys, terminal):
    console.table("title", ["class", "share"], [["[red]sky[/red]\x1b[2J", "1 %"]])
    drawn = capsys.readouterr().err
    assert "[red]sky[/red]\\x1b[2J" in drawn
    assert "\x1b[2J" not in drawn


@pytest.mark.parametrize("width", [34, 40, 60])
def test_a_narrow_terminal_folds_names_and_titles_but_no_number(
    capsys, terminal, monkeypatch, width
):
    monkeypatch.setenv("COLUMNS", str(width))
    name = "a long name of a class that is nowhere"
    rows = [(name, "100.0%", "1,234,567"), ("sky", "<0.1%", "12")]
    console.table("title", ["class", "true share", "photos"], rows)
    drawn = capsys.readouterr().err
    assert max(map(len, drawn.splitlines())) <= width
    assert all(number in drawn for row in rows for number in row[1:])
    letters = "".join(line.split("│")[1] for line in drawn.splitlines() if "│" in line)
    assert letters.replace(" ", "") == f"{name}sky".replace(" ", "")


def test_a_terminal_with_room_folds_nothing(capsys, terminal, monkeypatch):
    console.table("title", ["class", "boundary IoU"], [("sky", "0.5")])
    assert "boundary IoU" in capsys.readouterr().err


def test_no_color(capsys, terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    console.table("title", ["class"], [["sky"]])
    drawn = capsys.readouterr().err
    assert "sky" in drawn and "\x1b[3" not in drawn


def test_messages_beside_a_bar(capsys, terminal):
    with console.progress(2) as progress:
        progress.advance()
        console.error("in between")
        progress.advance()
    err = capsys.readouterr().err
    assert "ovseg: error: in between\n" in err
    assert "2/2" in err
