"""The errors of qsweep, and the wording they share.

    QsweepError             root of all that qsweep raises on purpose
    └── UserError           the person at the keyboard can mend it: exit code 2, no traceback
        ├── SpecError       every mistake of one spec file at once
        └── DataError       a data set is not to be had

Anything else that reaches the command line is a bug of ours: exit code 3.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_SHOWN = 20
"""Mistakes that a message lists; a generator of a thousand wrong values need not fill the screen."""

MAX_TEXT = 60


class QsweepError(Exception):
    """Root of the errors that qsweep raises on purpose."""


class UserError(QsweepError):
    """A mistake that the user can mend; the message says what was found, what was expected and what to do next."""


class DataError(UserError):
    """A data set is missing, damaged or can't be fetched; the message lists what was tried and what to do."""


@dataclass(frozen=True)
class Problem:
    """One mistake in one file.

    `path` is the place inside the file (`trial.quantize.weight`), `line` and `column` count from 1; 0 means that the
    mistake has no place in the text (it came from the command line, say).
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class SpecError(UserError):
    """All mistakes of one spec, each once: by file, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.line, p.column)))
        more = len(self.problems) - MAX_SHOWN
        lines = [str(problem) for problem in self.problems[:MAX_SHOWN]]
        super().__init__("\n".join([*lines, f"… and {more:,} more"] if more > 0 else lines))


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a name of `allowed` is near to `name`, else nothing."""
    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def unknown(what: str, name: object, allowed: Sequence[str]) -> str:
    """The one wording for a name that does not exist: what it is, the nearest right name, and all of them."""
    text = cut(str(name))
    return f"unknown {what} '{text}'{did_you_mean(text, allowed)} (one of: {', '.join(allowed)})"


def cut(text: str) -> str:
    """A text for a message: its beginning where it is long."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
