"""Whether the tables in a folder are those that would be written: of the same rows and records, by the same code."""

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
    """SHA-256 of all that tables are made of."""
    return hashlib.sha256("\n".join([_code(), plan.digest, *_checksums(plan, records)]).encode()).hexdigest()


def _checksums(plan: Plan, records: Mapping[str, Record]) -> Iterator[str]:
    for trial in plan.trials:
        for stage in (*trial.bases, trial):
            yield records[stage.key].checksum if stage.key in records else "missing"


@cache
def _code() -> str:
    """Of this package's own files: a version or a commit would miss what somebody has changed."""
    found = hashlib.sha256()
    package = Path(qsweep.__file__).parent
    for path in sorted(package.rglob("*.py")):
        found.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each table that is there."""
    tables = sorted(path for path in folder.glob("*.csv") if files.is_regular(path))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tables}


def are_tables(folder: Path, noted: Any, source: str) -> bool:
    """Whether the tables are those that were noted, and were made of this source."""
    return isinstance(noted, Mapping) and noted.get("source") == source and noted.get("files") == digests(folder)
