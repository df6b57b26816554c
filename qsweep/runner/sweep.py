"""One sweep from spec to figures: expand → skip what is known → train the rest → tables → figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from qsweep import files
from qsweep.data.files import data_folder, ensure
from qsweep.errors import Problem, SpecError, UserError
from qsweep.plots import Drawn
from qsweep.plots import draw as draw_plots
from qsweep.results import folder
from qsweep.results.provenance import provenance
from qsweep.results.store import FINAL, Record, Store
from qsweep.results.weights import Weights
from qsweep.runner import backends, lock, schedule
from qsweep.runner.inspection import Nets, inspect, to_inspect
from qsweep.runner.lineage import family, giving_weights, taken_over
from qsweep.runner.outlook import (
    Options,
    Outlook,
    count_known,
    data_of,
    folder_name,
    plan_of,
    refuse_if_strict,
    stacked,
    stacks_of,
    to_run,
    wanted,
)
from qsweep.runner.pace import Pace
from qsweep.runner.schedule import Flight, Progress, Stack, Summary
from qsweep.runner.search import Bisection, Found
from qsweep.spec.find import packaged
from qsweep.spec.plan import Plan
from qsweep.training import job
from qsweep.trial import environment
from qsweep.trial.key import Trial

REFRESH_SECONDS = 60.0
"""Between two writings of the tables while a sweep runs."""
REST = 20
"""Writings take turns with at least so many times their own length of other work."""


@dataclass(frozen=True)
class Result:
    """How a sweep ended."""

    folder: Path
    plan: Plan
    known: int
    elsewhere: int
    summary: Summary
    records: Mapping[str, Record]
    drawn: Drawn
    found: Found | None = None
    """What a search came to."""

    @property
    def bases(self) -> int:
        """How many of those trained have no row: others started from what they gave."""
        own = {trial.key for trial in self.plan.trials}
        return sum(key not in own for key in self.summary.trained)

    @property
    def statuses(self) -> Counter[str]:
        """Of all trials of the plan, `missing` among them."""
        return Counter(self.records[t.key].status if t.key in self.records else "missing" for t in self.plan.trials)


# --- finding specs ----------------------------------------------------------------------------------------------------


# --- running ----------------------------------------------------------------------------------------------------------


def read_all(paths: Sequence[Path], options: Options) -> list[Plan]:
    """The plans of several specs, or the mistakes of all of them.

    Raises:
        SpecError: the mistakes. UserError: two specs would write one folder, or a folder is another's.
    """
    plans: list[Plan] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            plans.append(plan_of(path, options))
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)
    _check_folders(paths, plans, options)
    return plans


def check_needs(plans: Sequence[Plan], options: Options, say: Callable[[str], None]) -> None:
    """Build the nets of several plans and get their data, so that none of these runs before all can.

    Raises:
        UserError: a library does not have a net, a trial names a place that its net lacks, a strict run has parts
            that nothing rounds, or a data set is not to be had.
    """
    for plan in plans:
        trials = to_run(plan, options)
        nets = inspect(to_inspect(trials), plan.spec.texts, say)
        refuse_if_strict(plan, nets, {}, options)
        _get_data(plan, trials, say)


def _get_data(plan: Plan, trials: Sequence[Trial], say: Callable[[str], None]) -> None:
    for dataset in data_of(plan, trials):
        ensure(dataset, data_folder(), say)


def _check_folders(paths: Sequence[Path], plans: Sequence[Plan], options: Options) -> None:
    seen: dict[str, Path] = {}
    for path, plan in zip(paths, plans, strict=True):
        name = folder_name(plan, options)
        if (other := seen.setdefault(name, path)) != path:
            raise UserError(f"{other} and {path} would both write {options.results / name}: give one another name")
        folder.claim(options.results / name, _owner(path, options.results / name), plan)


def _owner(path: Path, target: Path) -> str:
    return folder.owner_of(target, path, packaged("configs"), target.parent.parent)


def run(
    path: Path,
    options: Options,
    progress: Progress,
    begin: Callable[[Outlook], None],
    plan: Plan | None = None,
) -> Result:
    """Run a spec: train what is missing, write its folder, draw its figures.

    Args:
        plan: the spec's, where it has been read before.
        begin: told what is to be done before anything slow happens.

    Raises:
        UserError: whatever the user can mend; records that were committed before are safe.
    """
    environment.check_variables()
    plan = plan or plan_of(path, options)
    for note in plan.notes:
        progress.note(note)
    target = options.results / folder_name(plan, options)
    owner = _owner(path, target)
    with lock.hold(options.results, f"run {plan.spec.name}", progress.note, wait=options.wait):
        if taken := folder.claim(target, owner, plan):
            progress.note(taken)
        for place in (options.results, options.results / "weights", target, target / "figures"):
            files.clean(place)
        if changed := folder.change(target, plan):
            progress.note(f"{plan.spec.name}: {changed}")
        with closing(Store.open(options.results / "store.db")) as store:
            return _run(plan, owner, target, store, options, progress, begin)


def _run(
    plan: Plan,
    owner: str,
    target: Path,
    store: Store,
    options: Options,
    progress: Progress,
    begin: Callable[[Outlook], None],
) -> Result:
    device = environment.choose(options.device)
    here = environment.describe(device)
    keys = [trial.key for trial in plan.trials]
    weights = Weights.beside(options.results, here)
    everyone = [trial.key for trial in family(plan.trials)]
    bases = sorted(set(everyone) - set(keys))
    records, damaged = store.look_up(everyone, here)
    if damaged:
        progress.note(f"{len(damaged)} damaged rows in the store are set aside; their trials are trained again")
    trials = wanted(plan, records, weights, options)
    nets = inspect(to_inspect(trials), plan.spec.texts, progress.note)
    failing = [trial for trial in trials if nets.failing(trial)]
    lacking = refuse_if_strict(plan, nets, records, options)
    is_changed = bool(trials)
    stacks = stacks_of(plan, trials, nets, options)
    known = count_known(plan, records)
    pace = Pace(options.at_once, store.timings(here) if stacks else [])
    begin(Outlook(plan, target.name, known, stacks, pace, failing, nets, lacking))
    _get_data(plan, stacked(stacks), progress.note)  # before anything is written: without data there is no sweep
    if is_changed and target.name not in store.plans() and (kept := folder.set_aside(target)):
        progress.note(f"{target} has results that are not in this store: its tables are kept in {kept}")
    store.set_plan(target.name, plan.digest, keys, bases)
    store.keep_sources(plan.spec.texts)
    origin = provenance()

    def write() -> None:
        folder.write(target, plan, owner, store.look_up(everyone, here)[0] if is_changed else records, origin)

    summary = Summary()
    ended: dict[str, Mapping[str, Any]] = {}
    if is_changed:
        write()  # so that `table` and `plot` show the plan, and soon what has finished
        progress = Refreshing(progress, write)
    try:
        summary += _give_up(failing, nets, device, store, origin, ended)
        while stacks and not summary.is_over(options.exit_first):
            summary += _train(plan, stacks, store, weights, device, origin, options, progress, ended)
            stacks = []
            if plan.spec.search and not summary.is_over(options.exit_first):
                records, _ = store.look_up(everyone, here)
                stacks = stacks_of(plan, wanted(plan, records, weights, options, ended.keys()), nets, options)
                progress.more(sum(map(len, stacks)))
    finally:  # whatever happened, the table shows what the store has
        write()
    records, _ = store.look_up(everyone, here) if is_changed else (records, [])
    elsewhere = sum(records[k].environment != here and records[k].status in FINAL for k in keys if k in records)
    drawn = _drawn(target) if options.plot and summary.stopped_by is None else Drawn()
    search = plan.spec.search
    found = Bisection(plan, search).found(records) if search else None
    return Result(target, plan, known, elsewhere, summary, records, drawn, found)


class Refreshing:
    """A progress that also writes a sweep's tables again, about once a minute, while stacks train."""

    def __init__(self, progress: Progress, write: Callable[[], None]) -> None:
        self._progress = progress
        self._write = write
        self._is_stale = False
        self._due = monotonic() + REFRESH_SECONDS

    def more(self, count: int) -> None:
        self._progress.more(count)

    def finished(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._is_stale = True
        self._progress.finished(records)
        self._refresh()

    def working(self, flights: Sequence[Flight], waiting: Sequence[Stack]) -> None:
        self._progress.working(flights, waiting)
        self._refresh()

    def note(self, text: str) -> None:
        self._progress.note(text)

    def _refresh(self) -> None:
        begun = monotonic()
        if not self._is_stale or begun < self._due:
            return
        try:
            self._write()
        except UserError as error:  # the tables are written at the end once more: what trains goes on
            self._progress.note(f"the tables are not refreshed: {error}")
        self._is_stale = False
        self._due = monotonic() + max(REFRESH_SECONDS, REST * (monotonic() - begun))


def _give_up(
    trials: Sequence[Trial],
    nets: Nets,
    device: str,
    store: Store,
    origin: Mapping[str, Any],
    ended: dict[str, Mapping[str, Any]],
) -> Summary:
    """Commit that trials have failed whose nets can not be built."""
    records = [job.unbuilt(t.settings, own.failure, device) for t in trials if (own := nets.of(t)) and own.failure]
    ended |= {record["key"]: record for record in records}
    if records:
        store.add(records, store.begin_run(origin))
    return Summary(statuses=Counter(record["status"] for record in records))


def _train(
    plan: Plan,
    stacks: Sequence[Stack],
    store: Store,
    weights: Weights,
    device: str,
    origin: Mapping[str, Any],
    options: Options,
    progress: Progress,
    ended: dict[str, Mapping[str, Any]],
) -> Summary:
    """Run all stacks, one stage after the other: what a stage starts from must be there.

    Args:
        ended: the records of this run, by key; those that are made now are added.
    """
    place = data_folder()
    trials = stacked(stacks)
    train = partial(
        job.train_stack,
        sources=plan.spec.texts,
        data_folder=str(place.resolve()),
        device=device,
        timeout=options.timeout,
        kept=giving_weights(trials),
    )
    backend = backends.backend(options.backend, options.workers)
    run_id = store.begin_run(origin)

    def commit(records: Sequence[Mapping[str, Any]]) -> list[str]:
        for record in records:
            ended[record["key"]] = record
            if "weights" in record:  # before the record, which says that they are there
                record["run"]["weights"] = weights.put(record["key"], record["weights"])
        return store.add(records, run_id)

    summary = Summary()
    for stage in sorted({len(trial.bases) for trial in trials}):
        own = [stack for stack in stacks if len(stack[0].bases) == stage]
        ready = _ready(own, store, weights, ended, commit, progress) if stage else own
        summary += schedule.run(ready, train, backend, commit, progress, options.exit_first, partial(_start, weights))
        if summary.is_over(options.exit_first):
            break
    return summary


def _ready(
    stacks: Sequence[Stack],
    store: Store,
    weights: Weights,
    ended: Mapping[str, Mapping[str, Any]],
    commit: Callable[..., list[str]],
    progress: Progress,
) -> list[Stack]:
    """The trials whose bases gave weights. Those whose bases ended otherwise take that over; the others must wait.

    Args:
        ended: the records of this run, by key.
    """
    trials = [trial for stack in stacks for trial in stack]
    ready = {trial.key for trial in trials if weights.get(trial.bases[-1].key) is not None}
    others = {trial.key: trial.bases[-1].key for trial in trials if trial.key not in ready}
    known, _ = store.look_up(others.values(), weights.environment)
    verdicts = {key: (record.status, record.reason) for key, record in known.items()}
    verdicts |= {key: (record["status"], record["reason"]) for key, record in ended.items()}
    over = [
        taken_over(trial, *verdicts[others[trial.key]], weights.environment)
        for trial in trials
        if verdicts.get(others.get(trial.key, ""), ("done", ""))[0] != "done"
    ]
    if over:
        commit(over)
        progress.finished(over)
    return [kept for stack in stacks if (kept := tuple(trial for trial in stack if trial.key in ready))]


def _start(weights: Weights, trial: Trial) -> bytes | None:
    """What a trial's last stage starts from.

    Raises:
        UserError: it was there, and is there no more.
    """
    if not trial.bases:
        return None
    content = weights.get(trial.bases[-1].key)
    if content is None:
        raise UserError(f"the weights of {trial.bases[-1].key[:10]} are gone from {weights.folder}: run again")
    return content


def exit_code(result: Result) -> int:
    """0 if all is known for good; 1 if a trial failed or a promise broke; 2 if a figure could not be drawn; 130 or 143
    if it was interrupted."""
    if result.summary.stopped_by is not None:
        return 128 + int(result.summary.stopped_by)
    bad = result.statuses.keys() - set(FINAL) - ({"missing"} if result.found else set())
    return 1 if bad or result.summary.conflicts else 2 if result.drawn.failures else 0


# --- drawing ----------------------------------------------------------------------------------------------------------


def _drawn(target: Path) -> Drawn:
    """The figures of a run that has ended, whose summary is worth more than a complaint about them."""
    try:
        return draw(target)
    except UserError as error:
        return Drawn(failures=(str(error),))


def draw(target: Path, plots: Sequence[Mapping[str, Any]] | None = None) -> Drawn:
    """Draw a sweep folder's figures, from its own tables and the plots of its spec (or other plots).

    Raises:
        UserError: the folder has no tables, or a plot is incomplete.
    """
    spec = folder.read_spec(target)
    wanted = spec.get("plots", []) if plots is None else plots
    if not wanted:
        return Drawn()

    from qsweep.results import tables

    trials, histograms, timings = (
        read_table(target) for read_table in (tables.read_trials, tables.read_histograms, tables.read_timings)
    )
    # large histories are not kept beside every published table, and only plots over epochs read them
    history = tables.read_history(target) if _are_over_epochs(wanted) else trials.iloc[:0]
    seconds = dict(zip(timings["key"], timings["seconds"], strict=True))
    timed = trials.assign(seconds=trials["key"].map(seconds))
    title = str(spec.get("title") or target.name)
    return draw_plots(timed, history, wanted, target / "figures", title, histograms)


def _are_over_epochs(plots: Sequence[Mapping[str, Any]]) -> bool:
    return isinstance(plots, list | tuple) and any(isinstance(p, Mapping) and p.get("x") == "epoch" for p in plots)


# --- pruning ----------------------------------------------------------------------------------------------------------


def prune(results: Path, delete: bool) -> tuple[int, int]:
    """Of how many trials weights are kept that no sweep needs, and their bytes; deleted, if that is asked for.

    Raises:
        UserError: there is no store, or the weights' folder can't be written.
    """
    with closing(Store.view(results / "store.db")) as store:
        weights = Weights.beside(results, "")
        planned = store.planned()
        found = {key: size for key, size in weights.owners().items() if key not in planned}
    for key in found if delete else ():
        weights.delete(key)
    return len(found), sum(found.values())
