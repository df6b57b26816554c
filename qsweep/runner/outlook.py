"""What running a spec would do: which trials are known or to be trained, in which stacks, and for how long."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from qsweep.data.catalog import DataSet
from qsweep.data.files import Lacking, data_folder, lacking
from qsweep.errors import UserError, unknown
from qsweep.parameter import show
from qsweep.results.records import Record
from qsweep.results.store import Store
from qsweep.results.weights import Weights
from qsweep.runner import schedule
from qsweep.runner.backends import BACKENDS
from qsweep.runner.inspection import (
    Nets,
    check_places,
    idle_roles,
    inspect,
    may_leave_parts_out,
    not_rounded,
    rounds_flows,
    to_inspect,
)
from qsweep.runner.lineage import family, needed
from qsweep.runner.pace import Pace
from qsweep.runner.schedule import Stack
from qsweep.runner.search import Bisection
from qsweep.spec.file import NAME, NAME_RULE, STORE_FILE, read
from qsweep.spec.plan import Plan, expand
from qsweep.trial import cost, environment
from qsweep.trial.environment import DEVICES
from qsweep.trial.key import Trial

STACK_LIMIT = 16
"""Maximum trials per stack on a CPU: more gain nothing, and their weights no longer fit in its caches."""

WORKER_OVERHEAD = 700 * 1024 * 1024
"""The memory of a worker without a trial, mostly for torch."""


MOST_STACK = 512
MOST_WORKERS = 1024


@dataclass(frozen=True)
class Options:
    """How to run a sweep. Options never change results.

    Raises:
        UserError: options are invalid; the message lists all of them.
    """

    results: Path = Path("results")
    workers: int = 1
    backend: str = "local"
    device: str = "auto"
    overrides: tuple[str, ...] = ()
    name: str | None = None
    stack: int = STACK_LIMIT
    timeout: float | None = None
    force: bool = False
    exit_first: bool = False
    plot: bool = True
    wait: bool = True
    strict: bool = False

    def __post_init__(self) -> None:
        if mistakes := list(_mistakes(self)):
            raise UserError("\n".join(mistakes))

    @property
    def at_once(self) -> int:
        """The number of stacks that train at once."""
        return 1 if self.backend == "serial" else self.workers


def _mistakes(options: Options) -> Iterator[str]:
    for name, most in (("workers", MOST_WORKERS), ("stack", MOST_STACK)):
        found = getattr(options, name)
        if not isinstance(found, int) or not 1 <= found <= most:
            yield f"{name}: found {show(found)}, expected an integer from 1 to {most:,}"
    limit = options.timeout
    if limit is not None and not (isinstance(limit, int | float) and limit > 0 and math.isfinite(limit)):
        yield f"timeout: found {show(limit)}, expected a number of seconds above 0"
    for what, given, allowed in (("backend", options.backend, BACKENDS), ("device", options.device, DEVICES)):
        if given not in allowed:
            yield unknown(what, given, allowed)
    if options.name is not None and not (isinstance(options.name, str) and NAME.fullmatch(options.name)):
        yield f"name: found {show(options.name)}, expected {NAME_RULE}"


class Estimate(NamedTuple):
    """The wall seconds of those trials for which similar ones have run, and the number of these trials."""

    seconds: float
    trials: int


class Unmet(NamedTuple):
    """What trials ask to quantize and nothing does, by model.

    Attributes:
        not_rounded: parts of nets that roles name and nothing rounds.
        idle: roles, and parts to compress, that nothing in the net has.
    """

    not_rounded: Mapping[str, Sequence[str]]
    idle: Mapping[str, Sequence[str]]

    def lines(self, most: int | None = None) -> Iterator[str]:
        """In words; only the first `most` parts of each net."""
        for model, own in self.idle.items():
            yield f"quantized without effect in {model}: {', '.join(own)}"
        for model, own in self.not_rounded.items():
            more = len(own) - len(own[:most])
            rest = f" and {more} more (`-n` lists them)" if more else ""
            yield f"not rounded in {model}: {', '.join(own[:most])}{rest}"


@dataclass(frozen=True)
class Outlook:
    """What a run would do: the plan, its known trials, the stacks of the others, and the pace of training.

    Attributes:
        failing: trials that are to run but whose nets can't be built.
        unmet: what trials ask to quantize and nothing does.
        lacking: missing data sets that the run needs.
    """

    plan: Plan
    folder_name: str
    known: int
    stacks: Sequence[Stack]
    pace: Pace
    failing: Sequence[Trial]
    nets: Nets
    unmet: Unmet
    lacking: Sequence[Lacking] = ()

    @property
    def time(self) -> Estimate:
        """How long the stacks take, estimated from measured trials."""
        return estimate(self.stacks, self.pace)

    @property
    def missing(self) -> int:
        return sum(map(len, self.stacks))

    @property
    def bases(self) -> int:
        """How many of the missing trials have no row: other trials start from their weights."""
        own = {trial.key for trial in self.plan.trials}
        return sum(trial.key not in own for stack in self.stacks for trial in stack)


def plan_of(path: Path, options: Options) -> Plan:
    """The plan of a spec file with the overrides of the options."""
    return expand(read(path, options.overrides, shown=str(path)))


def outlook(path: Path, options: Options, say: Callable[[str], None]) -> Outlook:
    """What running a spec would do. Nothing is written or trained.

    Raises:
        UserError: it can't be run.
    """
    return look(plan_of(path, options), options, say)


def look(plan: Plan, options: Options, say: Callable[[str], None]) -> Outlook:
    """What running a plan would do. Nothing is written or trained."""
    here = environment.describe(environment.choose(options.device))
    records = _known(plan, options, here)
    trials = wanted(plan, records, Weights.beside(options.results, here), options)
    shown = [trial for trial in plan.configurations if _is_reported(trial)]
    nets = inspect([*to_inspect(trials), *shown], plan.spec, say)
    check_places(plan, nets)
    stacks = stacks_of(plan, trials, nets, options)
    known, pace = count_known(plan, records), Pace(options.at_once, _timings(options, here) if stacks else [])
    failing, unmet = [t for t in trials if nets.failing(t)], refuse_if_strict(plan, nets, records, options)
    absent = [found for data in data_of(plan, stacked(stacks)) if (found := lacking(data, data_folder()))]
    return Outlook(plan, folder_name(plan, options), known, stacks, pace, failing, nets, unmet, absent)


def _is_reported(trial: Trial) -> bool:
    """Whether something is reported of a trial's net: its places, short groups, or what nothing rounds."""
    return trial.view.names_places or trial.view.has_groups or rounds_flows(trial) or may_leave_parts_out(trial)


