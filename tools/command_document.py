"""The generated part of docs/cli.md, the help of every command; `make docs` inserts it with cog."""

from __future__ import annotations

from collections.abc import Iterator

import click

from qsweep.cli.main import cli

COLUMNS = 100
"""The width of help in a wide terminal."""


def pages() -> str:
    """The help of every command below its name, in the order of `qsweep --help`."""
    context = click.Context(cli, info_name="qsweep", terminal_width=COLUMNS, **cli.context_settings)
    return "\n\n".join(_pages(cli, context))


def _pages(command: click.Command, context: click.Context) -> Iterator[str]:
    """The page of a command, then those of its subcommands."""
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            own = command.commands[name]
            yield from _pages(own, click.Context(own, parent=context, info_name=name))
