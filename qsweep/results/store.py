"""The store: every record of every sweep in one SQLite file. A record counts once its transaction is committed.

Reading it runs no code: it has only text and numbers, each row with a checksum, and each trial is hashed again and
compared with its key.
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
    user_errors,
)
from qsweep.results.records import (
    FINAL,
    SELECT,
    Record,
    Row,
    has_key_of_its_trial,
    is_readable,
    is_sound,
    put,
    sha256,
    to_record,
    to_row,
)

BASES = "bases:"
"""In a plan's keys, marks the start of those that have no row."""


@dataclass(frozen=True)
class Findings:
    """The result of a check: number of sound records, keys of damaged ones, keys with conflicting records."""

    sound: int
    damaged: list[str]
    conflicts: list[str]


class Store:
    """The records of one results folder. One process writes; any number of processes read."""

    def __init__(self, path: Path, connection: sqlite3.Connection, writable: bool) -> None:
        self.path = path
        self._connection = connection
        self._writable = writable
        self._identity = identity(path)

    # opening

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Store:
        """Open a store for writing and reading; an empty one is created if there is none.

        Raises:
            UserError: it can't be written or read, is damaged or not a store, or was written by a newer qsweep: not
                one byte of such a file is changed.
        """
        with user_errors(path):
            refuse_links(path)
            if not examine(path):
                if not create:
                    raise no_store(path)
                make(path)
            return cls(path, connect(path, "mode=rw"), True)

    @classmethod
    def view(cls, path: Path) -> Store:
        """Open an existing store for reading: nothing is changed or set aside, and its folder need not be writable.

        Raises:
            UserError: there is none, it can't be read, is damaged or not a store, or was written by a newer qsweep.
        """
        with user_errors(path):
            if not examine(path):
                raise no_store(path)
            return cls(path, connect_to_view(path), False)

    def close(self) -> None:
        self._connection.close()

    # writing

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if not self._writable:
            raise UnsupportedOperation("the store was opened for reading")
        with user_errors(self.path):
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
        """SQLite would continue to write to a deleted file, and all of it would be lost."""
        if identity(self.path) != self._identity:
            raise UserError(
                f"{self.path} was deleted or replaced during this run: what has been trained since then is not in the"
                " store. Run again"
            )

    def begin_run(self, provenance: Mapping[str, Any]) -> int:
        """Store where the records that follow come from, and return the number of the run."""
        with self._transaction() as connection:
            cursor = connection.execute("INSERT INTO runs (provenance) VALUES (?)", (json.dumps(provenance),))
        return int(cursor.lastrowid or 0)

    def set_plan(self, name: str, digest: str, keys: Sequence[str], bases: Sequence[str] = ()) -> None:
        """Store the keys of a sweep, so that `status` can show its progress, and those of its trials' bases."""
        text = " ".join([*keys, *([BASES, *bases] if bases else [])])
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO plans VALUES (?, ?, ?)", (name, digest, text))

    def keep_sources(self, texts: Mapping[str, str]) -> None:
        """Store the users' files that trials were trained from, by SHA-256."""
        if texts:
            with self._transaction() as connection:
                connection.execute(SOURCES)
                connection.executemany("INSERT OR IGNORE INTO sources VALUES (?, ?)", texts.items())

    def forget(self, keys: Iterable[str]) -> None:
        """Delete all records of trials in all environments; the next run of a sweep with them retrains them."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM records WHERE key = ?", ((key,) for key in keys))

    def add(self, records: Iterable[Mapping[str, Any]], run_id: int) -> list[str]:
        """Commit records in one transaction; return the keys whose record conflicts with one from this environment.

        Two conflicting records are both kept, and the first counts. A failure is replaced by the next record.

        Raises:
            UserError: the disk is full or the file can't be written; no record of this call is kept, earlier ones are.
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
        """Iterate over rows, since a hundred thousand of them take much memory."""
        with user_errors(self.path):
            cursor = self._connection.execute(query, values)
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield dict(zip(names, row, strict=True))

    def look_up(self, keys: Iterable[str], environment: str) -> tuple[dict[str, Record], list[str]]:
        """The record of each key that has one, and the keys of damaged rows. Final records are preferred to failures,
        then records of this environment to others.

        A damaged row is moved to the table `damaged`, so that its trial is missing and is retrained.
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
        with user_errors(self.path):
            self._connection.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (key TEXT PRIMARY KEY) WITHOUT ROWID")
            self._connection.execute("BEGIN")
            self._connection.execute("DELETE FROM temp.wanted")
            self._connection.executemany("INSERT OR IGNORE INTO temp.wanted VALUES (?)", ((key,) for key in keys))
            self._connection.execute("COMMIT")

    def like(self, prefix: str) -> list[Record]:
        """Records whose key begins with these hex digits, oldest first."""
        rows = self._rows(f"{SELECT} WHERE key BETWEEN ? AND ? ORDER BY id", (prefix, f"{prefix}g"))
        return [record for row in rows if is_sound(row) and (record := to_record(row)) is not None]

    def keys(self) -> list[str]:
        """The keys of all records."""
        return [row["key"] for row in self._rows("SELECT DISTINCT key FROM records")]

    def statuses(self, keys: Sequence[str]) -> list[str]:
        """The status of each key, `missing` if there is no record; quick enough to show a running sweep."""
        found: dict[str, str] = {}
        for row in self._rows("SELECT key, status FROM records ORDER BY id"):
            if found.get(row["key"]) not in FINAL:
                found[row["key"]] = row["status"]
        return [found.get(key, "missing") for key in keys]

    def timings(self, environment: str) -> list[tuple[dict[str, Any], float]]:
        """(settings, seconds) of the trials finished in an environment, for estimates."""
        query = f"SELECT key, trial, seconds FROM records WHERE environment = ? AND status IN {FINAL}"
        rows = self._rows(query, (environment,))
        return [
            (json.loads(row["trial"]), row["seconds"])
            for row in rows
            if isinstance(row["seconds"], float) and has_key_of_its_trial(row)
        ]

    def plans(self) -> dict[str, list[str]]:
        """The keys of each sweep's last plan, by the name of its folder."""
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
        """The provenance of a run; {} if there is none."""
        for row in self._rows("SELECT provenance FROM runs WHERE id = ?", (run_id,)):
            with suppress(ValueError, TypeError):
                found = json.loads(row["provenance"])
                return found if isinstance(found, dict) else {}
        return {}

    def sources(self, digests: Iterable[str]) -> dict[str, str]:
        """The stored users' files among `digests`, by SHA-256."""
        if not list(self._rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'sources'")):
            return {}
        query = "SELECT text FROM sources WHERE digest = ?"
        found = {digest: row["text"] for digest in digests for row in self._rows(query, (digest,))}
        return {digest: text for digest, text in found.items() if sha256(text) == digest}

    def check(self) -> Findings:
        """Read everything, set damaged rows aside, and list conflicting records.

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
