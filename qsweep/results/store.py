"""The store: every record of every sweep in one SQLite file. A record counts once its transaction is committed.

Reading it runs no code: texts and numbers only, each row with a checksum, each trial hashed again against its key.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from io import UnsupportedOperation
from pathlib import Path
from typing import Any

from qsweep.errors import UserError
from qsweep.trial.key import canonical

VERSION = 1
STATUSES = ("done", "diverged", "failed", "timeout", "missing")
FINAL = ("done", "diverged")
"""Statuses that are known for good; others are tried again."""

BASES = "bases:"
"""In a plan's keys, before those that have no row of their own."""
MAGIC = b"SQLite format 3\0"
SCHEMA = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, provenance TEXT NOT NULL);
CREATE TABLE plans (name TEXT PRIMARY KEY, digest TEXT NOT NULL, keys TEXT NOT NULL);
CREATE TABLE records (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, environment TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL,
    trial TEXT NOT NULL, result TEXT NOT NULL, history TEXT NOT NULL, run TEXT NOT NULL, run_id INTEGER NOT NULL,
    seconds REAL NOT NULL, checksum TEXT NOT NULL
);
CREATE INDEX records_key ON records (key);
CREATE TABLE damaged (id INTEGER PRIMARY KEY, row TEXT NOT NULL);
"""
"""`result` and `history` are compared and go into tables; `run` and `seconds` are never compared. A history is kept by
column, one list a metric: a hundred thousand must be decoded in a second. No STRICT: clusters have SQLite older than
3.37."""
SOURCES = "CREATE TABLE IF NOT EXISTS sources (digest TEXT PRIMARY KEY, text TEXT NOT NULL)"
"""Made with the first source: an older qsweep takes no notice of it."""


COMPARED = ("key", "environment", "status", "reason", "trial", "result", "history")
SEALED = (*COMPARED, "run", "seconds")
"""What the checksum is of."""
TEXTS = (*COMPARED, "run", "checksum")
COLUMNS = (*SEALED, "run_id", "checksum")
ROW = ("id", *COLUMNS)
SELECT = f"SELECT {', '.join(ROW)} FROM records"
KNOWN = f"{SELECT} WHERE key = ? AND environment IN (?, '')"
INSERT = f"INSERT INTO records ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """What a trial gave in one environment.

    Attributes:
        settings: the trial's, as JSON: few who look at ten thousand records want them decoded.
        result: metrics after the last epoch, and `histograms` by place where the trial asks for some; empty unless
            `done`.
        history: one list a metric, `stage` and `epoch` among them.
        run: how it was run (stack, threads, device, versions by `run_id`), and what follows from the settings and
            the net (`model_bits`, and `stored`, the formats of the parameters that training keeps rounded, by name);
            never compared.
        seconds: wall seconds of its stack ÷ trials in it.
    """

    key: str
    environment: str
    status: str
    reason: str
    settings: str
    result: dict[str, Any]
    history: dict[str, list[Any]]
    run: dict[str, Any]
    run_id: int
    seconds: float

    @property
    def trial(self) -> dict[str, Any]:
        """The trial's settings."""
        return dict(json.loads(self.settings))


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
        self._identity = _identity(path)

    # opening

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Store:
        """The store in a file, to write and read; an empty one is made where there is none.

        Raises:
            UserError: it can't be written or read, is damaged or no store, or was written by a newer qsweep: not one
                byte of such a file is changed.
        """
        with _said(path):
            _refuse_links(path)
            if not _examine(path):
                if not create:
                    raise _nothing_at(path)
                _make(path)
            return cls(path, _connect(path, "mode=rw"), True)

    @classmethod
    def view(cls, path: Path) -> Store:
        """An existing store, to read only: nothing is changed or set aside, and its folder need not be writable.

        Raises:
            UserError: there is none, it can't be read, is damaged or no store, or was written by a newer qsweep.
        """
        with _said(path):
            if not _examine(path):
                raise _nothing_at(path)
            return cls(path, _connect_to_view(path), False)

    def close(self) -> None:
        self._connection.close()

    # writing

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if not self._writable:
            raise UnsupportedOperation("a viewed store is not written to")
        with _said(self.path):
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
        if _identity(self.path) != self._identity:
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
            return [row["key"] for row in (_to_row(record, run_id) for record in records) if _put(connection, row)]

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
        with _said(self.path):
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
            record = _to_record(row) if _sound(row) else None
            if record is None:
                damaged.append(row)
            elif row["key"] not in found or rank < ranks[row["key"]]:
                found[row["key"]], ranks[row["key"]] = record, rank
        self._set_aside(damaged)
        return found, [str(row["key"]) for row in damaged]

    def _want(self, keys: Iterable[str]) -> None:
        with _said(self.path):
            self._connection.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (key TEXT PRIMARY KEY) WITHOUT ROWID")
            self._connection.execute("BEGIN")
            self._connection.execute("DELETE FROM temp.wanted")
            self._connection.executemany("INSERT OR IGNORE INTO temp.wanted VALUES (?)", ((key,) for key in keys))
            self._connection.execute("COMMIT")

    def like(self, prefix: str) -> list[Record]:
        """Records whose key begins with these hex digits, first ones first."""
        rows = self._rows(f"{SELECT} WHERE key BETWEEN ? AND ? ORDER BY id", (prefix, f"{prefix}g"))
        return [record for row in rows if _sound(row) and (record := _to_record(row)) is not None]

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
            if isinstance(row["seconds"], float) and _names_its_trial(row)
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
                raise _damaged(self.path, "a plan is not text")
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
        return {digest: text for digest, text in found.items() if _sha256(text) == digest}

    def check(self) -> Findings:
        """Read everything: damaged rows are set aside, and records that broke the first promise are listed.

        Raises:
            UserError: the file itself is damaged.
        """
        for row in self._rows("PRAGMA integrity_check(1)"):
            if row["integrity_check"] != "ok":
                raise _damaged(self.path, row["integrity_check"])
        sound: Counter[tuple[str, str, bool]] = Counter()
        damaged: list[Row] = []
        for row in self._rows(f"{SELECT} ORDER BY id"):
            if _sound(row):
                sound[row["key"], row["environment"], row["status"] in FINAL] += 1
            else:
                damaged.append(row)
        self._set_aside(damaged)
        conflicts = [key for (key, _, final), count in sound.items() if final and count > 1]
        return Findings(sound.total(), [str(row["key"]) for row in damaged], conflicts)


