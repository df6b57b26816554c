"""The generated parts of docs/formats.md; `make docs` inserts them with cog."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qsweep.cli.columns import markdown
from qsweep.cli.format_pages import (
    FAMILY_COLUMNS,
    LEGEND,
    NO_DEFAULT,
    NONE,
    PARAMETER_COLUMNS,
    fact_rows,
    family_rows,
    formula,
    parameter_rows,
)
from qsweep.formats import FAMILIES
from qsweep.formats.declared import ROUNDING_RULES


def facts() -> str:
    """The table of `qsweep formats`."""
    return "\n\n".join([markdown(fact_rows()), "\n".join(LEGEND)])


def rounding() -> str:
    """The rule of each rounding mode."""
    rows = [[_code(mode), rule] for mode, rule in ROUNDING_RULES.items()]
    return markdown([["mode", "which of a value's two neighbours it returns"], *rows])


def families() -> str:
    """All families with their formulas and parameters."""
    rows = [[f"[{name}](#{name})", _code(example), _literal(what)] for name, example, what in family_rows()]
    return "\n\n".join([markdown([FAMILY_COLUMNS, *rows]), *map(_family, FAMILIES)])


def _family(name: str) -> str:
    rows = [[_code(p), _code(default), _literal(words)] for p, default, words in parameter_rows(name)]
    prose = "\n".join(_prose(formula(name)))
    table = [markdown([PARAMETER_COLUMNS, *rows])] if rows else []
    return "\n\n".join([f"### {name}", prose, *table])


def _code(text: str) -> str:
    return text if text in (NO_DEFAULT, NONE) else f"`{text}`"


def _prose(text: str) -> Iterator[str]:
    """The lines of a docstring as Markdown; indented code stays as it is."""
    for line in text.splitlines():
        yield line if line.startswith("    ") and not line.lstrip().startswith("`") else _literal(line)


def _literal(text: str) -> str:
    """A text with everything escaped that means something to Markdown, except `code`."""
    parts = text.split("`")
    return "`".join(part if i % 2 else re.sub(r"([*<])", r"\\\1", part) for i, part in enumerate(parts))
