"""The generated parts of docs/formats.md, which cog puts there: `make docs`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qsweep.cli.columns import markdown
from qsweep.cli.format_pages import (
    FAMILY_COLUMNS,
    LEGEND,
    NEEDED,
    NONE,
    PARAMETER_COLUMNS,
    fact_rows,
    family_rows,
    law,
    parameter_rows,
)
from qsweep.formats import FAMILIES
from qsweep.formats.declared import ROUNDING_LAWS


def facts() -> str:
    """The table of `qsweep formats`."""
    return "\n\n".join([markdown(fact_rows()), "\n".join(LEGEND)])


def rounding() -> str:
    """The rule of each rounding mode."""
    rows = [[_code(mode), told] for mode, told in ROUNDING_LAWS.items()]
    return markdown([["mode", "which of the two neighbours of a value it takes"], *rows])


def families() -> str:
    """All families with their formulas and parameters."""
    rows = [[f"[{name}](#{name})", _code(example), _literal(what)] for name, example, what in family_rows()]
    return "\n\n".join([markdown([FAMILY_COLUMNS, *rows]), *map(_family, FAMILIES)])


def _family(name: str) -> str:
    rows = [[_code(p), _code(default), _literal(words)] for p, default, words in parameter_rows(name)]
    prose = "\n".join(_prose(law(name)))
    table = [markdown([PARAMETER_COLUMNS, *rows])] if rows else []
    return "\n\n".join([f"### {name}", prose, *table])


def _code(text: str) -> str:
    return text if text in (NEEDED, NONE) else f"`{text}`"


def _prose(text: str) -> Iterator[str]:
    """The lines of a docstring as Markdown; what is indented as code stays as it is."""
    for line in text.splitlines():
        yield line if line.startswith("    ") and not line.lstrip().startswith("`") else _literal(line)


def _literal(text: str) -> str:
    """A text in which nothing but `code` means something to Markdown."""
    parts = text.split("`")
    return "`".join(part if i % 2 else re.sub(r"([*<])", r"\\\1", part) for i, part in enumerate(parts))
