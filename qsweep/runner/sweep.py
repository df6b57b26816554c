"""Runs a sweep from spec to figures: expand → skip known trials → train the others → tables → figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from qsweep import files
from qsweep.data.files import data_folder
from qsweep.errors import UserError
from qsweep.plots import Drawn
from qsweep.plots.folder import draw_folder
from qsweep.results import folder
from qsweep.results.provenance import provenance
from qsweep.results.records import FINAL, Record
from qsweep.results.store import Store
from qsweep.results.weights import Weights
from qsweep.runner import backends, lock, schedule
from qsweep.runner.checks import get_data, owner_of
from qsweep.runner.inspection import Nets, check_places, file_of, inspect, to_inspect
from qsweep.runner.lineage import family, storing_weights, taken_over
from qsweep.runner.outlook import (
    Options,
    Outlook,
    count_known,
    folder_name,
    plan_of,
    refuse_if_strict,
    stacked,
    stacks_of,
    wanted,
)
from qsweep.runner.pace import Pace
from qsweep.runner.refresh import Refreshing
from qsweep.runner.schedule import Progress, Stack, Summary
from qsweep.runner.search import Bisection, Found
from qsweep.spec.plan import Plan
from qsweep.training import job
from qsweep.training.failures import with_file
from qsweep.trial import environment
from qsweep.trial.key import Trial


@dataclass(frozen=True)
class Result:
    """The outcome of a sweep."""

    folder: Path
    plan: Plan
    known: int
    elsewhere: int
    summary: Summary
    records: Mapping[str, Record]
    drawn: Drawn
    found: Found | None = None
    """The result of a search."""

    @property
    def bases(self) -> int:
        """How many of the trained trials have no row: other trials started from their weights."""
        own = {trial.key for trial in self.plan.trials}
        return sum(key not in own for key in self.summary.trained)

    @property
    def statuses(self) -> Counter[str]:
        """The number of trials of the plan by status, including `missing`."""
        return Counter(self.records[t.key].status if t.key in self.records else "missing" for t in self.plan.trials)


def run(
    path: Path,
    options: Options,
    progress: Progress,
    begin: Callable[[Outlook], None],
    plan: Plan | None = None,
) -> Result:
    """Run a spec: train what is missing, write its folder, draw its figures.

    Args:
        plan: the plan of the spec, if it has been read already.
        begin: called with the outlook before anything slow happens.

    Raises:
        UserError: any error that the user can fix; committed records are safe.
    """
    environment.check_variables()
    plan = plan or plan_of(path, options)
    for note in plan.notes:
        progress.note(note)
    target = options.results / folder_name(plan, options)
    owner = owner_of(path, target)
    with lock.hold(options.results, f"run {plan.spec.name}", progress.note, wait=options.wait):
        if taken := folder.claim(target, owner, plan):
            progress.note(taken)
        for place in (options.results, options.results / "weights", target, target / "figures"):
            files.clean(place)
        if changed := folder.change(target, plan):
            progress.note(f"{plan.spec.name}: {changed}")
        with closing(Store.open(options.results / "store.db")) as store:
            return _Sweep(plan, owner, target, store, options, progress).run(begin)


class _Sweep:
    """A running sweep.

    Attributes:
        here: the environment that its trials train in.
        everyone: keys of its trials and of their bases.
        files: the user's file, as the spec names it, of each trial with an own net, by key.
        ended: the records of this run, by key.
    """

    def __init__(
        self, plan: Plan, owner: str, target: Path, store: Store, options: Options, progress: Progress
    ) -> None:
        self.plan = plan
        self.owner = owner
        self.target = target
        self.store = store
        self.options = options
        self.progress = progress
        self.device = environment.choose(options.device)
        self.here = environment.describe(self.device)
        self.weights = Weights.beside(options.results, self.here)
        self.everyone = [trial.key for trial in family(plan.trials)]
        self.files = {trial.key: file_of(trial) for trial in family(plan.trials) if trial.view.source}
        self.ended: dict[str, Mapping[str, Any]] = {}

    def run(self, begin: Callable[[Outlook], None]) -> Result:
        plan, options, note = self.plan, self.options, self.progress.note
        records, damaged = self.store.look_up(self.everyone, self.here)
        if damaged:
            note(f"{len(damaged)} damaged rows in the store are set aside; their trials are retrained")
        trials = wanted(plan, records, self.weights, options)
        nets = inspect(to_inspect(trials), plan.spec, note)
        check_places(plan, nets)
        failing = [trial for trial in trials if nets.failing(trial)]
        unmet = refuse_if_strict(plan, nets, records, options)
        stacks = stacks_of(plan, trials, nets, options)
        known = count_known(plan, records)
        pace = Pace(options.at_once, self.store.timings(self.here) if stacks else [])
        begin(Outlook(plan, self.target.name, known, stacks, pace, failing, nets, unmet))
        get_data(plan, stacked(stacks), note)  # before anything is written, since without data there is no sweep
        self._keep_plan(is_changed=bool(trials))
        summary = Summary()
        if trials:
            summary = self._train_all(failing, stacks, nets)
            records = self._records()
        else:
            self._write(records)
        drawn = self._drawn() if options.plot and summary.stopped_by is None else Drawn()
        found = Bisection(plan, plan.spec.search).found(records) if plan.spec.search else None
        return Result(self.target, plan, known, self._elsewhere(records), summary, records, drawn, found)

    def _keep_plan(self, is_changed: bool) -> None:
        """Store the keys of the sweep. Tables of records that are not in the store are copied first."""
        name = self.target.name
        if is_changed and name not in self.store.plans() and (kept := folder.set_aside(self.target)):
            self.progress.note(f"{self.target} has results that are not in this store: its tables are kept in {kept}")
        keys = [trial.key for trial in self.plan.trials]
        self.store.set_plan(name, self.plan.digest, keys, sorted(set(self.everyone) - set(keys)))
        self.store.keep_sources(self.plan.spec.texts)

    def _records(self) -> dict[str, Record]:
        """The current records of the sweep."""
        return self.store.look_up(self.everyone, self.here)[0]

    def _elsewhere(self, records: Mapping[str, Record]) -> int:
        """How many trials have their record from another environment."""
        own = [records[trial.key] for trial in self.plan.trials if trial.key in records]
        return sum(record.environment != self.here and record.status in FINAL for record in own)

    # tables and figures

    @cached_property
    def _origin(self) -> dict[str, Any]:
        return provenance()

    def _write(self, records: Mapping[str, Record]) -> None:
        folder.write(self.target, self.plan, self.owner, records, self._origin)

    def _refresh(self) -> None:
        """Write the tables of the current records."""
        self._write(self._records())

    def _drawn(self) -> Drawn:
        """Draw the figures after a run. An error is reported after the summary instead of raised."""
        try:
            return draw_folder(self.target)
        except UserError as error:
            return Drawn(failures=(str(error),))

    # training

    def _train_all(self, failing: Sequence[Trial], stacks: list[Stack], nets: Nets) -> Summary:
        """Train stacks, then the trials that a search needs.

        Args:
            failing: trials whose nets can't be built.
        """
        self._refresh()  # so that `table` and `plot` show the plan, and later finished trials
        self.progress = Refreshing(self.progress, self._refresh)
        summary = Summary()
        try:
            summary += self._give_up(failing, nets)
            while stacks and not summary.is_over(self.options.exit_first):
                summary += self._train(stacks)
                is_searching = self.plan.spec.search and not summary.is_over(self.options.exit_first)
                stacks = self._more(nets) if is_searching else []
        finally:  # the table shows the records of the store in any case
            self._refresh()
        return summary

    def _give_up(self, trials: Sequence[Trial], nets: Nets) -> Summary:
        """Commit failures of trials whose nets can't be built."""
        failures = [(trial, own.failure) for trial in trials if (own := nets.of(trial)) and own.failure]
        records = [job.unbuilt(trial.settings, failure, self.device) for trial, failure in failures]
        if records:
            self._commit(self.store.begin_run(self._origin), records)
        return Summary(statuses=Counter(record["status"] for record in records))

    def _more(self, nets: Nets) -> list[Stack]:
        """The stacks that a search needs next."""
        trials = wanted(self.plan, self._records(), self.weights, self.options, self.ended.keys())
        stacks = stacks_of(self.plan, trials, nets, self.options)
        self.progress.more(sum(map(len, stacks)))
        return stacks

    def _train(self, stacks: Sequence[Stack]) -> Summary:
        """Run all stacks, one stage after the other, since a stage starts from the weights of an earlier one."""
        trials = stacked(stacks)
        train = job.Job(
            self.plan.spec.texts, data_folder().resolve(), self.device, self.options.timeout, storing_weights(trials)
        )
        backend = backends.backend(self.options.backend, self.options.workers)
        commit = partial(self._commit, self.store.begin_run(self._origin))
        is_exiting = self.options.exit_first
        summary = Summary()
        for stage in sorted({len(trial.bases) for trial in trials}):
            own = [stack for stack in stacks if len(stack[0].bases) == stage]
            ready = self._ready(own, commit) if stage else own
            summary += schedule.run(ready, train, backend, commit, self.progress, is_exiting, self._start)
            if summary.is_over(is_exiting):
                break
        return summary

    def _commit(self, run_id: int, records: Sequence[dict[str, Any]]) -> list[str]:
        """Store records; return the keys of conflicting ones."""
        for record in records:
            if record["key"] in self.files and record["status"] not in FINAL:
                record.update(with_file(record, self.files[record["key"]]))
            self.ended[record["key"]] = record
            if "weights" in record:  # before the record, which promises that they exist
                record["run"]["weights"] = self.weights.put(record["key"], record["weights"])
        return self.store.add(records, run_id)

    def _ready(self, stacks: Sequence[Stack], commit: Callable[..., list[str]]) -> list[Stack]:
        """The stacks of trials whose bases have weights. If a base has none, its trials get its outcome, or wait if it
        has not run."""
        trials = [trial for stack in stacks for trial in stack]
        ready = {trial.key for trial in trials if self.weights.get(trial.bases[-1].key) is not None}
        others = {trial.key: trial.bases[-1].key for trial in trials if trial.key not in ready}
        known, _ = self.store.look_up(others.values(), self.here)
        verdicts = {key: (record.status, record.reason) for key, record in known.items()}
        verdicts |= {key: (record["status"], record["reason"]) for key, record in self.ended.items()}
        over = [
            taken_over(trial, *verdicts[others[trial.key]], self.here)
            for trial in trials
            if verdicts.get(others.get(trial.key, ""), ("done", ""))[0] != "done"
        ]
        if over:
            commit(over)
            self.progress.finished(over)
        return [kept for stack in stacks if (kept := tuple(trial for trial in stack if trial.key in ready))]

    def _start(self, trial: Trial) -> bytes | None:
        """The weights that a trial's last stage starts from.

        Raises:
            UserError: they no longer exist.
        """
        if not trial.bases:
            return None
        content = self.weights.get(trial.bases[-1].key)
        if content is None:
            raise UserError(
                f"the weights of {trial.bases[-1].key[:10]} have disappeared from {self.weights.folder}: run again"
            )
        return content


def exit_code(result: Result) -> int:
    """0 if all records are final; 1 if a trial failed or records conflict; 2 if a figure could not be drawn; 130 or 143
    if the run was interrupted."""
    if result.summary.stopped_by is not None:
        return 128 + int(result.summary.stopped_by)
    bad = result.statuses.keys() - set(FINAL) - ({"missing"} if result.found else set())
    return 1 if bad or result.summary.conflicts else 2 if result.drawn.failures else 0
