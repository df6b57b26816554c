"""Searches a grid by bisection for the lowest value of an axis that reaches an accuracy, instead of training all of it.

The next trials follow from the records alone, so that an interrupted search continues where it was. In each line of the
grid (one place on all other axes), the ends and the middle are trained first, then midpoints between the highest value
that fails and the lowest that reaches the accuracy, then the neighbours of the result.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from qsweep.parameter import show
from qsweep.results.records import FINAL, Record
from qsweep.spec.file import Search
from qsweep.spec.plan import Plan
from qsweep.spec.points import Row
from qsweep.trial.key import Trial
from qsweep.trial.reach import ACCURACIES, edge, mean, read_reach

Records = Mapping[str, Record]
Line = Mapping[float, Sequence[Trial]]
"""The trials, one per seed, at each value of the axis, ascending."""


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        lines: number of lines of the grid.
        edges: number of lines in which an edge was found.
        uneven: the places of lines in which a value above the lowest that reaches the accuracy fails.
        needed: number of trials that it still needs; 0 at the end.
        left: number of trials of the grid that it does not need.
    """

    lines: int
    edges: int
    uneven: tuple[str, ...]
    needed: int
    left: int


class Bisection:
    """The search of a plan."""

    def __init__(self, plan: Plan, search: Search) -> None:
        self._plan = plan
        self._axis = plan.axes.index(search.axis)
        self._reach = read_reach(search.reach)

    @cached_property
    def _references(self) -> list[list[Trial]]:
        """The trials without a value of the axis, by place; all of them are trained."""
        found: dict[tuple[object, ...], list[Trial]] = {}
        for row in self._plan.rows:
            if row.axes[self._axis] is None:
                found.setdefault(row.axes, []).append(row.trial)
        return list(found.values())

    @cached_property
    def _lines(self) -> dict[str, Line]:
        """The lines of the grid, by their places on the other axes in words."""
        found: dict[str, dict[float, list[Trial]]] = {}
        for row in self._plan.rows:
            if row.axes[self._axis] is not None:
                own = found.setdefault(self._place(row), {})
                own.setdefault(float(row.axes[self._axis]), []).append(row.trial)
        return {place: dict(sorted(line.items())) for place, line in found.items()}

    def _place(self, row: Row) -> str:
        pairs = zip(self._plan.axes, row.axes, strict=True)
        others = {name: value for i, (name, value) in enumerate(pairs) if i != self._axis and value is not None}
        return " ".join(f"{name}={value if isinstance(value, str) else show(value)}" for name, value in others.items())

    # the next trials

    def wanted(self, records: Records, tried: Collection[str] = ()) -> list[Trial]:
        """The trials that the search needs now; [] at the end.

        Args:
            tried: keys of trials that this run has trained: failed ones are not retried.
        """
        needed = [trial for own in self._references for trial in own]
        target = self._target(records)
        for line in self._lines.values():
            needed += [trial for value in self._next(line, records, target) for trial in line[value]]
        lacking = [t for t in needed if t.key not in tried and not _is_final(t, records)]
        return list({trial.key: trial for trial in lacking}.values())

    def _target(self, records: Records) -> float:
        """The accuracy to reach; NaN while references are missing."""
        means = [_mean(own, records) for own in self._references]
        if self._reach.is_share and None in means:
            return math.nan
        return self._reach.target(accuracy for accuracy in means if accuracy is not None)

    def _next(self, line: Line, records: Records, target: float) -> list[float]:
        """The values of a line that are needed next, including known ones."""
        values = list(line)
        first = [values[0], values[len(values) // 2], values[-1]]
        known = self._known(line, records)
        if math.isnan(target) or not known.keys() >= {*first}:
            return first
        lowest = edge(known, target).lowest
        if lowest is None:
            return []
        at = values.index(lowest)
        below = max((values.index(value) for value in known if value < lowest), default=-1)
        if at - below > 1:
            return [values[(at + below) // 2]]
        return [values[i] for i in (at - 2, at - 1, at + 1) if 0 <= i < len(values)]

    def _known(self, line: Line, records: Records) -> dict[float, float]:
        """The mean accuracies of values whose seeds are all known."""
        means = {value: _mean(trials, records) for value, trials in line.items()}
        return {value: accuracy for value, accuracy in means.items() if accuracy is not None}

    # the result

    def found(self, records: Records) -> Found:
        """The result of the search, given the records."""
        target = self._target(records)
        edges = {place: edge(self._known(line, records), target) for place, line in self._lines.items()}
        needed = {trial.key for trial in self.wanted(records)}
        left = {trial.key for trial in self._plan.trials} - records.keys() - needed
        uneven = tuple(place for place, one in edges.items() if one.fails)
        reached = sum(one.lowest is not None for one in edges.values())
        return Found(len(edges), reached, uneven, len(needed), len(left))


def _is_final(trial: Trial, records: Records) -> bool:
    return trial.key in records and records[trial.key].status in FINAL


def _mean(trials: Iterable[Trial], records: Records) -> float | None:
    """The mean accuracy over seeds; NaN if one diverged, None if one has no final record."""
    found = []
    for trial in trials:
        if not _is_final(trial, records):
            return None
        result = records[trial.key].result
        found.append(next((float(result[name]) for name in ACCURACIES if result.get(name) is not None), math.nan))
    return mean(found)
