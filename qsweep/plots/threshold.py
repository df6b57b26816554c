"""The lowest value of an axis that reaches an accuracy, over another axis: a picture that is drawn as lines."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from qsweep.errors import UserError
from qsweep.plots.axes import Place, Value, axis, label, word
from qsweep.plots.cells import ONLY, Cell, Cells, Panel, Picture, loose_title, refuse_many, titled
from qsweep.plots.entry import Plot
from qsweep.plots.rows import Row, read
from qsweep.reach import Edge, edge, mean, read_reach

if TYPE_CHECKING:
    import pandas as pd

Seeds = list[float]
"""What the trials of one place gave, each; NaN for one that diverged."""
Courses = dict[tuple[Value | None, Place, Value], dict[float, Seeds]]
"""By facet, line and x: accuracies at the values of the axis."""


def threshold(trials: pd.DataFrame, history: pd.DataFrame, plot: Plot, title: str) -> Picture:
    """Reduce the tables to the lowest values of `plot.lowest`.

    Raises:
        UserError: the tables lack a column or rows, or have more than a figure holds.
    """
    assert plot.lowest is not None  # noqa: S101  # such an entry has one
    rows = read(trials, history, plot)
    courses, references = _courses(rows, plot), _references(rows, plot)
    wanted = read_reach(plot.reach)
    target = wanted.target(references) if wanted.is_share else 100 * wanted.value
    edges = {place: edge({v: mean(seeds) for v, seeds in own.items()}, target) for place, own in courses.items()}
    facets: dict[Value | None, Cells] = {}
    for (facet, line, x), found in edges.items():
        cells = facets.setdefault(facet, {})
        if found.lowest is not None:
            cells[x, line] = Cell([found.lowest])
    panels = tuple(Panel(*panel) for panel in titled(facets, plot.facet, loose_title(rows, plot)))
    lines = axis(plot.series or ONLY, (line for _, line, _ in courses))
    refuse_many(plot, len(panels), len(lines.places))
    shown = replace(plot, metric=plot.lowest)
    notes = _notes(plot, target, references, edges.values(), rows)
    return Picture(shown, plot.title or title, axis(plot.x, (x for *_, x in courses)), lines, panels, notes)


def _courses(rows: Sequence[Row], plot: Plot) -> Courses:
    found: Courses = {}
    lacking: set[tuple[tuple[Value | None, Value, Value], float]] = set()
    seen: set[tuple[str, Value | None, Value | None]] = set()
    for row in rows:
        facet, x, value = (row.places[name] if name else None for name in (plot.facet, plot.x, plot.lowest))
        line = row.places[plot.series] if plot.series else ONLY
        if value is None or x is None or line is None:
            continue
        if not isinstance(value, float):
            raise UserError(f"plot '{plot.name}': y: '{value}' in {plot.lowest} is no number: nothing is lower than it")
        if (row.key, facet, line) not in seen:
            seen.add((row.key, facet, line))
            found.setdefault((facet, line, x), {}).setdefault(value, []).append(row.value)
        if not _is_known(row):
            lacking.add(((facet, line, x), value))
    for place, value in lacking:  # a mean over some of the seeds is none
        del found[place][value]
    return found


def _is_known(row: Row) -> bool:
    return row.status in ("done", "diverged")


def _references(rows: Iterable[Row], plot: Plot) -> list[float]:
    """The means of the places that have no value of the axis."""
    found: dict[tuple[Value | None, ...], dict[str, float]] = {}
    for row in rows:
        if row.places[plot.lowest or ""] is None:
            place = tuple(value for name, value in row.places.items() if name != "seed")
            found.setdefault(place, {})[row.key] = row.value if _is_known(row) else math.nan
    return [accuracy for own in found.values() if not math.isnan(accuracy := mean(list(own.values())))]


def _notes(plot: Plot, target: float, references: Sequence[float], edges: Collection[Edge], rows: Sequence[Row]) -> str:
    """What is reached, and where it is not all of what lies above."""
    axis_word = word(plot.lowest or "")
    if math.isnan(target):
        return f"no trial without {axis_word} is done: nothing to take {plot.reach} of"
    seeds = len({row.places.get("seed") for row in rows})
    told = [f"lowest that reaches {label(plot.metric).replace('(%)', 'of')} {target:.1f} %"]
    if read_reach(plot.reach).is_share:
        told.append(f"{plot.reach} of the best without {axis_word}, {max(references):.1f} %")
    if seeds > 1:
        told.append(f"means over {seeds} seeds")
    uneven = sum(bool(found.fails) for found in edges)
    if uneven:
        told.append(f"at {uneven} {'place' if uneven == 1 else 'places'} a higher value fails")
    if all(found.lowest is None for found in edges):
        told.append("none reaches it")
    return "; ".join(told)
