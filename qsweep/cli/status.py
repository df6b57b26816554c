"""The output of `status`: the number of trials of each sweep by status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from qsweep.cli.columns import WIDE, fitted
from qsweep.errors import UserError
from qsweep.results import folder, tables
from qsweep.results.records import STATUSES
from qsweep.results.store import Store


def status_lines(path: Path, width: int = WIDE) -> Iterator[str]:
    """One line per sweep: trials by status, from the store if there is one, which also has what is still running."""
    if (path / "store.db").is_file():
        counts = _store_counts(path / "store.db")
    else:
        counts = {f.name: Counter(tables.read_trials(f)["status"]) for f in folder.sweep_folders(path)}
    if not counts:
        raise UserError(f"no results in {path}: create some with `qsweep run SPEC`")
    rows = [["sweep", "trials", *STATUSES]]
    rows += [[name, str(c.total()), *(str(c[s] or "·") for s in STATUSES)] for name, c in counts.items()]
    yield from fitted(rows, width).splitlines()


def _store_counts(path: Path) -> dict[str, Counter[str]]:
    with closing(Store.view(path)) as store:
        return {name: Counter(store.statuses(keys)) for name, keys in store.plans().items()}
