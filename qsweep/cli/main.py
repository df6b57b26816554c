"""The command line, a thin layer over the library. Output goes to stdout, progress and messages to stderr."""

from __future__ import annotations

import errno
import gc
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import click

from qsweep import __version__, files
from qsweep.cli import look, manage, run
from qsweep.cli.command import Commands
from qsweep.cli.terminal import finish, prepare, say
from qsweep.errors import UserError
from qsweep.trial.environment import fix_products

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
CRASH_FILE = "qsweep-crash.txt"

OBJECTS_BETWEEN_COLLECTIONS = 1_000_000
"""Trials and records are millions of long-lived objects; looking for garbage among them took a fifth of the time."""


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="qsweep")
def cli() -> None:
    """Sweep quantized training: a YAML grid in, a tidy table and figures out, the same bits every time.

    \b
      qsweep run quickstart        train, write a table and draw a figure
      qsweep run quickstart -n     what would be trained, and how long it takes
      qsweep table quickstart      the table in the terminal
    """


for command in (
    *(run.run, look.plot, look.table, look.status, look.why, look.formats, look.export, look.energy),
    run.reproduce,
    *(manage.data, manage.schema, manage.store),
):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line. Exit codes: 0 success, 1 failed trials or conflicts, 2 user error, 3 internal error."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    os.environ.pop("MPLBACKEND", None)  # matplotlib rejects a notebook's backend outside it; writing files needs none
    prepare()
    fix_products()
    sys.exit(finish(_exit_code()))


def _exit_code() -> int:
    """Run the requested command and return its exit code."""
    try:
        return int(cli(standalone_mode=False) or 0)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        say(_usage(error))
        return 2
    except (click.Abort, KeyboardInterrupt):
        say("interrupted; run again to continue")
        return 130
    except UserError as error:
        say(str(error), style="red")
        return 2
    except BrokenPipeError:  # `qsweep table | head`
        return 0
    except OSError as error:
        if error.errno not in UNWRITABLE:
            return crashed()
        say(f"can't write: {error.strerror}", style="red")
        return 2
    except Exception:
        return crashed()


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of the disk, or of whatever stdout is redirected to; not bugs."""


def _usage(error: click.ClickException) -> str:
    """Click's message for a wrong command line."""
    context = getattr(error, "ctx", None)
    usage = "" if context is None else f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n\n"
    return f"{usage}Error: {error.format_message()}"


def crashed() -> int:
    """Report an internal error: write the traceback to a file and print one line about it."""
    text = traceback.format_exc()
    try:
        files.write(Path(CRASH_FILE), text)
        where = f"the traceback is in {CRASH_FILE}: please report it"
    except UserError:
        where = text
    say(f"qsweep {__version__} has a bug: {text.strip().splitlines()[-1]}\n{where}", style="red")
    return 3
