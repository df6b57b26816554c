"""The lowest value of an axis that reaches an accuracy, over another axis: a picture that is drawn as lines."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from qsweep.errors import UserError
from qsweep.plots.axes import Place, Value, axis, label, word
from qsweep.plots.cells import ONLY, Cell, Cells, Panel, Picture, refuse_many, titled
from qsweep.plots.entry import Plot
from qsweep.plots.rows import Row, read, swept
from qsweep.reach import Edge, Reach, edge, read_reach

if TYPE_CHECKING:
    import pandas as pd

Seeds = list[float]
"""What the trials of one place gave, each; NaN for one that diverged."""
Courses = dict[tuple[Value | None, Place, Value], dict[float, Seeds]]
"""By facet, line and x: accuracies at the values of the axis."""


def threshold(trials: pd.DataFrame, history: pd.DataFrame, plot: Plot, title: str) -> Picture:
    """Reduce the tables to the lowest values of `plot.lowest`.

    Raises:
        UserError: the tables lack a column or rows, have more than a figure holds, or nothing to take a share of.
    """
    assert plot.lowest is not None  # noqa: S101  # such an entry has one
    rows = read(trials, history, plot)
    courses, references = _courses(rows, plot), _references(rows, plot)
    wanted = read_reach(plot.reach)
    target = wanted.target(references) if wanted.is_share else 100 * wanted.value
    if math.isnan(target):
        raise UserError(
            f"plot '{plot.name}': reach: {plot.reach} is a share of what trials without {plot.lowest} reach, and none "
            "of them is done"
        )
    edges = {place: edge(_means(own), target) for place, own in courses.items()}
    facets: dict[Value | None, Cells] = {}
    for (facet, line, x), found in edges.items():
        if found.lowest is not None:
            facets.setdefault(facet, {})[x, line] = Cell([found.lowest])
    if not facets:
        raise UserError(f"plot '{plot.name}': nothing reaches {plot.reach}: there is no lowest {plot.lowest} to draw")
    panels = tuple(Panel(*panel) for panel in titled(facets, plot.facet))
    lines = axis(plot.series or ONLY, (line for _, line, _ in courses))
    refuse_many(plot, len(panels), len(lines.places))
    shown = replace(plot, metric=plot.lowest)
    notes = _notes(plot, wanted, target, references, edges.values(), rows, trials)
    return Picture(shown, plot.title or title, axis(plot.x, (x for *_, x in courses)), lines, panels, notes)


def _courses(rows: Sequence[Row], plot: Plot) -> Courses:
    found: Courses = {}
    seen: set[tuple[str, Value | None, Value | None]] = set()
    for row in rows:
        facet, x, value = (row.places[name] if name else None for name in (plot.facet, plot.x, plot.lowest))
        line = row.places[plot.series] if plot.series else ONLY
        if value is None or x is None or line is None or not _is_known(row):
            continue
        if not isinstance(value, float):
            raise UserError(f"plot '{plot.name}': y: '{value}' in {plot.lowest} is no number: nothing is lower than it")
        if (row.key, facet, line) not in seen:
            seen.add((row.key, facet, line))
            found.setdefault((facet, line, x), {}).setdefault(value, []).append(row.value)
    return found


def _is_known(row: Row) -> bool:
    return row.status in ("done", "diverged")


def _references(rows: Iterable[Row], plot: Plot) -> list[float]:
    """The means of the places that have no value of the axis."""
    found: dict[tuple[Value | None, ...], dict[str, float]] = {}
    for row in rows:
        if row.places[plot.lowest or ""] is None and _is_known(row):
            place = tuple(value for name, value in row.places.items() if name != "seed")
            found.setdefault(place, {})[row.key] = row.value
    return [mean for own in found.values() if not math.isnan(mean := _mean(list(own.values())))]


def _means(own: dict[float, Seeds]) -> dict[float, float]:
    return {value: _mean(seeds) for value, seeds in own.items()}


def _mean(values: Seeds) -> float:
    return math.fsum(values) / len(values)


def _notes(
    plot: Plot, wanted: Reach, target: float, references: Sequence[float], edges: Iterable[Edge], rows: Sequence[Row],
    trials: pd.DataFrame,
) -> str:  # fmt: skip
    """What is reached, and where it is not all of what lies above."""
    seeds = Counter(row.places["seed"] for row in rows) if "seed" in swept(trials) else {}
    over = f" (means over {len(seeds)} seeds)" if len(seeds) > 1 else ""
    share = (
        f": {plot.reach} of the best without {word(plot.lowest or '')}, {max(references):.1f} %"
        if wanted.is_share
        else ""
    )
    uneven = sum(bool(found.fails) for found in edges)
    places = "place" if uneven == 1 else "places"
    more = f"; at {uneven} {places} a higher value fails" if uneven else ""
    return f"lowest that reaches {label(plot.metric).replace('(%)', 'of')} {target:.1f} %{share}{over}{more}"