def data_of(plan: Plan, trials: Sequence[Trial]) -> list[DataSet]:
    """The data sets that trials need; those of the whole plan for a search, which chooses further trials later."""
    needing = plan.trials if trials and plan.spec.search else trials
    by_name = {trial.view.data.name: trial.view for trial in needing}
    return [by_name[name].data_set for name in sorted(by_name)]


def stacked(stacks: Sequence[Stack]) -> list[Trial]:
    """The trials of stacks."""
    return [trial for stack in stacks for trial in stack]


def refuse_if_strict(plan: Plan, nets: Nets, records: Mapping[str, Record], options: Options) -> Unmet:
    """What trials ask to quantize and nothing does.

    Raises:
        UserError: there are some, and the run is strict.
    """
    found = Unmet(not_rounded(family(plan.trials), nets, records), idle_roles(plan.configurations, nets))
    if options.strict and (lines := [f"{plan.spec.name}: {line}" for line in found.lines()]):
        raise UserError("\n".join([*lines, "--strict: use other roles, change the net, or omit --strict"]))
    return found


def _known(plan: Plan, options: Options, here: str) -> Mapping[str, Record]:
    """The records of a plan in the store; {} if there is no store yet."""
    path = options.results / STORE_FILE
    if not path.is_file():
        return {}
    with closing(Store.view(path)) as store:
        return store.look_up([t.key for t in family(plan.trials)], here)[0]


def _timings(options: Options, here: str) -> Sequence[tuple[dict[str, Any], float]]:
    """The settings and seconds of the trials of all sweeps; [] if there is no store yet."""
    path = options.results / STORE_FILE
    if not path.is_file():
        return []
    with closing(Store.view(path)) as store:
        return store.timings(here)


def to_run(plan: Plan, options: Options) -> list[Trial]:
    """The trials that a run of a plan would train first. Nothing is written."""
    here = environment.describe(environment.choose(options.device))
    records = _known(plan, options, here)
    return wanted(plan, records, Weights.beside(options.results, here), options)


def count_known(plan: Plan, records: Mapping[str, Record]) -> int:
    """How many trials of a plan have a final record."""
    return len(plan.trials) - len(schedule.missing(plan.trials, records))


def stacks_of(plan: Plan, trials: Sequence[Trial], nets: Nets, options: Options) -> list[Stack]:
    """Stacks of the trials that can be trained, earlier stages first."""
    memory = max(_free_memory() // options.at_once - WORKER_OVERHEAD, 0)

    def fits(trial: Trial) -> int:
        return cost.stack_fits(trial.view, memory) if nets.stack(trial) else 1

    def formed(trials: Sequence[Trial]) -> list[Stack]:
        return schedule.form_stacks(trials, limit, options.at_once, fits, lambda trial: cost.work(trial.view))

    limit = min(options.stack, plan.spec.stack or options.stack)
    ready = [trial for trial in trials if not nets.failing(trial)]
    return [stack for _, own in groupby(ready, lambda trial: len(trial.bases)) for stack in formed(list(own))]


def wanted(
    plan: Plan, records: Mapping[str, Record], weights: Weights, options: Options, tried: Collection[str] = ()
) -> list[Trial]:
    """The trials to run, earlier stages first; for a search, those that it needs now.

    Args:
        tried: keys of trials with a record of this run: failed ones are not retried.
    """
    search = plan.spec.search
    if options.force and search:
        raise UserError("--force retrains a whole grid, but this spec has a search: remove `search` to use --force")
    if options.force:
        return sorted(family(plan.trials), key=lambda trial: len(trial.bases))
    missing = Bisection(plan, search).wanted(records, tried) if search else schedule.missing(plan.trials, records)
    return [t for t in needed(missing, records, lambda key: weights.get(key) is not None) if t.key not in tried]


def _free_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def estimate(stacks: Sequence[Stack], pace: Pace) -> Estimate:
    """Estimate from records of similar trials, which differ only in seed and stacking parameters."""
    known = [(pace.of(stack), len(stack)) for stack in stacks if pace.has_like(stack)]
    return Estimate(sum(spent for spent, _ in known) / pace.workers, sum(count for _, count in known))


def folder_name(plan: Plan, options: Options) -> str:
    """The name of the sweep's folder in the results folder."""
    return options.name or plan.spec.folder
