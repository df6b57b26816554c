"""A driver process over the fake job: lock, store, stacks, run. The trials come as JSON; the summary goes to stdout."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import fake_job

from qsweep import lock, schedule
from qsweep.backends import backend
from qsweep.store import Store


class Progress:
    def finished(self, records: Any) -> None:
        print(f"finished {len(records)}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def main(folder: Path, given: dict[str, Any]) -> int:
    trials = [fake_job.trial(number, do, **settings) for number, do, settings in given["trials"]]
    with lock.hold(folder, "fake", Progress().note, wait=True), closing(Store.open(folder / "store.db")) as store:
        known, _ = store.look_up([trial.key for trial in trials], fake_job.ENVIRONMENT)
        missing = schedule.missing(trials, known)
        stacks = schedule.form_stacks(missing, given["stack"], 2, lambda trial: 16, lambda trial: 1.0)
        job = partial(fake_job.run, folder=str(folder))
        run_id = store.begin_run({})
        summary = schedule.run(
            stacks, job, backend(given["backend"], 2), lambda records: store.add(records, run_id), Progress()
        )
    print(json.dumps({"known": len(known), "statuses": summary.statuses}), flush=True)
    return 128 + summary.stopped_by if summary.stopped_by else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
