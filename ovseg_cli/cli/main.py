"""The `ovseg` program: finds the command, and turns errors into messages and exit codes."""

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from ovseg_cli import __version__
from ovseg_cli.cli import console
from ovseg_cli.errors import OvsegError, UsageError
from ovseg_cli.printable import printable

# Name -> module with the click command `command`. Imported for --help as well: such a module
# imports what is heavy only within its functions.
COMMANDS = {
    "segment": "ovseg_cli.cli.segment",
    "merge": "ovseg_cli.cli.merge",
    "video": "ovseg_cli.cli.video",
    "eval": "ovseg_cli.cli.eval",
    "report": "ovseg_cli.cli.report",
    "export": "ovseg_cli.cli.export",
    "export-model": "ovseg_cli.cli.export_model",
    "train": "ovseg_cli.cli.train",
    "bench": "ovseg_cli.cli.bench",
    "models": "ovseg_cli.cli.models",
    "vocab": "ovseg_cli.cli.vocab",
}

# What click raises for a group without a command; before 8.2 it printed the help by itself.
_NO_ARGUMENTS = getattr(click.exceptions, "NoArgsIsHelpError", ())
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Program(click.Group):
    """Loads commands when they are asked for and leaves with the exit code they return."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word not in COMMANDS and not word.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"there is no command {printable(word)}{_meant(word)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Click itself would leave with 1, which is said of inputs that failed."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            console.close_output()
            return console.BROKEN_PIPE

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Run, say what went wrong, exit: the one place where errors become exit codes."""
        args = sys.argv[1:] if args is None else list(args)
        extra.update(standalone_mode=False, obj=args)
        console.set_up()
        try:
            code = super().main(args, **extra)
        except click.Abort:
            console.error("interrupted")
            code = INTERRUPTED
        except click.ClickException as error:
            if isinstance(error, _NO_ARGUMENTS):
                console.note(error.format_message())  # the help
            else:
                console.error(error.format_message())
                context = getattr(error, "ctx", None)
                if context is not None:
                    console.note(f"see {context.command_path} --help")
            code = error.exit_code
        except OvsegError as error:
            console.trace(error)
            console.error(str(error))
            code = error.exit_code
        except Exception as error:
            console.trace(error)
            if isinstance(error, OSError) and _is_of_click(error):
                console.close_output()
                console.error(f"cannot write to standard output: {error.strerror}")
            elif isinstance(error, OSError) and (reason := _unusable_place(error)):
                console.error(reason)
                sys.exit(UsageError.exit_code)
            else:
                console.error(
                    f"this is a bug in ovseg {__version__}: {type(error).__name__}: {error}\n"
                    "run again with --debug for the traceback"
                )
            code = 1
        sys.exit(code if isinstance(code, int) else 0)


def _meant(word: str) -> str:
    """What somebody may have meant who typed a word where a command belongs."""
    if os.path.exists(word):
        shown = printable(word)
        return f": to label photos, ovseg segment {shown} --classes NAMES; a clip, ovseg video"
    alike = get_close_matches(word, COMMANDS, n=1)
    return f": did you mean {alike[0]}?" if alike else f"; there are: {', '.join(COMMANDS)}"


def _unusable_place(error: OSError) -> str | None:
    """What is wrong with a path, or with the folder in which paths begin; None = it is not that."""
    if error.errno == errno.ENAMETOOLONG:
        return f"{printable(str(error.filename or 'a path'))}: {error.strerror}"
    try:
        os.getcwd()
    except OSError:
        return "the current folder has been removed: change into another, and try again"
    return None


def _is_of_click(error: Exception) -> bool:
    """Whether it comes of click's own printing, of a help for instance."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return Path(last.filename).parent == Path(click.__file__).parent


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ovseg")
def ovseg() -> None:
    """Label every pixel of your photos with words of your own."""


def main() -> NoReturn:
    """Entry point of the `ovseg` command."""
    ovseg.main(prog_name="ovseg")
