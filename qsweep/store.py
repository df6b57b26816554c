"""The store: every record of every sweep in one SQLite file. A record counts once its transaction is committed.

Reading it runs no code: texts and numbers only, each row with a checksum, each trial's text hashed again against its key.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsweep.errors import UserError
from qsweep.trial import canonical

VERSION = 1
FINAL = ("done", "diverged")
"""Statuses that are known for good; others are tried again."""

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE runs (id INTEGER PRIMARY KEY, provenance TEXT NOT NULL) STRICT;
CREATE TABLE plans (name TEXT PRIMARY KEY, digest TEXT NOT NULL, keys TEXT NOT NULL) STRICT;
CREATE TABLE records (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, environment TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL,
    trial TEXT NOT NULL, result TEXT NOT NULL, history TEXT NOT NULL, run TEXT NOT NULL, run_id INTEGER NOT NULL,
    seconds REAL NOT NULL, checksum TEXT NOT NULL
) STRICT;
CREATE INDEX records_key ON records (key);
CREATE TABLE damaged (id INTEGER PRIMARY KEY, row TEXT NOT NULL) STRICT;
"""
"""`result` and `history` are compared and go into tables; `run` and `seconds` never are. A history is kept by column, one
list a metric: a hundred thousand of them must be decoded in a second."""

COMPARED = ("key", "environment", "status", "reason", "trial", "result", "history")
COLUMNS = (*COMPARED, "run", "run_id", "seconds", "checksum")


@dataclass(frozen=True)
class Record:
    """What a trial gave in one environment.

    Attributes:
        result: metrics after the last epoch; empty unless `done`.
        history: one list a metric, `stage` and `epoch` among them.
        run: how it was run (stack, threads, device, versions by `run_id`); never compared.
        seconds: wall seconds of its stack ÷ trials in it.
    """

    key: str
    environment: str
    status: str
    reason: str
    trial: dict[str, Any]
    result: dict[str, float | None]
    history: dict[str, list[Any]]
    run: dict[str, Any]
    run_id: int
    seconds: float


