"""What running a spec would do: what is known, what is to be trained, in which stacks, and how long that takes."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from qsweep import cost, environment, schedule
from qsweep.architectures import architecture_of
from qsweep.errors import UserError
from qsweep.lineage import family, needed
from qsweep.plan import Plan, expand
from qsweep.schedule import Stack
from qsweep.search import Bisection
from qsweep.spec import read
from qsweep.store import Record, Store
from qsweep.trial import Trial, stack_signature
from qsweep.weights import Weights

STACK_LIMIT = 16
"""Trials a stack at most on a CPU: more gain nothing, and their weights fall out of its caches."""

WORKER_OVERHEAD = 700 * 1024 * 1024
"""What a worker takes before it holds a trial: torch, mostly."""


@dataclass(frozen=True)
class Options:
    """How to run; none of it changes a number."""

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

    @property
    def at_once(self) -> int:
        """How many stacks train at once."""
        return 1 if self.backend == "serial" else self.workers


class Estimate(NamedTuple):
    """The wall seconds of those trials to which like ones have run, and how many these are."""

    seconds: float
    trials: int


@dataclass(frozen=True)
class Outlook:
    """What a run would do: the plan, what is known of it, the stacks of the rest, and how long they would take."""

    plan: Plan
    folder_name: str
    known: int
    stacks: Sequence[Stack]
    time: Estimate

    @property
    def missing(self) -> int:
        return sum(map(len, self.stacks))

    @property
    def bases(self) -> int:
        """How many of the missing have no row: others start from what they give."""
        own = {trial.key for trial in self.plan.trials}
        return sum(trial.key not in own for stack in self.stacks for trial in stack)


def plan_of(path: Path, options: Options) -> Plan:
    """The plan of a spec file under the options' overrides."""
    return expand(read(path, options.overrides, shown=str(path)))


def outlook(path: Path, options: Options) -> Outlook:
    """What running a spec would do; nothing is written or trained."""
    plan = plan_of(path, options)
    device = environment.choose(options.device)
    records: Mapping[str, Record] = {}
    here = environment.describe(device)
    timings: list[tuple[dict[str, Any], float]] = []
    store_path = options.results / "store.db"
    if store_path.is_file():
        with closing(Store.view(store_path)) as store:
            records, _ = store.look_up([t.key for t in family(plan.trials)], here)
            timings = store.timings(here)
    stacks = stacks_of(plan, records, Weights.beside(options.results, here), options)
    return Outlook(
        plan, folder_name(plan, options), count_known(plan, records), stacks, estimate(stacks, timings, options.at_once)
    )


def count_known(plan: Plan, records: Mapping[str, Record]) -> int:
    """How many trials of a plan have a record for good."""
    return len(plan.trials) - len(schedule.missing(plan.trials, records))


def stacks_of(
    plan: Plan, records: Mapping[str, Record], weights: Weights, options: Options, tried: Collection[str] = ()
) -> list[Stack]:
    """Stacks of all that is to run, those of earlier stages first; of a search, what it needs now.

    Args:
        tried: keys of what this run has a record of: what failed is not tried again.
    """
    wanted = _wanted(plan, records, weights, options, tried)
    memory = max(_free_memory() // options.at_once - WORKER_OVERHEAD, 0)

    def fits(trial: Trial) -> int:
        return cost.stack_fits(trial.settings, memory) if _may_stack(trial) else 1

    def formed(trials: Sequence[Trial]) -> list[Stack]:
        return schedule.form_stacks(trials, limit, options.at_once, fits, lambda trial: cost.work(trial.settings))

    limit = min(options.stack, plan.spec.stack or options.stack)
    return [stack for _, own in groupby(wanted, lambda trial: len(trial.bases)) for stack in formed(list(own))]


def _wanted(
    plan: Plan, records: Mapping[str, Record], weights: Weights, options: Options, tried: Collection[str]
) -> list[Trial]:
    search = plan.spec.search
    if options.force and search:
        raise UserError("--force measures a whole grid again, and this spec searches in it: take `search` out for that")
    if options.force:
        return sorted(family(plan.trials), key=lambda trial: len(trial.bases))
    missing = Bisection(plan, search).wanted(records, tried) if search else schedule.missing(plan.trials, records)
    return [t for t in needed(missing, records, lambda key: weights.get(key) is not None) if t.key not in tried]


def _may_stack(trial: Trial) -> bool:
    """Whether a net trains in stacks; of an open model it takes building it to know, so that it may."""
    known = architecture_of(trial.settings["model"])
    return known is None or known.stacks


def _free_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def estimate(stacks: Sequence[Stack], timings: Sequence[tuple[dict[str, Any], float]], workers: int) -> Estimate:
    """From records of like trials: all but seed and stacking parameters equal."""
    seconds: dict[str, list[float]] = {}
    for settings, spent in timings:
        seconds.setdefault(_likeness(settings), []).append(spent)
    likes = [(seconds.get(_likeness(stack[0].settings), []), len(stack)) for stack in stacks]
    known = [(sum(own) / len(own) * count, count) for own, count in likes if own]
    return Estimate(sum(spent for spent, _ in known) / workers, sum(count for _, count in known))


def _likeness(settings: Mapping[str, Any]) -> str:
    return stack_signature({**settings, "seed": 0})


def folder_name(plan: Plan, options: Options) -> str:
    """Of the sweep, in the results folder."""
    return options.name or plan.spec.folder
