"""The entries of a spec's `plots:`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from qsweep.errors import UserError, unknown
from qsweep.parameter import BadValueError, show
from qsweep.spec.plots import PLACE, PLOT_KINDS, RANGE, PlotKind, plot_range
from qsweep.trial.measures import DRAWN
from qsweep.trial.reach import DEFAULT_REACH

EPOCH: Final = "epoch"


@dataclass(frozen=True)
class Plot:
    """One figure to draw: its kind and its columns.

    `series` is crossed with `x`: the `y` of a surface or heatmap, the `line` of lines, scatters and thresholds.
    `lowest` is the `y` of a threshold: the axis whose lowest value that reaches `reach` is drawn.
    """

    kind: PlotKind
    x: str
    series: str | None
    metric: str
    facet: str | None = None
    title: str | None = None
    name: str = ""
    reach: str | None = None
    lowest: str | None = None

    @property
    def columns(self) -> dict[str, str]:
        """The columns that place a trial, by their fields in the entry."""
        places = {"x": self.x, self.kind.series: self.series, "facet": self.facet}
        places |= {"y": self.lowest} if self.lowest else {}
        return {word: column for word, column in places.items() if column is not None}


@dataclass(frozen=True)
class Histogram:
    """One figure of the distribution of values at a place, with a line per value of a column (`series`).

    `range` is a range to mark, instead of those of the trials' formats.
    """

    kind: PlotKind
    place: str
    series: str | None = None
    facet: str | None = None
    range: tuple[float, float] | None = None
    title: str | None = None
    name: str = ""

    @property
    def columns(self) -> dict[str, str]:
        """The columns that place a trial, by their fields in the entry."""
        places = {"line": self.series, "facet": self.facet}
        return {word: column for word, column in places.items() if column is not None}


Entry = Plot | Histogram


def read(entry: Mapping[str, Any]) -> Entry:
    """Read an entry of `plots:`.

    Raises:
        UserError: the kind, a field or the metric is unknown, or a required field is missing or wrong.
    """
    kind = PLOT_KINDS.get(str(entry.get("kind")))
    if kind is None:
        raise UserError(f"plots: {unknown('kind', str(entry.get('kind')), list(PLOT_KINDS))}")
    fields = ("kind", *kind.needs, *kind.takes)
    if wrong := [word for word in entry if word not in fields]:
        raise UserError(f"plots: {kind.name}: {unknown('field', wrong[0], fields)}")
    lacking = [word for word in kind.needs if not entry.get(word)]
    if lacking:
        raise UserError(f"plots: a plot of kind '{kind.name}' needs {' and '.join(lacking)}")
    if kind.metric is None:
        return _read_histogram(kind, entry)
    metric, series = entry[kind.metric], entry.get(kind.series) or None
    lowest = entry[kind.lowest] if kind.lowest else None
    reach = entry.get("reach") or (DEFAULT_REACH if lowest else None)
    if metric not in DRAWN:
        raise UserError(f"plots: {kind.name}: {unknown('metric', metric, DRAWN)}")
    name = file_name(entry.get("name") or f"{kind.name}-{metric}")
    facet, title = entry.get("facet") or None, entry.get("title") or None
    return Plot(kind, entry["x"], series, metric, facet, title, name, reach, lowest)


def _read_histogram(kind: PlotKind, entry: Mapping[str, Any]) -> Histogram:
    place, ends = str(entry[PLACE]), None
    if entry.get(RANGE) is not None:
        try:
            ends = plot_range(entry[RANGE])
        except BadValueError as error:
            raise UserError(f"plots: {kind.name}: {RANGE}: {error}") from None
    name = file_name(entry.get("name") or f"{kind.name}-{place}")
    return Histogram(
        kind, place, entry.get("line") or None, entry.get("facet") or None, ends, entry.get("title") or None, name
    )


def file_name(name: object) -> str:
    """Return `name` if it can safely name a file."""
    if not re.fullmatch(r"[\w@+=,-][\w@+=,. -]{0,99}", str(name)):
        raise UserError(f"plots: name '{name}' can't name a file: use letters, digits, '-', '_' and '.', at most 100")
    return str(name)


TEXTS = ("kind", "x", "y", "z", "line", "facet", "title", "name", "place")
"""The fields of an entry that are strings."""
EXAMPLE = "{kind: lines, x: lr, y: test_accuracy}"


def named(entries: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Read the entries, with unique file names: given names stay, others get `-2`, `-3` …"""
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
        raise UserError(f"plots: found {show(entries)}, expected a list of mappings such as {EXAMPLE}")
    for entry in entries:
        for name in [n for n, value in entry.items() if n in TEXTS and not isinstance(value, str | None)]:
            raise UserError(f"plots: {name}: found {show(entry[name])}, expected a string")
    plots = [read(entry) for entry in entries]
    given = [bool(entry.get("name")) for entry in entries]
    taken: set[str] = set()
    names: dict[int, str] = {}
    for i in sorted(range(len(plots)), key=lambda i: not given[i]):
        names[i] = _free(plots[i].name, taken)
        taken.add(names[i].casefold())  # some file systems ignore case
    return [replace(plot, name=names[i]) for i, plot in enumerate(plots)]


def _free(name: str, taken: Sequence[str] | set[str]) -> str:
    free, number = name, 1
    while free.casefold() in taken:
        number += 1
        free = f"{name}-{number}"
    return free
