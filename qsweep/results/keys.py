"""The record that a reader means by the beginning of its key."""

from __future__ import annotations

from collections.abc import Sequence

from qsweep.errors import UserError, cut, distance
from qsweep.results.records import Record
from qsweep.results.store import Store

SHORT_KEY = 10
LEAST_DIGITS = 6
"""Of a key, by which a mistyped one is recognised."""


def records_like(store: Store, prefix: str) -> list[Record]:
    """The records of the one trial whose key begins so.

    Raises:
        UserError: no trial or several have such a key.
    """
    if not prefix or set(prefix) - set("0123456789abcdef"):
        raise UserError(f"'{cut(prefix)}' is not a key: keys are hex digits, the first column of `qsweep table`")
    records = store.like(prefix)
    keys = sorted({record.key for record in records})
    if not records:
        raise UserError(_no_record(prefix, store))
    if len(keys) > 1:
        raise UserError(f"{len(keys)} keys begin with {prefix}: {', '.join(key[:16] for key in keys[:5])} …")
    return records


def _no_record(prefix: str, store: Store) -> str:
    if any(key.startswith(prefix) for key in store.planned()):
        return f"{prefix} has no record yet: `qsweep run` trains it"
    near = _nearest_key(prefix, store.keys())
    meant = f"; did you mean {near[: max(len(prefix), SHORT_KEY)]}?" if near else ""
    return f"no record's key begins with {prefix}{meant} (`qsweep table` shows the keys)"


def _nearest_key(prefix: str, keys: Sequence[str]) -> str:
    """The key that one meant who mistyped a digit or two of its beginning; "" where that is too short to tell."""
    count, half = len(prefix), len(prefix) // 2
    if count < LEAST_DIGITS:
        return ""
    near = [key for key in keys if key.startswith(prefix[:half]) or prefix[half:] in key[: count + 2]]
    steps = {key: distance(prefix, key[:count]) for key in near}
    best = min(near, key=lambda key: steps[key], default="")
    return best if best and steps[best] <= 2 else ""
