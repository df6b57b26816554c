"""Records of trials, and the rows of the store that hold them: texts and numbers, each row with a checksum."""

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

STATUSES = ("done", "diverged", "failed", "timeout", "missing")
FINAL = ("done", "diverged")
"""Statuses that are known for good; others are tried again."""

COMPARED = ("key", "environment", "status", "reason", "trial", "result", "history")
SEALED = (*COMPARED, "run", "seconds")
"""What the checksum is of."""
TEXTS = (*COMPARED, "run", "checksum")
COLUMNS = (*SEALED, "run_id", "checksum")
ROW = ("id", *COLUMNS)
SELECT = f"SELECT {', '.join(ROW)} FROM records"
KNOWN = f"{SELECT} WHERE key = ? AND environment IN (?, '')"
INSERT = f"INSERT INTO records ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"

UNREADABLE = (ValueError, RecursionError)
"""What JSON that nobody of ours wrote may raise."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """What a trial gave in one environment.

    Attributes:
        settings: the trial's, as JSON: few who look at ten thousand records want them decoded.
        epochs: the metrics of each epoch, likewise.
        result: metrics after the last epoch, and `histograms` by place where the trial asks for some; empty unless
            `done`.
        run: how it was run (stack, threads, device, versions by `run_id`), and what follows from the settings and
            the net (`model_bits`, and `stored`, the formats of the parameters that training keeps rounded, by name);
            never compared.
        seconds: wall seconds of its stack ÷ trials in it.
        checksum: SHA-256 of all that is in it.
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
        """The trial's settings."""
        return dict(json.loads(self.settings))

    @property
    def history(self) -> dict[str, list[Any]]:
        """One list a metric, `stage` and `epoch` among them.

        Raises:
            UserError: it is not that: a checksum says nothing of who wrote a row.
        """
        found = _history(self.epochs)
        if found is None:
            told = f"the record of trial {self.key[:10]} has no readable history"
            raise UserError(f"{told}: `qsweep store check` sets it aside, and the next run trains it again")
        return found


# --- rows -------------------------------------------------------------------------------------------------------------


def put(connection: sqlite3.Connection, row: Row) -> bool:
    """Insert a row unless it says nothing new; whether it differs from what its environment gave before."""
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
    """The record in a sound row; None where it is not one: a checksum says nothing of who wrote it."""
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
    """One list a metric, all of one length; None where a text says something else."""
    try:
        found = json.loads(text)
    except UNREADABLE:
        return None
    are_lists = isinstance(found, dict) and all(isinstance(column, list) for column in found.values())
    return found if are_lists and len({len(column) for column in found.values()}) <= 1 else None


def is_readable(row: Row) -> bool:
    """Whether there is a record with a history in a row, sound as it is."""
    return to_record(row) is not None and _history(row["history"]) is not None


@lru_cache
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names, as the same objects for all records that have these: each would hold its own, which take more memory than
    the numbers under them."""
    return names


_texts_of, _sealed_of = itemgetter(*TEXTS), itemgetter(*SEALED)


def checksum(row: Row) -> str:
    return sha256("\0".join(map(str, _sealed_of(row))))


def is_sound(row: Row) -> bool:
    """Whether a row is what was written, and its trial is the one that its key names."""
    are_texts = set(map(type, _texts_of(row))) == {str}
    return bool(
        are_texts and isinstance(row["seconds"], float) and names_its_trial(row) and row["checksum"] == checksum(row)
    )


def names_its_trial(row: Row) -> bool:
    return bool(row["key"] == sha256(str(row["trial"])))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _same(row: Row, other: Row) -> bool:
    return all(row[name] == other[name] for name in COMPARED)