# --- opening a file ---------------------------------------------------------------------------------------------------


def _examine(path: Path) -> bool:
    """Whether there is a store that we read; False where there is nothing, or what a killed maker left.

    Raises:
        UserError: there is something else. Reading alone, so that no byte of it changes.
    """
    if not path.exists() or path.stat().st_size == 0:
        return False
    with open(path, "rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:  # SQLite would take a file of a few bytes for an empty database
            raise _damaged(path, "file is not a database")
    with closing(_connect_to_read(path)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        schema = _schema(connection)
    if not schema and version == 0:
        return False
    if version > VERSION and any(name == "records" for _, name, _ in schema):
        raise UserError(
            f"{path} was written by a newer qsweep (store version {version}, this one reads {VERSION}): "
            "update qsweep, or choose another folder with --results"
        )
    if schema not in _own_schemas():
        raise UserError(
            f"{path} is not a store of qsweep, or damaged: it has other tables; move it away, or choose another folder"
            " with --results"
        )
    return True


def _schema(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Every table, index, view and trigger: its type, name and text."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    return {(str(kind), str(name), str(text)) for kind, name, text in connection.execute(query)}


@cache
def _own_schemas() -> list[set[tuple[str, str, str]]]:
    """That of a store, and that of one with users' files."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        without = _schema(connection)
        connection.execute(SOURCES)
        return [without, _schema(connection)]


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file stands under a path."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _refuse_links(path: Path) -> None:
    """A link would have another file written, which may be anything of the user's.

    Raises:
        UserError: the store, or a file of SQLite's beside it, is a symbolic link.
    """
    for file in (path, *(path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm", "-journal"))):
        if file.is_symlink():
            raise UserError(f"{file} is a symbolic link, which qsweep does not write through: replace it by a file")


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(_connect(path, "mode=rwc")) as connection:
        connection.executescript(
            f"PRAGMA journal_mode=WAL;BEGIN IMMEDIATE;{SCHEMA}PRAGMA user_version={VERSION};COMMIT;"
        )


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None, timeout=30)
    connection.text_factory = _text
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("PRAGMA synchronous=FULL")  # a commit is on the disk when it returns
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_to_view(path: Path) -> sqlite3.Connection:
    """A connection for a reader: where the file can be written, one that clears `-wal` and `-shm` away at its end."""
    try:
        _refuse_links(path)
        return _connect(path, "mode=rw")
    except (sqlite3.Error, UserError):
        return _connect_to_read(path)


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that only reads. Where the folder can't be written, SQLite has no place for its lock: do without."""
    try:
        return _connect(path, "mode=ro")
    except sqlite3.Error as error:
        barred = _primary(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        if not barred or path.with_name(f"{path.name}-wal").exists():
            raise
        return _connect(path, "mode=ro&immutable=1")


def _text(raw: bytes) -> str:
    """Damaged bytes must reach the checksum; sqlite3 by itself would stop at them."""
    return raw.decode("utf-8", "surrogateescape")


# --- what goes wrong --------------------------------------------------------------------------------------------------


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Errors that the user can mend, in words."""
    try:
        yield
    except OSError as error:
        raise UserError(f"can't write the results folder {path.parent}: {error.strerror or error}") from None
    except sqlite3.Error as error:
        raise store_error(path, error) from None


def store_error(path: Path, error: sqlite3.Error) -> Exception:
    """The user's side of an SQLite error: what to do about it; the error itself where it is a mistake of ours."""
    code = _primary(error)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return UserError(
            f"the disk is full, over its quota or broken: {path} can't grow ({error}). "
            "What was committed is safe; free some space and run again"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, str(error))
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return UserError(f"can't open or write {path}: {error}; choose another folder with --results")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UserError(f"another program writes to {path} and does not end: {error}")
    return error


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _damaged(path: Path, found: str) -> UserError:
    return UserError(f"{path} is damaged or no store: {found}. Move it away, and what it held will be trained again")


def _nothing_at(path: Path) -> UserError:
    return UserError(f"no store at {path}: nothing has run there yet (`qsweep run SPEC`)")


# --- rows -------------------------------------------------------------------------------------------------------------


def _put(connection: sqlite3.Connection, row: Row) -> bool:
    """Insert a row unless it says nothing new; whether it differs from what its environment gave before."""
    known = [
        dict(zip(ROW, values, strict=True)) for values in connection.execute(KNOWN, (row["key"], row["environment"]))
    ]
    final = [old for old in known if old["status"] in FINAL and _sound(old)]
    if any(_same(row, old) for old in final) or (final and row["status"] not in FINAL):
        return False
    for old in known:
        if old["status"] not in FINAL:
            connection.execute("DELETE FROM records WHERE id = ?", (old["id"],))
    connection.execute(INSERT, [row[name] for name in COLUMNS])
    return bool(final)


def _to_row(record: Mapping[str, Any], run_id: int) -> Row:
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
    return {**row, "checksum": _checksum(row)}


_encoded = json.JSONEncoder(allow_nan=False, check_circular=False).encode


def _one_line(text: str) -> str:
    """An error may say anything: bytes of a file name that are no text, control characters, lines."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))


def _by_column(history: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    if all(row.keys() == history[0].keys() for row in history):
        return {name: [row[name] for row in history] for row in history[:1] for name in row}
    names = dict.fromkeys(name for row in history for name in row)
    return {name: [row.get(name) for row in history] for name in names}


def _to_record(row: Row) -> Record | None:
    """The record in a sound row; None where it is not one: a checksum says nothing of who wrote it."""
    try:
        parts = json.loads(f"[{row['result']},{row['history']},{row['run']}]")  # one call is much faster
    except ValueError:
        return None
    if len(parts) != 3 or not all(isinstance(part, dict) for part in parts):
        return None
    result, history, run = (dict(zip(_shared(tuple(part)), part.values(), strict=True)) for part in parts)
    return Record(
        row["key"],
        sys.intern(row["environment"]),
        sys.intern(row["status"]),
        row["reason"],
        row["trial"],
        result,
        history,
        run,
        row["run_id"],
        row["seconds"],
    )


@lru_cache
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names, as the same objects for all records that have these: each would hold its own, which take more memory than
    the numbers under them."""
    return names


def _checksum(row: Row) -> str:
    return _sha256("\0".join([str(row[name]) for name in SEALED]))


def _sound(row: Row) -> bool:
    """Whether a row is what was written, and its trial is the one that its key names."""
    are_texts = all(isinstance(row[name], str) for name in TEXTS) and isinstance(row["seconds"], float)
    return bool(are_texts and _names_its_trial(row) and row["checksum"] == _checksum(row))


def _names_its_trial(row: Row) -> bool:
    return bool(row["key"] == _sha256(str(row["trial"])))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _same(row: Row, other: Row) -> bool:
    return all(row[name] == other[name] for name in COMPARED)
