"""All that is shown to a person: messages, bars, tables. Knows rich and tqdm, nobody else does.

Everything but data goes to standard error. Bars and tables appear on a terminal only.
"""

import io
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

from ovseg_cli.errors import OutputError
from ovseg_cli.printable import printable

_NARROWEST_NAME = 6  # columns of a terminal; where even those are missing, all is folded
BROKEN_PIPE = 141  # exit code, 128 + SIGPIPE: the reader of standard output went away


class _State:
    """What the options of the running command ask for."""

    quiet = False
    debug = False
    bar: Any = None  # the tqdm bar that is on the screen


def set_up() -> None:
    """Begin anew, and let the library's log records come through here."""
    logger = logging.getLogger("ovseg_cli")
    logger.handlers = [_Handler()]
    logger.propagate = False
    set_quiet(False)
    set_debug(False)
    if sys.stderr is None:  # it was closed: what is said to nobody must not get among the data
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # till the end
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name must not fail in a small code page
        sys.stdout.reconfigure(errors="backslashreplace")


def set_quiet(quiet: bool) -> None:
    """Whether notes, bars and tables are left out."""
    _State.quiet = quiet


def set_debug(debug: bool) -> None:
    """Whether tracebacks, debug records and the warnings of other libraries are shown."""
    _State.debug = debug
    warnings.simplefilter("default" if debug else "ignore")
    logging.getLogger("ovseg_cli").setLevel(logging.DEBUG if debug else logging.INFO)


def is_terminal() -> bool:
    """Whether standard error is a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def error(message: str) -> None:
    """Say what went wrong; never silenced."""
    _say("ovseg: error: " + message)


def warning(message: str) -> None:
    """Say what is odd; never silenced."""
    _say("ovseg: warning: " + message)


def note(message: str) -> None:
    """Say what goes on, unless --quiet."""
    if not _State.quiet:
        _say(message)


def trace(problem: BaseException) -> None:
    """Show the traceback, where --debug asks for it."""
    if _State.debug:
        _say("".join(traceback.format_exception(problem)).rstrip())


def data(*cells: str) -> None:
    """Print a line of data, with tabs between, on standard output; names may not steer it.

    Raises BrokenPipeError where its reader went away, OutputError for all else.
    """
    _print("\t".join(map(printable, cells)))


def json_line(values: object) -> None:
    """Print one JSON object as a line on standard output, at once; raises as `data` does."""
    _print(json.dumps(values))


def close_output() -> None:
    """Send the rest of standard output nowhere, after its reader has gone away."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress(total: int, *, shown: bool = True, unit: str = "photo") -> Iterator["Progress"]:
    """A bar over so many inputs, or bytes ("B"), while the block runs; none without a terminal."""
    if _State.quiet or not shown or not is_terminal():
        yield Progress()
        return
    from tqdm import tqdm

    with tqdm(
        total=total or None,
        unit=unit,
        unit_scale=unit == "B",
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        _State.bar = bar
        try:
            yield Progress()
        finally:
            _State.bar = None


class Progress:
    """Moves the bar on the screen, if there is one."""

    def advance(self) -> None:
        """One more input is finished."""
        if _State.bar is not None:
            _State.bar.update()

    def move_to(self, done: int) -> None:
        """So many of them are finished; fewer than before where something began anew."""
        if _State.bar is not None:
            _State.bar.update(done - _State.bar.n)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Draw a table on a terminal, the first column of text and the others of numbers."""
    if _State.quiet or not is_terminal():
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    shown = [list(map(printable, row)) for row in rows]
    widths = _widths(list(zip(columns, *shown, strict=True)), console.width)
    drawn = Table(title=Text(title), title_justify="left")
    for number, (column, width) in enumerate(zip(columns, widths, strict=True)):
        justify: Literal["left", "right"] = "right" if number else "left"
        drawn.add_column(Text(column), justify=justify, overflow="fold", width=width)
    for row in shown:
        drawn.add_row(*map(Text, row))
    console.print(drawn)


def _widths(columns: Sequence[Sequence[str]], width: int) -> list[int | None]:
    """How wide each column is to be in so narrow a terminal; None: as wide as it becomes.

    Where room is short, names and titles are folded: a number in two lines is two others.
    """
    from rich.cells import cell_len

    least = [max(map(cell_len, " ".join(column).split()), default=1) for column in columns]
    most = [max(map(cell_len, column)) for column in columns]
    room = width - 3 * len(columns) - 1  # without lines and blanks between columns
    if sum(most) > room >= _NARROWEST_NAME + sum(least[1:]):
        return [None, *least[1:]]
    return [None] * len(columns)


def _print(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        raise
    except OSError as problem:
        close_output()  # else what is left in its buffer fails once more at the very end
        reason = problem.strerror or problem
        raise OutputError(f"cannot write to standard output: {reason}") from problem


def _say(message: str) -> None:
    lines = "\n".join(printable(line) for line in message.split("\n"))
    with suppress(OSError):  # where nobody reads standard error any more the work goes on
        if _State.bar is None:
            print(lines, file=sys.stderr, flush=True)
        else:
            _State.bar.write(lines, file=sys.stderr)


class _Handler(logging.Handler):
    """Shows the library's log records like our own messages."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            warning(record.getMessage())
        else:
            note(record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            trace(record.exc_info[1])