class Store:
    """The records of one results folder. One driver writes; any number of readers read."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Store:
        """The store in a file; an empty one is made where there is none.

        Raises:
            UserError: it can't be written or read, is damaged, or was written by a newer qsweep.
        """
        if not create and not path.is_file():
            raise UserError(f"no store at {path}: nothing has run there yet (`qsweep run SPEC`)")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            store = cls(path, sqlite3.connect(path, isolation_level=None, timeout=30))
            store._prepare()
        except OSError as error:
            raise UserError(f"can't write the results folder {path.parent}: {error.strerror or error}") from None
        except sqlite3.Error as error:
            raise store_error(path, error) from None
        return store

    def close(self) -> None:
        self._connection.close()

    def _prepare(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise UserError(
                f"{self.path} was written by a newer qsweep (store version {version}, this one reads {VERSION}): "
                "update qsweep, or choose another folder with --results"
            )
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        if version == 0:
            self._connection.executescript(f"BEGIN IMMEDIATE;{SCHEMA}PRAGMA user_version={VERSION};COMMIT;")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException as error:  # an interrupt too must leave no transaction open
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise store_error(self.path, error) from None
            raise

    # writing

    def begin_run(self, provenance: Mapping[str, Any]) -> int:
        """Note where the records that follow come from; its number."""
        with self._transaction() as connection:
            cursor = connection.execute("INSERT INTO runs (provenance) VALUES (?)", (json.dumps(provenance),))
        return int(cursor.lastrowid or 0)

    def set_plan(self, name: str, digest: str, keys: Sequence[str]) -> None:
        """Note what a sweep consists of, so that `status` can tell how far it is."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO plans VALUES (?, ?, ?)", (name, digest, " ".join(keys)))

    def add(self, records: Iterable[Mapping[str, Any]], run_id: int) -> list[str]:
        """Commit records in one transaction; the keys whose record differs from the one that this environment gave before.

        Of two records that differ both are kept and the first counts. A failure is replaced by what comes after it.

        Raises:
            UserError: the disk is full or the file can't be written; nothing of this call is kept, all before it is.
        """
        conflicts = []
        with self._transaction() as connection:
            for record in records:
                row = _to_row(record, run_id)
                earlier = self._final(connection, row["key"], row["environment"])
                if any(_same(row, other) for other in earlier):
                    continue
                if earlier and row["status"] not in FINAL:
                    continue
                if earlier:
                    conflicts.append(row["key"])
                connection.execute(
                    f"DELETE FROM records WHERE key = ? AND environment IN (?, '') AND status NOT IN {FINAL}",
                    (row["key"], row["environment"]),
                )
                connection.execute(
                    f"INSERT INTO records ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",
                    [row[c] for c in COLUMNS],
                )
        return conflicts

    def _final(self, connection: sqlite3.Connection, key: str, environment: str) -> list[dict[str, Any]]:
        query = f"SELECT {', '.join(COMPARED)} FROM records WHERE key = ? AND environment = ? AND status IN {FINAL}"
        return [dict(zip(COMPARED, row, strict=True)) for row in connection.execute(query, (key, environment))]

    # reading

    def look_up(self, keys: Iterable[str], environment: str) -> tuple[dict[str, Record], list[str]]:
        """The record of each key that has one, own environment first, final ones before failures; and the damaged keys.

        A damaged row is set aside in the table `damaged`, so that its trial is missing and trained again.
        """
        found: dict[str, Record] = {}
        damaged: list[str] = []
        for row in self._rows(keys, environment):
            if not _sound(row):
                self._set_aside(row)
                damaged.append(str(row["key"]))
            elif row["key"] not in found:
                found[row["key"]] = _to_record(row)
        return found, damaged

    def _rows(self, keys: Iterable[str], environment: str) -> list[dict[str, Any]]:
        try:
            self._connection.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (key TEXT PRIMARY KEY)")
            self._connection.execute("BEGIN")
            self._connection.execute("DELETE FROM wanted")
            self._connection.executemany("INSERT OR IGNORE INTO wanted VALUES (?)", ((key,) for key in keys))
            self._connection.execute("COMMIT")
            query = f"""SELECT id, {", ".join(COLUMNS)} FROM wanted JOIN records USING (key)
                        ORDER BY status NOT IN {FINAL}, environment <> ?, id"""
            return self._named(self._connection.execute(query, (environment,)))
        except sqlite3.Error as error:
            raise store_error(self.path, error) from None

    def _named(self, cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def _set_aside(self, row: Mapping[str, Any]) -> None:
        with self._transaction() as connection:
            connection.execute("INSERT INTO damaged (row) VALUES (?)", (json.dumps(row, default=repr),))
            connection.execute("DELETE FROM records WHERE id = ?", (row["id"],))

    def like(self, prefix: str) -> list[Record]:
        """Records whose key begins with these hex digits, first ones first."""
        query = f"SELECT id, {', '.join(COLUMNS)} FROM records WHERE substr(key, 1, ?) = ? ORDER BY id"
        rows = self._named(self._connection.execute(query, (len(prefix), prefix)))
        return [_to_record(row) for row in rows if _sound(row)]

    def statuses(self, keys: Sequence[str]) -> list[str]:
        """The status of each key, `missing` where there is no record: for a look at a sweep that runs."""
        found: dict[str, str] = {}
        for key, status in self._connection.execute("SELECT key, status FROM records ORDER BY id"):
            if found.get(key) not in FINAL:
                found[key] = status
        return [found.get(key, "missing") for key in keys]

    def timings(self, environment: str) -> list[tuple[dict[str, Any], float]]:
        """(trial, seconds) of what has finished in an environment: what an estimate is made from."""
        query = f"SELECT trial, seconds FROM records WHERE environment = ? AND status IN {FINAL}"
        return [(json.loads(trial), seconds) for trial, seconds in self._connection.execute(query, (environment,))]

    def plans(self) -> dict[str, list[str]]:
        """Keys of each sweep's plan as it was last run, by the name of its folder."""
        return {
            name: keys.split() for name, keys in self._connection.execute("SELECT name, keys FROM plans ORDER BY name")
        }

    def provenance(self, run_id: int) -> dict[str, Any]:
        """Where the records of a run come from."""
        row = self._connection.execute("SELECT provenance FROM runs WHERE id = ?", (run_id,)).fetchone()
        return dict(json.loads(row[0])) if row else {}

    def check(self) -> Findings:
        """Read everything: damaged rows are set aside, and records that broke the first promise are listed."""
        try:
            intact = self._connection.execute("PRAGMA integrity_check").fetchone()[0]
            rows = self._named(self._connection.execute(f"SELECT id, {', '.join(COLUMNS)} FROM records ORDER BY id"))
        except sqlite3.Error as error:
            raise store_error(self.path, error) from None
        if intact != "ok":
            raise UserError(f"{self.path} is damaged: {intact}; move it away, and what it held will be trained again")
        damaged = [row for row in rows if not _sound(row)]
        for row in damaged:
            self._set_aside(row)
        pairs: dict[tuple[str, str], int] = {}
        for row in rows:
            if row["status"] in FINAL:
                pairs[row["key"], row["environment"]] = pairs.get((row["key"], row["environment"]), 0) + 1
        conflicts = [key for (key, _), count in pairs.items() if count > 1]
        return Findings(len(rows) - len(damaged), [str(row["key"]) for row in damaged], conflicts)


@dataclass(frozen=True)
class Findings:
    """What a check of the store found: how many sound records, which keys are damaged, which have records that differ."""

    sound: int
    damaged: list[str]
    conflicts: list[str]


def store_error(path: Path, error: sqlite3.Error) -> UserError:
    """The user's side of an SQLite error: what to do about it."""
    text = str(error)
    if "full" in text:
        return UserError(
            f"the disk is full: {path} can't grow. What was committed is safe; free some space and run again"
        )
    if "malformed" in text or "not a database" in text:
        return UserError(f"{path} is damaged or no store: {text}. Move it away, and what it held will be trained again")
    if "readonly" in text or "unable to open" in text:
        return UserError(f"can't write {path}: {text}; choose another folder with --results")
    return UserError(f"{path}: {text}")


def _to_row(record: Mapping[str, Any], run_id: int) -> dict[str, Any]:
    row = {
        "key": record["key"],
        "environment": record["environment"],
        "status": record["status"],
        "reason": record["reason"],
        "trial": canonical(record["trial"]),
        "result": json.dumps(record["result"], allow_nan=False),
        "history": json.dumps(_by_column(record["history"]), allow_nan=False),
        "run": json.dumps(record["run"]),
        "run_id": run_id,
        "seconds": float(record["run"]["seconds"]),
    }
    return {**row, "checksum": _checksum(row)}


def _by_column(history: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in history] for name in (history[0] if history else ())}


def _to_record(row: Mapping[str, Any]) -> Record:
    return Record(
        row["key"],
        row["environment"],
        row["status"],
        row["reason"],
        json.loads(row["trial"]),
        json.loads(row["result"]),
        json.loads(row["history"]),
        json.loads(row["run"]),
        row["run_id"],
        row["seconds"],
    )


def _checksum(row: Mapping[str, Any]) -> str:
    content = "\0".join(str(row[c]) for c in COLUMNS if c not in ("checksum", "run_id"))
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()


def _sound(row: Mapping[str, Any]) -> bool:
    """Whether a row is what was written, and its trial is the one that its key names."""
    key = hashlib.sha256(str(row["trial"]).encode("utf-8", "replace")).hexdigest()
    return bool(row["key"] == key and row["checksum"] == _checksum(row))


def _same(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(row[c] == other[c] for c in COMPARED)
