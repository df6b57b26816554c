"""The lowest value of an axis that reaches an accuracy, over another axis; drawn as lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from qsweep.errors import UserError
from qsweep.plots.axes import Place, Value, axis, word
from qsweep.plots.cells import LARGEST, ONLY, Cell, Cells, Panel, Picture, averaged, loose_title, refuse_many, titled
from qsweep.plots.entry import Plot
from qsweep.plots.rows import Row, read
from qsweep.trial.reach import Edge, edge, mean, read_reach

if TYPE_CHECKING:
    import pandas as pd

Spot = tuple[Value | None, Value, Value]
"""Facet, line and x."""


@dataclass
class Trials:
    """The trials at one value of the axis: their accuracies (NaN for diverged ones) and hidden axes."""

    accuracies: list[float] = field(default_factory=list)
    hidden: list[Mapping[str, Value | None]] = field(default_factory=list)


Courses = dict[Spot, dict[float, Trials]]
"""The trials by spot and value of the axis."""


def threshold(trials: pd.DataFrame, history: pd.DataFrame, plot: Plot, title: str) -> Picture:
    """Reduce the tables to the lowest values of `plot.lowest`.

    Raises:
        UserError: the tables lack a column or rows, or have too many panels or lines for a figure.
    """
    assert plot.lowest is not None  # noqa: S101  # only such entries get here
    rows = read(trials, history, plot)
    courses, references = _courses(rows, plot), _references(rows, plot)
    if not courses:
        named = ", ".join(dict.fromkeys(filter(None, (plot.lowest, plot.x, plot.series))))
        raise UserError(f"plot '{plot.name}': no trial has values of {named}: there is nothing to draw")
    wanted = read_reach(plot.reach)
    target = wanted.target(references) if wanted.is_share else 100 * wanted.value
    edges = {spot: edge(_means(course), target) for spot, course in courses.items()}
    panels = _panels(plot, courses, edges, target, loose_title(rows, plot))
    x, lines = axis(plot.x, (x for *_, x in courses)), axis(plot.series or ONLY, (line for _, line, _ in courses))
    refuse_many(plot, len(panels), len(lines.places))
    notes = [*_notes(plot, target, references, edges, courses), _left_out(rows, plot)]
    shown = replace(plot, metric=plot.lowest)
    return Picture(shown, plot.title or title, x, lines, panels, "; ".join(filter(None, notes)))


def _means(course: Mapping[float, Trials]) -> dict[float, float]:
    return {value: mean(trials.accuracies) for value, trials in course.items()}


def _panels(plot: Plot, courses: Courses, edges: Mapping[Spot, Edge], target: float, loose: str) -> tuple[Panel, ...]:
    """A panel per facet; if nothing is reached in one, it shows the best accuracy."""
    facets: dict[Value | None, dict[tuple[Place, Place], Spot]] = {}
    for facet, line, x in courses:
        facets.setdefault(facet, {})[x, line] = facet, line, x
    panels = []
    for title, spots in titled(facets, plot.facet, loose):
        cells: Cells = {at: Cell([low]) for at, spot in spots.items() if (low := edges[spot].lowest) is not None}
        accuracies = [accuracy for spot in spots.values() for accuracy in _means(courses[spot]).values()]
        panels.append(Panel(title, cells, _reason(accuracies, target)))
    return tuple(panels)


def _reason(accuracies: Iterable[float], target: float) -> str:
    """The reason to show in a panel in which nothing is drawn."""
    if math.isnan(target):
        return "nothing to compare with"
    best = max((accuracy for accuracy in accuracies if not math.isnan(accuracy)), default=math.nan)
    ended = "no trial is done" if math.isnan(best) else f"the best has {best:.1f} %"
    return f"none reaches {target:.1f} %:\n{ended}"


def _courses(rows: Sequence[Row], plot: Plot) -> Courses:
    found: Courses = {}
    lacking: set[tuple[Spot, float]] = set()
    seen: set[tuple[str, Value | None, Value | None]] = set()
    for row in rows:
        spot = _spot(row, plot)
        value = row.places[plot.lowest or ""]
        if value is None or spot is None:
            continue
        if not isinstance(value, float):
            raise UserError(f"plot '{plot.name}': y: '{value}' in {plot.lowest} is not a number, so it has no order")
        if abs(value) >= LARGEST:
            raise UserError(f"plot '{plot.name}': y: {value} in {plot.lowest} is too large to draw")
        if (row.key, *spot[:2]) not in seen:
            seen.add((row.key, *spot[:2]))
            own = found.setdefault(spot, {}).setdefault(value, Trials())
            own.accuracies.append(row.value)
            own.hidden.append({name: v for name, v in row.places.items() if name not in plot.columns.values()})
        if not _is_known(row):
            lacking.add((spot, value))
    for spot, value in lacking:  # there is no mean if some seeds are missing
        del found[spot][value]
    return found


def _spot(row: Row, plot: Plot) -> Spot | None:
    """The spot of a trial; None if it has no x or no line."""
    x, line = row.places[plot.x], row.places[plot.series] if plot.series else ONLY
    return None if x is None or line is None else (row.places[plot.facet] if plot.facet else None, line, x)


def _is_known(row: Row) -> bool:
    return row.status in ("done", "diverged")


def _references(rows: Iterable[Row], plot: Plot) -> list[float]:
    """The mean accuracies of places without a value of the axis."""
    found: dict[tuple[Value | None, ...], dict[str, float]] = {}
    for row in rows:
        if row.places[plot.lowest or ""] is None:
            place = tuple(value for name, value in row.places.items() if name != "seed")
            found.setdefault(place, {})[row.key] = row.value if _is_known(row) else math.nan
    return [accuracy for own in found.values() if not math.isnan(accuracy := mean(list(own.values())))]


def _notes(
    plot: Plot, target: float, references: Sequence[float], edges: Mapping[Spot, Edge], courses: Courses
) -> Iterator[str]:
    """What a point is, and how many lines and points there are."""
    axis_word = word(plot.lowest or "")
    if math.isnan(target):
        yield f"no trial without {axis_word} is done: nothing to take {plot.reach} of"
        return
    best = (
        f", {plot.reach} of the best without {axis_word}, {max(references):.1f} %"
        if read_reach(plot.reach).is_share
        else ""
    )
    yield f"point: lowest {axis_word} whose {word(plot.metric)} is at least {target:.1f} %{best}"
    places = [trials for course in courses.values() for trials in course.values()]
    counts = {len(trials.accuracies) for trials in places}
    if max(counts, default=1) > 1:
        yield f"mean over {averaged(counts, (trials.hidden for trials in places))}"
    yield _reached(edges)
    if uneven := sum(bool(found.fails) for found in edges.values()):
        yield f"at {uneven} of them a higher value does not"


def _reached(edges: Mapping[Spot, Edge]) -> str:
    """How many lines in all panels reach the accuracy, and at how many points."""
    points = [spot for spot, found in edges.items() if found.lowest is not None]
    lines, all_lines = ({spot[:2] for spot in spots} for spots in (points, edges))
    if not points:
        return "none reaches it"
    of_lines = f"{len(lines)} of {len(all_lines)} lines reach it, " if len(all_lines) > 1 else "reached "
    return f"{of_lines}at {len(points)} of {len(edges)} points"


def _left_out(rows: Sequence[Row], plot: Plot) -> str:
    """How many trials have a value of the axis but no place in the figure."""
    keys = {row.key for row in rows if row.places[plot.lowest or ""] is not None and _spot(row, plot) is None}
    lacked = " or ".join(word(column) for column in (plot.x, plot.series) if column)
    return f"not drawn: {len(keys)} {'trial' if len(keys) == 1 else 'trials'} without {lacked}" if keys else ""
