"""Whether the tables in a folder are up to date: written by the same code from the same rows and records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import qsweep
from qsweep import files
from qsweep.results.records import Record
from qsweep.spec.plan import Plan


def source_of(plan: Plan, records: Mapping[str, Record]) -> str:
    """SHA-256 of everything that tables depend on."""
    return hashlib.sha256("\n".join([_code(), plan.digest, *_checksums(plan, records)]).encode()).hexdigest()


def _checksums(plan: Plan, records: Mapping[str, Record]) -> Iterator[str]:
    for trial in plan.trials:
        for stage in (*trial.bases, trial):
            yield records[stage.key].checksum if stage.key in records else "missing"


@cache
def _code() -> str:
    """SHA-256 of the files of this package; a version or a commit would miss local changes."""
    found = hashlib.sha256()
    package = Path(qsweep.__file__).parent
    for path in sorted(package.rglob("*.py")):
        found.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each table in a folder."""
    tables = sorted(path for path in folder.glob("*.csv") if files.is_regular(path))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tables}


def are_current(folder: Path, recorded: Any, source: str) -> bool:
    """Whether the tables are the recorded ones, and were made from this source."""
    return (
        isinstance(recorded, Mapping) and recorded.get("source") == source and recorded.get("files") == digests(folder)
    )
