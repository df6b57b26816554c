"""The store: every record of every sweep in one SQLite file. A record counts once its transaction is committed.

Reading it runs no code: texts and numbers only, each row with a checksum, each trial hashed again against its key.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import UnsupportedOperation
from pathlib import Path
from typing import Any

from qsweep.errors import UserError
from qsweep.results.database import (
    SOURCES,
    connect,
    connect_to_view,
    damaged_file,
    examine,
    identity,
    make,
    no_store,
    refuse_links,
    said,
)
from qsweep.results.records import (
    FINAL,
    SELECT,
    Record,
    Row,
    is_readable,
    is_sound,
    names_its_trial,
    put,
    sha256,
    to_record,
    to_row,
)

BASES = "bases:"
"""In a plan's keys, before those that have no row of their own."""


@dataclass(frozen=True)
class Findings:
    """What a check found: how many sound records, the keys of damaged ones, and the keys whose records differ."""

    sound: int
    damaged: list[str]
    conflicts: list[str]


class Store:
    """The records of one results folder. One driver writes; any number of readers read."""

    def __init__(self, path: Path, connection: sqlite3.Connection, writable: bool) -> None:
        self.path = path
        self._connection = connection
        self._writable = writable
        self._identity = identity(path)

    # opening

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Store:
        """The store in a file, to write and read; an empty one is made where there is none.

        Raises:
            UserError: it can't be written or read, is damaged or no store, or was written by a newer qsweep: not one
                byte of such a file is changed.
        """
        with said(path):
            refuse_links(path)
            if not examine(path):
                if not create:
                    raise no_store(path)
                make(path)
            return cls(path, connect(path, "mode=rw"), True)

    @classmethod
    def view(cls, path: Path) -> Store:
        """An existing store, to read only: nothing is changed or set aside, and its folder need not be writable.

        Raises:
            UserError: there is none, it can't be read, is damaged or no store, or was written by a newer qsweep.
        """
        with said(path):
            if not examine(path):
                raise no_store(path)
            return cls(path, connect_to_view(path), False)

    def close(self) -> None:
        self._connection.close()

    # writing

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if not self._writable:
            raise UnsupportedOperation("a viewed store is not written to")
        with said(self.path):
            try:
                self._check_still_there()
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:  # an interrupt too must leave no transaction open
                with suppress(sqlite3.Error):
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                raise

    def _check_still_there(self) -> None:
        """SQLite goes on writing to a file that has been deleted, and all of it is lost."""
        if identity(self.path) != self._identity:
            raise UserError(
                f"{self.path} was deleted or replaced while this ran: what was trained since then is not in the store."
                " Run again"
            )

    def begin_run(self, provenance: Mapping[str, Any]) -> int:
        """Note where the records that follow come from; its number."""
        with self._transaction() as connection:
            cursor = connection.execute("INSERT INTO runs (provenance) VALUES (?)", (json.dumps(provenance),))
        return int(cursor.lastrowid or 0)

    def set_plan(self, name: str, digest: str, keys: Sequence[str], bases: Sequence[str] = ()) -> None:
        """Note what a sweep consists of, so that `status` can tell how far it is, and what its trials start from."""
        noted = " ".join([*keys, *([BASES, *bases] if bases else [])])
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO plans VALUES (?, ?, ?)", (name, digest, noted))

    def keep_sources(self, texts: Mapping[str, str]) -> None:
        """Keep users' files, by SHA-256: what trials were trained from."""
        if texts:
            with self._transaction() as connection:
                connection.execute(SOURCES)
                connection.executemany("INSERT OR IGNORE INTO sources VALUES (?, ?)", texts.items())

    def forget(self, keys: Iterable[str]) -> None:
        """Drop all records of trials, of every environment: they are trained anew when a sweep wants them."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM records WHERE key = ?", ((key,) for key in keys))

    def add(self, records: Iterable[Mapping[str, Any]], run_id: int) -> list[str]:
        """Commit records in one transaction; the keys whose record differs from what this environment gave before.

        Of two records that differ both are kept and the first counts. A failure is replaced by what comes after it.

        Raises:
            UserError: the disk is full or the file can't be written; nothing of this call is kept, all before it is.
        """
        with self._transaction() as connection:
            return [row["key"] for row in (to_row(record, run_id) for record in records) if put(connection, row)]

    def _set_aside(self, damaged: Sequence[Row]) -> None:
        if not damaged or not self._writable:
            return
        with self._transaction() as connection:
            for row in damaged:
                connection.execute("INSERT INTO damaged (row) VALUES (?)", (json.dumps(row, default=repr),))
                connection.execute("DELETE FROM records WHERE id = ?", (row["id"],))

    # reading

    def _rows(self, query: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """Rows one after the other: a hundred thousand of them don't fit well into memory at once."""
        with said(self.path):
            cursor = self._connection.execute(query, values)
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield dict(zip(names, row, strict=True))

    def look_up(self, keys: Iterable[str], environment: str) -> tuple[dict[str, Record], list[str]]:
        """The record of each key that has one, own environment first, final ones before failures; and the damaged keys.

        A damaged row is set aside in the table `damaged`, so that its trial is missing and trained again.
        """
        found: dict[str, Record] = {}
        ranks: dict[str, tuple[bool, bool, int]] = {}
        damaged: list[Row] = []
        self._want(keys)
        for row in self._rows(f"{SELECT} JOIN temp.wanted USING (key)"):
            rank = (row["status"] not in FINAL, row["environment"] != environment, row["id"])
            record = to_record(row) if is_sound(row) else None
            if record is None:
                damaged.append(row)
            elif row["key"] not in found or rank < ranks[row["key"]]:
                found[row["key"]], ranks[row["key"]] = record, rank
        self._set_aside(damaged)
        return found, [str(row["key"]) for row in damaged]

    def _want(self, keys: Iterable[str]) -> None:
        with said(self.path):
            self._connection.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (key TEXT PRIMARY KEY) WITHOUT ROWID")
            self._connection.execute("BEGIN")
            self._connection.execute("DELETE FROM temp.wanted")
            self._connection.executemany("INSERT OR IGNORE INTO temp.wanted VALUES (?)", ((key,) for key in keys))
            self._connection.execute("COMMIT")

    def like(self, prefix: str) -> list[Record]:
        """Records whose key begins with these hex digits, first ones first."""
        rows = self._rows(f"{SELECT} WHERE key BETWEEN ? AND ? ORDER BY id", (prefix, f"{prefix}g"))
        return [record for row in rows if is_sound(row) and (record := to_record(row)) is not None]

    def keys(self) -> list[str]:
        """The keys of all records."""
        return [row["key"] for row in self._rows("SELECT DISTINCT key FROM records")]

    def statuses(self, keys: Sequence[str]) -> list[str]:
        """The status of each key, `missing` where there is no record: for a look at a sweep that runs."""
        found: dict[str, str] = {}
        for row in self._rows("SELECT key, status FROM records ORDER BY id"):
            if found.get(row["key"]) not in FINAL:
                found[row["key"]] = row["status"]
        return [found.get(key, "missing") for key in keys]

    def timings(self, environment: str) -> list[tuple[dict[str, Any], float]]:
        """(trial, seconds) of what has finished in an environment: what an estimate is made from."""
        query = f"SELECT key, trial, seconds FROM records WHERE environment = ? AND status IN {FINAL}"
        rows = self._rows(query, (environment,))
        return [
            (json.loads(row["trial"]), row["seconds"])
            for row in rows
            if isinstance(row["seconds"], float) and names_its_trial(row)
        ]

    def plans(self) -> dict[str, list[str]]:
        """Keys of each sweep's plan as it was last run, by the name of its folder."""
        return {row["name"]: row["keys"].partition(BASES)[0].split() for row in self._plans()}

    def planned(self) -> set[str]:
        """Keys of the trials of all sweeps, and of their bases."""
        return {key for row in self._plans() for key in row["keys"].replace(BASES, "").split()}

    def _plans(self) -> Iterator[Row]:
        for row in self._rows("SELECT name, keys FROM plans ORDER BY name"):
            if not (isinstance(row["name"], str) and isinstance(row["keys"], str)):
                raise damaged_file(self.path, "a plan is not text")
            yield row

    def provenance(self, run_id: int) -> dict[str, Any]:
        """Where the records of a run come from."""
        for row in self._rows("SELECT provenance FROM runs WHERE id = ?", (run_id,)):
            with suppress(ValueError, TypeError):
                found = json.loads(row["provenance"])
                return found if isinstance(found, dict) else {}
        return {}

    def sources(self, digests: Iterable[str]) -> dict[str, str]:
        """Those of users' files that are kept, by SHA-256."""
        if not list(self._rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'sources'")):
            return {}
        query = "SELECT text FROM sources WHERE digest = ?"
        found = {digest: row["text"] for digest in digests for row in self._rows(query, (digest,))}
        return {digest: text for digest, text in found.items() if sha256(text) == digest}

    def check(self) -> Findings:
        """Read everything: damaged rows are set aside, and records that broke the first promise are listed.

        Raises:
            UserError: the file itself is damaged.
        """
        for row in self._rows("PRAGMA integrity_check(1)"):
            if row["integrity_check"] != "ok":
                raise damaged_file(self.path, row["integrity_check"])
        sound: Counter[tuple[str, str, bool]] = Counter()
        damaged: list[Row] = []
        for row in self._rows(f"{SELECT} ORDER BY id"):
            if is_sound(row) and is_readable(row):
                sound[row["key"], row["environment"], row["status"] in FINAL] += 1
            else:
                damaged.append(row)
        self._set_aside(damaged)
        conflicts = [key for (key, _, final), count in sound.items() if final and count > 1]
        return Findings(sound.total(), [str(row["key"]) for row in damaged], conflicts)
