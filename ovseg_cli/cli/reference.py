"""COMMANDS.md, made of what --help says: `python -m ovseg_cli.cli.reference` writes it anew."""

from collections.abc import Iterator
from pathlib import Path

import click

from ovseg_cli.cli.main import ovseg

TARGET = Path(__file__).with_name("COMMANDS.md")
_WIDTH = 98
_HEAD = """# Commands

What `--help` says of every command. Made by `python -m ovseg_cli.cli.reference`; a test holds it
to the program.
"""


def reference() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *_sections(ovseg, "ovseg", None)])


def _sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    settings = dict(command.context_settings, terminal_width=_WIDTH, max_content_width=_WIDTH)
    context = click.Context(command, parent, name, **settings)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for child_name in command.list_commands(context):
            child = command.get_command(context, child_name)
            if child is not None:
                yield from _sections(child, child_name, context)


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
