"""A driver process over the fake job: lock, store, stacks, run. The trials come as JSON; the summary goes to stdout.

And `Driver`, by which a test starts such a process and watches it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import fake_job

import qsweep
from qsweep.errors import UserError
from qsweep.results.store import Store
from qsweep.runner import lock, schedule
from qsweep.runner.backends import backend


class Progress:
    def finished(self, records: Any) -> None:
        print(f"finished {len(records)}", file=sys.stderr, flush=True)

    def working(self, flights: Any, waiting: Any) -> None:
        pass

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def main(folder: Path, given: dict[str, Any]) -> int:
    trials = [fake_job.trial(number, do, **settings) for number, do, settings in given["trials"]]
    with lock.hold(folder, "fake", Progress().note, wait=True), closing(Store.open(folder / "store.db")) as store:
        known, _ = store.look_up([trial.key for trial in trials], fake_job.ENVIRONMENT)
        missing = schedule.missing(trials, known)
        stacks = schedule.form_stacks(missing, given["stack"], 2, lambda trial: 16, lambda trial: 1.0)
        job = partial(fake_job.run, folder=str(folder))
        store.set_plan("fake", "", [trial.key for trial in trials])
        run_id = store.begin_run({"qsweep": qsweep.__version__})
        summary = schedule.run(
            stacks, job, backend(given["backend"], 2), lambda records: store.add(records, run_id), Progress()
        )
    print(json.dumps({"known": len(known), "statuses": summary.statuses}), flush=True)
    return 128 + summary.stopped_by if summary.stopped_by else 0


class Driver:
    """A driver in a separate process."""

    def __init__(
        self, folder: Path, trials: Sequence[tuple[int, str, dict[str, Any]]], backend: str, stack: int
    ) -> None:
        self.folder = folder
        self.keys = [fake_job.trial(number, do, **settings).key for number, do, settings in trials]
        given = {"trials": trials, "backend": backend, "stack": stack}
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(folder), json.dumps(given)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, name: str, count: int) -> None:
        """Wait until the job has logged so many lines."""
        deadline = time.monotonic() + 60
        while len(fake_job.lines(self.folder, name)) < count:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def wait_for_records(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.known()) < count:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def known(self) -> set[str]:
        try:
            with closing(Store.view(self.folder / "store.db")) as store:
                statuses = zip(self.keys, store.statuses(self.keys), strict=True)
                return {key for key, status in statuses if status == "done"}
        except UserError:  # it is being created
            return set()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, dict[str, Any], str]:
        """Return exit code, summary and stderr."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, json.loads(out) if out else {}, err


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
