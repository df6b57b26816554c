"""Text in columns, for terminals and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

GAP = "    "
"""Between the columns of a list."""


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as columns of text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


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
