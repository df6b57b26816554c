"""Text for people: without control characters, and harmless where it can't be written."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import click

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of invisible characters: control, format, surrogates, line and paragraph separators."""
KEPT = "\n\t\u200c\u200d"
"""Of these, the ones that are printed: newline, tab, and the joiners that some scripts need."""


def printable(text: str) -> str:
    """A text with its hidden characters escaped, as in `\\x1b`."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in HIDDEN and c not in KEPT else c for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


class _Printable:
    """A text stream that escapes hidden characters."""

    def __init__(self, stream: TextIO) -> None:
        self.own = stream

    def write(self, text: str) -> int:
        self.own.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


def prepare() -> None:
    """Make sure that the standard streams exist and can write any character, and that stdout escapes hidden ones."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file to be opened, perhaps a database, would get this descriptor
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the end
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)
    out: Any = _Printable(sys.stdout)
    sys.stdout = out


def say(text: str, style: str | None = None) -> None:
    """Print a line to stderr."""
    with ignore_broken_stderr():
        colour = style if sys.stderr.isatty() and "NO_COLOR" not in os.environ else None
        click.secho(printable(text), err=True, fg=colour, reset=colour is not None)  # notebooks show a needless reset


@contextmanager
def ignore_broken_stderr() -> Iterator[None]:
    """Discard messages if stderr is full or has no reader: a message must not end the work that it reports."""
    try:
        yield
    except OSError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the end


def emit(text: str) -> None:
    """Write a text for programs to stdout, escaping nothing unless stdout is a terminal."""
    stream: Any = sys.stdout
    is_for_people = stream.isatty() or not isinstance(stream, _Printable)
    click.echo(text, file=stream if is_for_people else stream.own)


def finish(code: int) -> int:
    """Flush stdout and return the exit code, which is 2 if that fails."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `qsweep table | head`
        _discard_stdout()
    except OSError as error:
        _discard_stdout()
        say(f"can't write to stdout: {error.strerror}", style="red")
        return code or 2
    return code


def _discard_stdout() -> None:
    """Keep the interpreter from trying again, at its end, to write what could not be written."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
