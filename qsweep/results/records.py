"""Records of trials, and the rows of the store that hold them: text and numbers, each row with a checksum."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

from qsweep.errors import UserError
from qsweep.trial.key import canonical
from qsweep.trial.settings import Settings

STATUSES = ("done", "diverged", "failed", "timeout", "missing")
FINAL = ("done", "diverged")
"""Statuses that are never retried."""

COMPARED = ("key", "environment", "status", "reason", "trial", "result", "history")
SEALED = (*COMPARED, "run", "seconds")
"""The columns that the checksum covers."""
TEXTS = (*COMPARED, "run", "checksum")
COLUMNS = (*SEALED, "run_id", "checksum")
ROW = ("id", *COLUMNS)
SELECT = f"SELECT {', '.join(ROW)} FROM records"
KNOWN = f"{SELECT} WHERE key = ? AND environment IN (?, '')"
INSERT = f"INSERT INTO records ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"

UNREADABLE = (ValueError, RecursionError)
"""Exceptions that parsing JSON from elsewhere may raise."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """The result of a trial in one environment.

    Attributes:
        settings: of the trial, as JSON: readers of ten thousand records seldom need them decoded.
        epochs: the metrics of each epoch, as JSON for the same reason.
        result: metrics after the last epoch, and `histograms` by place if the trial has any; empty unless `done`.
        run: how it was run (stack, threads, device, versions by `run_id`), and what follows from the settings and
            the net (`model_bits`, and `stored`, the formats of the parameters that training keeps rounded, by name);
            never compared.
        seconds: wall seconds of its stack ÷ number of trials in the stack.
        checksum: SHA-256 of the row.
    """

    key: str
    environment: str
    status: str
    reason: str
    settings: str
    epochs: str
    result: dict[str, Any]
    run: dict[str, Any]
    run_id: int
    seconds: float
    checksum: str

    @property
    def trial(self) -> dict[str, Any]:
        """The decoded settings of the trial."""
        return dict(json.loads(self.settings))

    @property
    def view(self) -> Settings:
        """The settings by their meaning."""
        return Settings(self.trial)

    @property
    def history(self) -> dict[str, list[Any]]:
        """One list per metric, including `stage` and `epoch`.

        Raises:
            UserError: it is something else: a checksum does not prove that qsweep wrote the row.
        """
        found = _history(self.epochs)
        if found is None:
            raise UserError(
                f"the record of trial {self.key[:10]} has no readable history: `qsweep store check` sets it aside, and"
                " the next run retrains it"
            )
        return found


# --- rows -------------------------------------------------------------------------------------------------------------


def put(connection: sqlite3.Connection, row: Row) -> bool:
    """Insert a row unless it adds nothing new; return whether it conflicts with a final record of its environment."""
    known = [
        dict(zip(ROW, values, strict=True)) for values in connection.execute(KNOWN, (row["key"], row["environment"]))
    ]
    final = [old for old in known if old["status"] in FINAL and is_sound(old)]
    if any(_same(row, old) for old in final) or (final and row["status"] not in FINAL):
        return False
    for old in known:
        if old["status"] not in FINAL:
            connection.execute("DELETE FROM records WHERE id = ?", (old["id"],))
    connection.execute(INSERT, [row[name] for name in COLUMNS])
    return bool(final)


def to_row(record: Mapping[str, Any], run_id: int) -> Row:
    row = {
        "key": record["key"],
        "environment": record["environment"],
        "status": record["status"],
        "reason": _one_line(record["reason"]),
        "trial": canonical(record["trial"]),
        "result": _encoded(record["result"]),
        "history": _encoded(_by_column(record["history"])),
        "run": _encoded(record["run"]),
        "run_id": run_id,
        "seconds": float(record["run"]["seconds"]),
    }
    return {**row, "checksum": checksum(row)}


_encoded = json.JSONEncoder(allow_nan=False, check_circular=False).encode


def _one_line(text: str) -> str:
    """An error message as one printable line: it may contain line breaks, control characters or undecodable bytes."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))


def _by_column(history: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    if all(row.keys() == history[0].keys() for row in history):
        return {name: [row[name] for row in history] for row in history[:1] for name in row}
    names = dict.fromkeys(name for row in history for name in row)
    return {name: [row.get(name) for row in history] for name in names}


def to_record(row: Row) -> Record | None:
    """The record in a sound row; None if there is none: a checksum does not prove that qsweep wrote the row."""
    try:
        parts = json.loads(f"[{row['result']},{row['run']}]")  # one call is much faster
    except UNREADABLE:
        return None
    if len(parts) != 2 or not all(isinstance(part, dict) for part in parts):
        return None
    result, run = (dict(zip(_shared(tuple(part)), part.values(), strict=True)) for part in parts)
    return Record(
        row["key"],
        sys.intern(row["environment"]),
        sys.intern(row["status"]),
        row["reason"],
        row["trial"],
        row["history"],
        result,
        run,
        row["run_id"],
        row["seconds"],
        row["checksum"],
    )


def _history(text: str) -> dict[str, list[Any]] | None:
    """One list per metric, all of the same length; None if the text is something else."""
    try:
        found = json.loads(text)
    except UNREADABLE:
        return None
    are_lists = isinstance(found, dict) and all(isinstance(column, list) for column in found.values())
    return found if are_lists and len({len(column) for column in found.values()}) <= 1 else None


def is_readable(row: Row) -> bool:
    """Whether a sound row contains a record with a history."""
    return to_record(row) is not None and _history(row["history"]) is not None


@lru_cache
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same name objects for all records with these names: copies would take more memory than the values."""
    return names


_texts_of, _sealed_of = itemgetter(*TEXTS), itemgetter(*SEALED)


def checksum(row: Row) -> str:
    return sha256("\0".join(map(str, _sealed_of(row))))


def is_sound(row: Row) -> bool:
    """Whether a row is unchanged since it was written, and its key is that of its trial."""
    are_texts = set(map(type, _texts_of(row))) == {str}
    return bool(
        are_texts
        and isinstance(row["seconds"], float)
        and has_key_of_its_trial(row)
        and row["checksum"] == checksum(row)
    )


def has_key_of_its_trial(row: Row) -> bool:
    return bool(row["key"] == sha256(str(row["trial"])))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _same(row: Row, other: Row) -> bool:
    return all(row[name] == other[name] for name in COMPARED)
