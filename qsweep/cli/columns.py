"""Text in columns, for terminals and for Markdown."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

WIDE = 1_000_000
"""Width of what is not shown on a terminal: a program that reads it gets the same columns everywhere."""
GAP = "    "
"""Between the columns of a list."""
LEAST_TEXT = 24
"""Of a column of text, however narrow the terminal is."""
LARGE = 1e5
"""From which on a metric is written with an exponent, so that one loss does not widen its column for all rows."""


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as columns of text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def fitted(rows: Sequence[Sequence[str]], width: int, lead: int = 1) -> str:
    """Rows of cells as columns of text; where these are wider than `width`, as tables below each other.

    No cell is cut. Each table begins with the first `lead` columns, which say what a row is, and has as many of the
    others as fit.
    """
    columns = list(zip(*rows, strict=True))
    parts: list[list[Sequence[str]]] = [[]]
    for column in columns[lead:]:
        if parts[-1] and width_of([*columns[:lead], *parts[-1], column]) > width:
            parts.append([])
        parts[-1].append(column)
    return "\n\n".join(aligned(list(zip(*columns[:lead], *part, strict=True))) for part in parts)


def width_of(columns: Sequence[Sequence[str]]) -> int:
    """Of a line of columns of text."""
    return sum(max(map(len, column)) + 2 for column in columns) - 2


def wrapped(rows: Sequence[tuple[str, str]], width: int) -> str:
    """Names and texts in two columns; a text goes on below itself where it is too long, and no word is cut."""
    first = max((len(name) for name, _ in rows), default=0) + 2
    room = max(width - first, LEAST_TEXT)
    lines = []
    for name, text in rows:
        own = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [f"{name if i == 0 else '':{first}}{part}".rstrip() for i, part in enumerate(own)]
    return "\n".join(lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the header first, as a Markdown table."""
    head, *body = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in body)]
    return "\n".join(lines)


def listed(items: Sequence[str], width: int, least: int = 16) -> str:
    """A list that runs down its columns: as many as fit, but none shorter than `least` where one would hold it all."""
    widest = max(map(len, items))
    fitting = max((width + len(GAP)) // (widest + len(GAP)), 1)
    height = math.ceil(len(items) / min(fitting, math.ceil(len(items) / least)))
    rows = (items[i::height] for i in range(height))
    return "\n".join(GAP.join(item.ljust(widest) for item in row).rstrip() for row in rows)


def digits(value: float, sign: str = "") -> str:
    """A metric to four digits; with an exponent where it is large. Empty for NaN."""
    if value != value:
        return ""
    return format(value, f"{sign}.4f" if abs(value) < LARGE else f"{sign}.3e")
