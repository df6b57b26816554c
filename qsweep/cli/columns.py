"""Text in columns, for terminals and for Markdown."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

WIDE = 1_000_000
"""Width of output that is not shown on a terminal, so that programs always read the same columns."""
GAP = "    "
"""Between the columns of a list of values."""
LEAST_TEXT = 24
"""Width of a column of text in the narrowest terminal."""
LARGE = 1e5
"""From here on a metric is written with an exponent, so that one large loss does not widen the column of all rows."""


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as columns of text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def fitted(rows: Sequence[Sequence[str]], width: int, lead: int = 1) -> str:
    """Rows of cells as columns of text; if these are wider than `width`, as tables below each other.

    No cell is cut. Each table begins with the first `lead` columns, which identify a row, and has as many of the
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
    """The width of a line with these columns."""
    return sum(max(map(len, column)) + 2 for column in columns) - 2


def wrapped(rows: Sequence[tuple[str, str]], width: int) -> str:
    """Names and texts in two columns; a long text is wrapped within its column, and no word is cut."""
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
    """A list in as many columns as fit, read down each column, but no columns shorter than `least` items."""
    widest = max(map(len, items))
    fitting = max((width + len(GAP)) // (widest + len(GAP)), 1)
    height = math.ceil(len(items) / min(fitting, math.ceil(len(items) / least)))
    rows = (items[i::height] for i in range(height))
    return "\n".join(GAP.join(item.ljust(widest) for item in row).rstrip() for row in rows)


def digits(value: float, sign: str = "") -> str:
    """A metric to four digits, with an exponent if it is large; empty for NaN."""
    if value != value:
        return ""
    return format(value, f"{sign}.4f" if abs(value) < LARGE else f"{sign}.3e")
