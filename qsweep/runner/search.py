"""A search in place of a whole grid: where trials begin to reach an accuracy, going up an axis, found by bisection.

Which trials come next follows from the records alone, so that a search that was interrupted goes on where it was. Of
each line of the grid (one place on all other axes) the ends and the middle are looked at, then the halves between the
highest value that fails and the lowest that reaches, then the neighbours of what was found.
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
"""The trials, one a seed, at each value of the axis, ascending."""


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        lines: how many lines of the grid there are.
        edges: in how many of them an edge was found.
        uneven: the lines, by their places, in which a value above the lowest that reaches does not.
        needed: trials that it still needs; none when it is at its end.
        left: trials of the grid that it does without.
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
        """The trials that have no value of the axis, by place: all are trained."""
        found: dict[tuple[object, ...], list[Trial]] = {}
        for row in self._plan.rows:
            if row.axes[self._axis] is None:
                found.setdefault(row.axes, []).append(row.trial)
        return list(found.values())

    @cached_property
    def _lines(self) -> dict[str, Line]:
        """By the place on the other axes, in words."""
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

    # what comes next

    def wanted(self, records: Records, tried: Collection[str] = ()) -> list[Trial]:
        """The trials that the search needs now; none when it is at its end.

        Args:
            tried: keys of what this run has trained already: what failed is not waited for.
        """
        needed = [trial for own in self._references for trial in own]
        target = self._target(records)
        for line in self._lines.values():
            needed += [trial for value in self._next(line, records, target) for trial in line[value]]
        lacking = [t for t in needed if t.key not in tried and not _is_final(t, records)]
        return list({trial.key: trial for trial in lacking}.values())

    def _target(self, records: Records) -> float:
        """The accuracy to reach; NaN while references lack."""
        means = [_mean(own, records) for own in self._references]
        if self._reach.is_share and None in means:
            return math.nan
        return self._reach.target(accuracy for accuracy in means if accuracy is not None)

    def _next(self, line: Line, records: Records, target: float) -> list[float]:
        """The values of a line that are looked at next, known ones among them."""
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
        """Mean accuracies where all seeds are known."""
        means = {value: _mean(trials, records) for value, trials in line.items()}
        return {value: accuracy for value, accuracy in means.items() if accuracy is not None}

    # what came of it

    def found(self, records: Records) -> Found:
        """What the records say."""
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
    """Over seeds; NaN where one diverged, None where one is not known for good."""
    found = []
    for trial in trials:
        if not _is_final(trial, records):
            return None
        result = records[trial.key].result
        found.append(next((float(result[name]) for name in ACCURACIES if result.get(name) is not None), math.nan))
    return mean(found)
