"""Shared by all commands: hints for misspelled options and commands, and options that several commands take."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from qsweep.errors import cut, did_you_mean

# --- misspelled options and commands ----------------------------------------------------------------------------------


class Command(click.Command):
    """A command that suggests the nearest option for an unknown one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _hints_for_options(self, ctx):
            return super().parse_args(ctx, args)


class Commands(click.Group):
    """A group that lists its commands in the order of declaration, and suggests the nearest for an unknown one."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _hints_for_options(self, ctx):
            return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            message = f"unknown command '{cut(args[0])}'{did_you_mean(args[0], self.commands, 'command')}"
            raise click.UsageError(message, ctx) from None


@contextmanager
def _hints_for_options(command: click.Command, ctx: click.Context) -> Iterator[None]:
    try:
        yield
    except click.NoSuchOption as error:
        given = error.option_name
        options = [name for option in command.get_params(ctx) for name in option.opts if name.startswith("-")]
        near = did_you_mean(given, options, "option")
        if not near and "-S" in options:
            near = _as_parameter(given)
        raise click.UsageError(f"unknown option '{cut(given)}'{near}", ctx) from None


def _as_parameter(option: str) -> str:
    """The hint for `--lr 0.1`, which means a trial parameter."""
    from qsweep.trial.checks import parameter_named

    near = parameter_named(option.lstrip("-").replace("-", "_"))
    return f"; set a trial parameter with `-S {near}=VALUE`" if near else ""


# --- options ----------------------------------------------------------------------------------------------------------


class _Seconds(click.FloatRange):
    """A finite number of seconds above 0."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return found


SECONDS = _Seconds(min=0, min_open=True)


def jobs_option(command: Any) -> Any:
    return click.option(
        "-j", "--jobs", type=click.IntRange(1, 1024), help="Number of workers.  [default: one per core]"
    )(command)


def results_option(command: Any) -> Any:
    return click.option(
        "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Results folder."
    )(command)
