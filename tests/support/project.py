"""A folder with specs in which `qsweep` runs as a process; shared by tests of whole runs."""

from __future__ import annotations

import csv
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from commands import qsweep

TABLES = ("trials.csv", "history.csv", "histograms.csv")
SERIAL = ("--backend", "serial", "--no-plot")
"""For a run of which it does not matter how it comes about."""


class Project:
    """A folder with specs in which `qsweep` runs."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "QSWEEP_DATA": str(data), "QSWEEP_OFFLINE": "1"}

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "qsweep", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env={**self.environment, **environment}, stdout=pipe, stderr=pipe, text=True
        )

    def run(self, *words: str, code: int = 0, **environment: str) -> str:
        """The stderr of a command with an expected exit code."""
        done = self._ended(*words, **environment)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stderr

    def out(self, *words: str) -> str:
        """The stdout of a command that is expected to succeed."""
        done = self._ended(*words)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def _ended(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return qsweep(self.folder, {**self.environment, **environment}, *words)

    def tables(self, name: str = "small", tables: Sequence[str] = TABLES) -> list[bytes]:
        return [(self.folder / "results" / name / table).read_bytes() for table in tables]

    def rows(self, name: str = "small") -> list[dict[str, str]]:
        with open(self.folder / "results" / name / "trials.csv", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def records(self) -> list[tuple[str, str]]:
        """(key, status) of all records in the store; [] if a run is still creating it."""
        store = self.folder / "results" / "store.db"
        if not store.exists():
            return []
        with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'records'").fetchall():
                return []
            return connection.execute("SELECT key, status FROM records ORDER BY id").fetchall()
