"""The output of `why`: everything known about one trial."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from qsweep.cli.columns import WIDE, digits, fitted, wrapped
from qsweep.results import tables
from qsweep.results.explain import reasons
from qsweep.results.keys import records_like, view
from qsweep.results.records import FINAL, Record
from qsweep.trial.measures import NOT_ROUNDED, STORED_AS

INDENT = 2


def explanation(store_path: Path, prefix: str, width: int = WIDE) -> str:
    """Everything known about the trial whose key begins with `prefix`.

    Raises:
        UserError: no trial has such a key, or several do.
    """
    with closing(view(store_path, prefix)) as store:
        records = records_like(store, prefix)
        return "\n\n".join(_explain(record, store.provenance(record.run_id), width) for record in records)


def _explain(record: Record, origin: Mapping[str, Any], width: int) -> str:
    parts = [f"{record.key}\n{_verdict(record)}"]
    if found := reasons(record.view, _last(record), record.status == "diverged"):
        parts.append(
            "why" + _before_it_diverged(record) + "\n" + _shifted("\n".join(_paragraph(text, width) for text in found))
        )
    if lacking := record.result.get(NOT_ROUNDED):
        parts.append("not rounded\n" + _shifted("\n".join(_paragraph(text, width) for text in lacking)))
    parts.append("settings\n" + _indented(_flat(record.trial), width))
    if record.history:
        names = list(record.history)
        rows = [names, *([_number(v) for v in row] for row in zip(*record.history.values(), strict=True))]
        parts.append("epochs\n" + _shifted(fitted(rows, width - INDENT, lead=2)))
    if tensors := tables.tensors(record.view, record.result):
        names = [name for name in tables.TENSOR_COLUMNS if name in tensors[0]]
        rows = [names, *([_number(own[name]) for name in names] for own in tensors)]
        parts.append("tensors\n" + _shifted(fitted(rows, width - INDENT)))
    where = {
        "environment": record.environment,
        "seconds": f"{record.seconds:.2f}",
        **_plain(record.run),
        **_flat(origin),
    }
    parts.append("ran\n" + _indented(where, width))
    if "log" in record.run:
        parts.append("last output\n" + _shifted(record.run["log"].rstrip()))
    return "\n".join(parts)


def _last(record: Record) -> dict[str, Any]:
    """The metrics of the last complete epoch."""
    return {name: column[-1] for name, column in record.history.items() if column}


def _before_it_diverged(record: Record) -> str:
    return " (in the last complete epoch before)" if record.status == "diverged" and record.history else ""


def _verdict(record: Record) -> str:
    if record.status == "done":
        return f"done: test accuracy {_percent(record.result.get('test_accuracy'))}, training accuracy " + _percent(
            record.result.get("train_accuracy")
        )
    again = "" if record.status in FINAL else " (the next run retries it)"
    return f"{record.status}: {record.reason}{again}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.2f} %"


def _number(value: Any) -> str:
    return digits(value) if isinstance(value, float) else tables.cell(value)


def _plain(run: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in run.items() if k not in ("seconds", "log", STORED_AS)}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by dots, with the indices of lists of mappings: `stages.0.compress.weight.bitwidth`."""
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, list) and inner and all(isinstance(each, Mapping) for each in inner):
            inner = {str(index): each for index, each in enumerate(inner)}
        flat |= _flat(inner, f"{prefix}{name}.") if isinstance(inner, Mapping) else {f"{prefix}{name}": inner}
    return flat


def _indented(values: Mapping[str, Any], width: int) -> str:
    """One line per value that is known."""
    cells = {name: tables.cell(value) for name, value in values.items()}
    return _shifted(wrapped([(name, cell) for name, cell in cells.items() if cell], width - INDENT))


def _paragraph(text: str, width: int) -> str:
    """A text in lines that fit, with all but the first indented."""
    lines = textwrap.wrap(text, width - INDENT, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def _shifted(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
