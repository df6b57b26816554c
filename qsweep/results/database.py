"""The file of a store: examining, creating and opening it, and the messages for failures."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from operator import methodcaller
from pathlib import Path

from qsweep.errors import UserError

VERSION = 1
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
"""`result` and `history` are compared and written to tables; `run` and `seconds` are never compared. A history is
stored by column, one list per metric, so that a hundred thousand are decoded in a second. No STRICT tables: some
clusters have SQLite older than 3.37."""
SOURCES = "CREATE TABLE IF NOT EXISTS sources (digest TEXT PRIMARY KEY, text TEXT NOT NULL)"
"""Created with the first source; an older qsweep ignores it."""


def examine(path: Path) -> bool:
    """Whether there is a readable store; False if there is nothing, or an empty one that a killed process left.

    Raises:
        UserError: there is something else. It is only read, so that no byte changes.
    """
    if not path.exists() or path.stat().st_size == 0:
        return False
    with open(path, "rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:  # SQLite would take a file of a few bytes for an empty database
            raise damaged_file(path, "file is not a database")
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
            f"{path} is not a store of qsweep, or is damaged: it has other tables; move it away, or choose another"
            " folder with --results"
        )
    return True


def _schema(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Every table, index, view and trigger: its type, name and text."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    return {(str(kind), str(name), str(text)) for kind, name, text in connection.execute(query)}


@cache
def _own_schemas() -> list[set[tuple[str, str, str]]]:
    """The schema of a store, and that of a store with users' files."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        without = _schema(connection)
        connection.execute(SOURCES)
        return [without, _schema(connection)]


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file at a path; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def refuse_links(path: Path) -> None:
    """Refuse symbolic links: writing through one would change some other file of the user.

    Raises:
        UserError: the store, or one of SQLite's files beside it, is a symbolic link.
    """
    for file in (path, *(path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm", "-journal"))):
        if file.is_symlink():
            raise UserError(f"{file} is a symbolic link, which qsweep does not write through: replace it by a file")


def make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(connect(path, "mode=rwc")) as connection:
        connection.executescript(
            f"PRAGMA journal_mode=WAL;BEGIN IMMEDIATE;{SCHEMA}PRAGMA user_version={VERSION};COMMIT;"
        )


def connect(path: Path, mode: str) -> sqlite3.Connection:
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


def connect_to_view(path: Path) -> sqlite3.Connection:
    """A connection for a reader. If the file is writable, the connection can write, so that it removes `-wal` and
    `-shm` when it is closed."""
    try:
        refuse_links(path)
        return connect(path, "mode=rw")
    except (sqlite3.Error, UserError):
        return _connect_to_read(path)


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that only reads. In a folder that is not writable, SQLite can't create its lock file: do without."""
    try:
        return connect(path, "mode=ro")
    except sqlite3.Error as error:
        can_not_write = _primary(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        if not can_not_write or path.with_name(f"{path.name}-wal").exists():
            raise
        return connect(path, "mode=ro&immutable=1")


_text = methodcaller("decode", "utf-8", "surrogateescape")
"""Damaged bytes must reach the checksum; sqlite3's own decoding would raise an error."""


# --- errors -----------------------------------------------------------------------------------------------------------


@contextmanager
def user_errors(path: Path) -> Iterator[None]:
    """Turn errors that the user can fix into UserErrors."""
    try:
        yield
    except OSError as error:
        raise UserError(f"can't write the results folder {path.parent}: {error.strerror or error}") from None
    except sqlite3.Error as error:
        raise store_error(path, error) from None


def store_error(path: Path, error: sqlite3.Error) -> Exception:
    """A UserError for an SQLite error, which says what to do; the error itself if it is a bug."""
    code = _primary(error)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return UserError(
            f"the disk is full, over its quota or broken: {path} can't grow ({error}). "
            "What was committed is safe; free some space and run again"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged_file(path, str(error))
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return UserError(f"can't open or write {path}: {error}; choose another folder with --results")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UserError(f"another program keeps writing to {path}: {error}")
    return error


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def damaged_file(path: Path, found: str) -> UserError:
    return UserError(f"{path} is damaged or not a store: {found}. Move it away; the next run retrains its trials")


def no_store(path: Path) -> UserError:
    return UserError(f"no store at {path}: nothing has been run there yet (`qsweep run SPEC`)")
