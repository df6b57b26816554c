"""Finds records by the beginning of their key."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from qsweep.errors import UserError, cut, distance
from qsweep.results.records import Record
from qsweep.results.store import Store

SHORT_KEY = 10
LEAST_DIGITS = 6
"""The length from which a mistyped key gets a suggestion."""


def records_like(store: Store, prefix: str) -> list[Record]:
    """The records of the trial whose key begins with `prefix`.

    Raises:
        UserError: no trial has such a key, or several do.
    """
    if not _is_key(prefix):
        raise UserError(f"'{cut(prefix)}' is not a key: keys are hex digits, the first column of `qsweep table`")
    records = store.like(prefix)
    keys = sorted({record.key for record in records})
    if not records:
        raise UserError(_no_record(prefix, store))
    if len(keys) > 1:
        raise UserError(f"{len(keys)} keys begin with {prefix}: {', '.join(key[:16] for key in keys[:5])} …")
    return records


def _is_key(prefix: str) -> bool:
    return bool(prefix) and not set(prefix) - set("0123456789abcdef")


def view(path: Path, prefix: str) -> Store:
    """Open a store to look up a key.

    Raises:
        UserError: there is none; if a table here has the key, the message says how to get its record.
    """
    if _is_key(prefix) and not path.exists() and (text := _of_a_table(prefix, path.parent)):
        raise UserError(text)
    return Store.view(path)


def _of_a_table(prefix: str, results: Path) -> str:
    """The message for a key without a record that a table in or beside the results folder has; "" if no table has it.
    Mailed folders come without a store."""
    for path in [*sorted(results.glob("*/trials.csv")), *sorted(results.parent.glob("*/trials.csv"))]:
        with suppress(OSError, UnicodeDecodeError), path.open(encoding="utf-8") as lines:
            if any(line.startswith(prefix) for line in lines):
                return (
                    f"{results} has no record of {prefix}, which {path} shows: it was trained elsewhere;"
                    f" `qsweep run {path.parent / 'spec.yaml'}` trains it here"
                )
    return ""


def _no_record(prefix: str, store: Store) -> str:
    if any(key.startswith(prefix) for key in store.planned()):
        return f"{prefix} has no record yet: `qsweep run` trains it"
    if text := _of_a_table(prefix, store.path.parent):
        return text
    near = _nearest_key(prefix, store.keys())
    meant = f"; did you mean {near[: max(len(prefix), SHORT_KEY)]}?" if near else ""
    return f"no record's key begins with {prefix}{meant} (`qsweep table` shows the keys)"


def _nearest_key(prefix: str, keys: Sequence[str]) -> str:
    """The key whose beginning differs from `prefix` by at most two typing errors; "" if there is none or `prefix` is
    too short."""
    count, half = len(prefix), len(prefix) // 2
    if count < LEAST_DIGITS:
        return ""
    near = [key for key in keys if key.startswith(prefix[:half]) or prefix[half:] in key[: count + 2]]
    steps = {key: distance(prefix, key[:count]) for key in near}
    best = min(near, key=lambda key: steps[key], default="")
    return best if best and steps[best] <= 2 else ""
