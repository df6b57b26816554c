"""Text for people: nothing in it that a terminal obeys, and no harm done where it can't be written."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import click

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of what is not seen: control characters, marks of direction, halves of pairs, line ends."""
KEPT = "\n\t\u200c\u200d"
"""Of these: lines, columns, and the joiners that some scripts need."""


def printable(text: str) -> str:
    """A text with each hidden character written out, as in `\\x1b`."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in HIDDEN and c not in KEPT else c for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


class _Printable:
    """A text stream that writes hidden characters out."""

    def __init__(self, stream: TextIO) -> None:
        self.own = stream

    def write(self, text: str) -> int:
        self.own.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


def prepare() -> None:
    """Make the standard streams sound: there, able to write any character, and stdout without hidden ones."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened, a database say, would take its place
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the end
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)
    out: Any = _Printable(sys.stdout)
    sys.stdout = out


def say(text: str, style: str | None = None) -> None:
    """A line on stderr."""
    with unbroken():
        colour = style if sys.stderr.isatty() and "NO_COLOR" not in os.environ else None
        click.secho(printable(text), err=True, fg=colour, reset=colour is not None)  # a notebook shows a needless reset


@contextmanager
def unbroken() -> Iterator[None]:
    """Words must not end the work that they are about: where stderr is full or has no reader, they are lost."""
    try:
        yield
    except OSError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the end


def emit(text: str) -> None:
    """A text for programs on stdout: as it is, but at a terminal."""
    stream: Any = sys.stdout
    is_for_people = stream.isatty() or not isinstance(stream, _Printable)
    click.echo(text, file=stream if is_for_people else stream.own)


def finish(code: int) -> int:
    """Write what stdout still holds; the exit code, which is 2 where that fails."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `qsweep table | head`
        _to_nowhere()
    except OSError as error:
        _to_nowhere()
        say(f"can't write to stdout: {error.strerror}", style="red")
        return code or 2
    return code


def _to_nowhere() -> None:
    """What could not be written must not be tried again when the interpreter ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
