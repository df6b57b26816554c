"""The overhead of a trial: 10,000 trials of a job that does nothing, in stacks of 16; then again when all are known.

The part of the disk is subtracted: the same number of commits of one small row, in the same run, to a database with the
same settings. Workers are started before.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from measure import seconds, spread

from qsweep.results.store import Store
from qsweep.results.tables import trials_csv
from qsweep.runner import schedule
from qsweep.runner.backends import BACKENDS, backend
from qsweep.spec.file import read
from qsweep.spec.plan import Plan, expand
from qsweep.trial.key import key_of

N = 7
WORKERS = 2
ENVIRONMENT = "none"
SPEC = """
trial: {data: digits, model: {name: mlp, hidden: [8]}, scale: 2, rounding: stochastic, quantize: {weight: range}}
grid:
  lr: {linspace: [0.001, 0.1, 1250]}
  bitwidth: {range: [8, 1]}
"""


def job(trials: Sequence[Mapping[str, Any]], inputs: Sequence[bytes]) -> list[dict[str, Any]]:
    """Fake records of ten epochs."""
    return [record(settings, len(trials)) for settings in trials]


def record(settings: Mapping[str, Any], stack: int) -> dict[str, Any]:
    """A record of the size of a real one."""
    metrics = {"test_accuracy": 0.9123, "test_loss": 1 / 3, "train_accuracy": 0.9321, "train_loss": 2 / 3}
    return {
        "key": key_of(settings),
        "environment": ENVIRONMENT,
        "trial": settings,
        "status": "done",
        "reason": "",
        "result": metrics,
        "history": [{"stage": 0, "epoch": epoch, **metrics} for epoch in range(1, 11)],
        "run": {"seconds": 0.01, "stack": stack, "threads": 1, "device": "cpu"},
    }


class Silent:
    """Progress that shows nothing."""

    def more(self, count: int) -> None:
        pass

    def finished(self, records: Sequence[Mapping[str, Any]]) -> None:
        pass

    def working(self, flights: object, waiting: object) -> None:
        pass

    def note(self, text: str) -> None:
        pass


def run(plan: Plan, name: str, path: Path) -> tuple[float, int]:
    """Seconds of a run of all trials, and its number of commits."""
    chosen = backend(name, WORKERS)
    commits = 0
    with closing(Store.open(path)) as store:

        def commit(records: list[dict[str, Any]]) -> list[str]:
            nonlocal commits
            commits += 1
            return store.add(records, 1)

        def work() -> None:
            stacks = schedule.form_stacks(plan.trials, 16, WORKERS, lambda trial: 16, lambda trial: 1.0)
            schedule.run(stacks, job, chosen, commit, Silent())

        chosen.open().submit(job, [], []).result()
        return seconds(work), commits


def raw_commits(count: int, path: Path) -> float:
    """Seconds of `count` commits of one small row, each synced to the disk before the next."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (x)")

        def work() -> None:
            for number in range(count):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO t VALUES (?)", (number,))
                connection.execute("COMMIT")

        return seconds(work)


def look_up(plan: Plan, path: Path) -> float:
    """Seconds from opening a store to the text of the table, with all trials known."""

    def work() -> None:
        with closing(Store.open(path)) as store:
            records, damaged = store.look_up([trial.key for trial in plan.trials], ENVIRONMENT)
        assert len(records) == len(plan.trials)
        assert not damaged
        trials_csv(plan, records)

    return seconds(work)


def measure(plan: Plan, name: str, folder: Path) -> None:
    """Time runs and as many raw commits, n times after one to warm up; then look-ups of known trials."""
    count = len(plan.trials)
    pairs = []
    for number in range(N + 1):
        took, commits = run(plan, name, folder / f"{number}.db")
        pairs.append((took, raw_commits(commits, folder / f"raw {number}.db")))
    rows = {
        "in total": [1000 * took / count for took, _ in pairs[1:]],
        f"{commits} raw commits": [1000 * disk / count for _, disk in pairs[1:]],
        "beyond the disk": [1000 * (took - disk) / count for took, disk in pairs[1:]],
    }
    for what, values in rows.items():
        print(f"{name:7} {what:18} {spread(values, 3)} ms per trial")
    known = [look_up(plan, folder / "0.db") for _ in range(N + 1)][1:]
    print(f"{name:7} {'all known':18} {spread(known)} s for look-up and table")


def main() -> None:
    """Measure all backends."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        spec = Path(name) / "many.yaml"
        spec.write_text(SPEC)
        plan = expand(read(spec))
        for backend_name in BACKENDS:
            folder = Path(name) / backend_name
            folder.mkdir()
            measure(plan, backend_name, folder)


if __name__ == "__main__":
    main()
