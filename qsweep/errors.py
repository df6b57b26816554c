"""The errors of qsweep, and their common wording.

    Error                   root of all errors that qsweep raises on purpose (`qsweep.Error`)
    └── UserError           the user can fix it: exit code 2, no traceback
        ├── SpecError       all mistakes of one spec
        ├── ArgumentError   a wrong argument of a Python function
        └── DataError       a data set is not available

Any other exception that reaches the command line is an internal error: exit code 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qsweep.hints import explained, same, simplified

MAX_SHOWN = 20
"""How many mistakes a message lists, since one generator can make a thousand wrong values."""

MAX_TEXT = 60

MOST_NAMES = 10
"""How many names a message lists; of longer lists it shows the first ones, or where to find all."""

LISTED = {
    "parameter": "`qsweep schema` lists all",
    "key": "`qsweep schema` lists all",
    "metric": "`qsweep schema` lists all",
    "place": "`qsweep run -n` lists all once this is corrected or left out",
    "column": "the first line of trials.csv has all",
    "sweep": "`qsweep status` lists all",
}
"""Where to find all names of a kind."""

OPEN_KINDS = ("format", "model")
"""Kinds of names that are not a closed list, so that a suggestion need not be among the known ones."""


class Error(Exception):
    """A mistake of the user, or data that are not available: the root of the errors that qsweep raises on purpose.

    The message says what was found, what was expected and what to do next, as the command prints it.
    """


class UserError(Error):
    """An error that the user can fix; the message says what was found, what was expected and what to do next."""


class ArgumentError(UserError, TypeError, ValueError):
    """An argument that a Python function does not accept; also what Python's own functions raise for one."""


class DataError(UserError):
    """A data set is missing, damaged or can't be downloaded; the message lists what was tried and what to do."""


@dataclass(frozen=True)
class Problem:
    """One mistake in one file.

    `path` is the place inside the file (`trial.quantize.weight`), `line` and `column` count from 1; 0 means that the
    mistake is not in a file (for example, it is on the command line).
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
    """All mistakes of one spec without duplicates, sorted by file and line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.line, p.column)))
        more = len(self.problems) - MAX_SHOWN
        lines = [str(problem) for problem in self.problems[:MAX_SHOWN]]
        super().__init__("\n".join([*lines, f"… and {more:,} more"] if more > 0 else lines))


def did_you_mean(name: str, allowed: Iterable[str], what: str = "") -> str:
    """`; did you mean 'x'?`, or the explanation of a name that means something else; "" if no name is near.

    Args:
        what: the kind of name, for other libraries' words (qsweep.hints).
    """
    names = list(allowed)
    near = _alike(name, names)
    if not near and (text := explained(what, name)):
        return f"; {text}"
    near = near or same(what, name) or nearest(name, names)
    is_there = near in names or what in OPEN_KINDS
    return f"; did you mean '{near}'?" if near and is_there else ""


def _alike(name: str, allowed: Sequence[str]) -> str:
    """The only name that is equal without case, hyphens, underscores and spaces; "" if there is none or several."""
    alike = [known for known in allowed if simplified(known) == simplified(name)]
    return alike[0] if len(alike) == 1 else ""


def nearest(name: str, allowed: Sequence[str]) -> str:
    """The nearest name, at most three typing errors away; "" if there is none.

    A name with other digits means something else (`e4m2` is not e4m3), but digits may be missing.
    """
    text = name.casefold()
    near = [known for known in allowed if abs(len(known) - len(text)) <= _most_steps(text) and _has_digits(known, text)]
    distances = {known: distance(text, known.casefold()) for known in near}
    best = min(near, key=lambda known: distances[known], default="")
    return best if best and distances[best] <= _most_steps(text) else ""


def _most_steps(name: str) -> int:
    """The maximum number of typing errors: 0 in one letter, 1 in up to 5, never more than 3."""
    letters = sum(map(str.isalnum, name))
    return min(letters // 3, 3) if letters > 5 else int(letters > 1)


def _has_digits(known: str, name: str) -> bool:
    """Whether all digits of `name` occur in `known`, in this order."""
    rest = iter(known)
    return all(digit in rest for digit in name if digit.isdigit())


def distance(a: str, b: str) -> int:
    """The number of letters to insert, delete, replace or swap with a neighbour (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i in range(1, len(a) + 1):
        older, before, row = before, row, [i]
        for j in range(1, len(b) + 1):
            steps = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 2 : i] == b[j - 1] + b[j - 2]:
                steps = min(steps, older[j - 2] + 1)
            row.append(steps)
    return row[-1]


def unknown(what: str, name: object, allowed: Sequence[str]) -> str:
    """The message for a name that does not exist: its kind, the nearest name, and all names if they are few."""
    text = cut(str(name))
    near = did_you_mean(text, allowed, what)
    others = few(allowed, LISTED.get(what, ""), is_short=bool(near))
    return f"unknown {what} '{text}'{near}" + (f" ({others})" if others else "")


def few(names: Sequence[str], where: str = "", is_short: bool = False) -> str:
    """`one of: a, b, c`; for a long list the first names, how many more there are, and where to find all.

    Args:
        is_short: for a long list, return only where to find all.
    """
    if len(names) <= MOST_NAMES:
        return f"one of: {', '.join(names)}"
    if is_short:
        return where
    more = f"one of: {', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"
    return f"{more}; {where}" if where else more


def cut(text: str) -> str:
    """A text shortened for a message."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
