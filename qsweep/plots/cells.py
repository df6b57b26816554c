"""The content of one figure: rows gathered into cells of (panel, x, series)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from qsweep.errors import UserError
from qsweep.plots.axes import Axis, Place, Reference, Value, axis, cut, label, word
from qsweep.plots.entry import Entry, Histogram, Plot
from qsweep.plots.rows import Row, read, swept
from qsweep.spec.plots import MOST_LINES, MOST_PANELS
from qsweep.trial.measures import is_share

if TYPE_CHECKING:
    import pandas as pd

MOST_BANDS: Final = 3
"""Up to so many lines have bands from min to max, which may overlap; more lines have bars."""
MOST_BARS: Final = 12
"""The maximum number of bars of a line."""
LARGEST: Final = 1e100
"""Values from here on count as infinite, since a sum or a margin of them would be."""
LEAST: Final = 1e-100
"""Smaller values are too close to 0 for the limits of a logarithmic scale."""
Shown = TypeVar("Shown")
ONLY: Final = ""
"""The only series of a plot without `line`."""


@dataclass
class Cell:
    """The trials of one place: the values of those that are done, and the number of others.

    `diverged` counts trials that diverged, `empty` done ones whose metric is infinite or missing (a loss that
    overflowed), `lacking` those that failed, timed out or have not run; `hidden` has their values on the axes that the
    figure doesn't show.
    """

    values: list[float] = field(default_factory=list)
    diverged: int = 0
    empty: int = 0
    lacking: int = 0
    hidden: list[dict[str, Value | None]] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """The mean of the values; NaN if there are none."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value; NaN if there are none."""
        return min(self.values, default=math.nan), max(self.values, default=math.nan)

    @property
    def state(self) -> str:
        """`done`, `partly` (some trials have no result), `diverged`, `empty` or `lacking`."""
        if self.values:
            return "partly" if self.diverged or self.empty or self.lacking else "done"
        return "diverged" if self.diverged else "lacking" if self.lacking else "empty"

    def add(self, row: Row) -> None:
        """Add one trial."""
        if row.status == "done" and abs(row.value) < LARGEST:
            self.values.append(row.value)
        elif row.status == "diverged":
            self.diverged += 1
        elif row.status == "done":
            self.empty += 1
        else:
            self.lacking += 1


Cells = dict[tuple[Place, Place], Cell]


class Panel(NamedTuple):
    """One value of the facet: its title, its cells by (x, series), and the reason to show if nothing is drawn."""

    title: str
    cells: Cells
    reason: str = "no result"


@dataclass(frozen=True)
class Picture:
    """The content of a figure: its panels, their shared axes, and the notes below them."""

    plot: Plot
    title: str
    x: Axis
    series: Axis
    panels: tuple[Panel, ...]
    notes: str

    @property
    def label(self) -> str:
        """The metric in words; for a threshold, the axis whose lowest value is drawn."""
        return f"lowest {label(self.plot.metric)}" if self.plot.lowest else label(self.plot.metric)

    @property
    def is_share(self) -> bool:
        """Whether the metric is in per cent."""
        return is_share(self.plot.metric)

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells of all panels."""
        return [cell for panel in self.panels for cell in panel.cells.values()]

    @property
    def has_bands(self) -> bool:
        """Whether lines have bands from min to max, not bars."""
        return _has_bands(self.series)

    @cached_property
    def bar_places(self) -> set[Place]:
        """The places on the scale of x with bars, if lines have bars: not at each of many places."""
        return set(self.x.joined[:: _every(self.x)])

    @property
    def states(self) -> set[str]:
        """The states that occur, for the legend."""
        return {cell.state for cell in self.cells}

    @property
    def is_log(self) -> bool:
        """Whether the scale is logarithmic: for losses that span two orders of magnitude."""
        found = [value for cell in self.cells for value in cell.values]
        return not self.is_share and bool(found) and LEAST < min(found) < max(found) / 100

    @property
    def limits(self) -> tuple[float, float]:
        """The range shared by all panels: 0 … 100 % for fractions; for losses from 0, or from the smallest value."""
        found = [cell.mean for cell in self.cells if cell.values]
        if self.is_share or not found:
            return (0.0, 100.0) if self.is_share else (0.0, 1.0)
        low, high = (min(found) if self.is_log else min(0.0, *found)), max(found)
        return (low, high) if low < high else (low, low + 1.0)


def spread(cells: Cells, x: Axis) -> Cells:
    """`cells`, with references that read neither parameter repeated at every x."""
    return {
        (each, series): cell
        for (place, series), cell in cells.items()
        for each in (x.values if isinstance(place, Reference) and isinstance(series, Reference) else [place])
    }


def picture(trials: pd.DataFrame, history: pd.DataFrame, plot: Plot, title: str) -> Picture:
    """Reduce the tables to the content of `plot`.

    Raises:
        UserError: the tables lack a column or rows, or have too many panels or lines for a figure.
    """
    rows = read(trials, history, plot)
    facets = _gather(rows, plot, [name for name in swept(trials) if name not in plot.columns.values()])
    panels = tuple(Panel(*panel) for panel in titled(facets, plot.facet, loose_title(rows, plot)))
    places = [place for panel in panels for place in panel.cells]
    x = axis(plot.x, (x for x, s in places if not (isinstance(x, Reference) and isinstance(s, Reference))))
    series = axis(plot.series or ONLY, (s for _, s in places))
    _check_size(plot, panels, x, series)
    return Picture(plot, plot.title or title, x, series, panels, _notes(plot, panels, x, series))


def _check_size(plot: Plot, panels: Sequence[Panel], x: Axis, series: Axis) -> None:
    if not x.values:
        raise UserError(f"plot '{plot.name}': x: column '{plot.x}' is empty in every row")
    refuse_many(plot, len(panels), len(series.places) if plot.kind.has_lines else 0)


def refuse_many(plot: Entry, panels: int, lines: int) -> None:
    """Refuse too many panels or lines.

    Raises:
        UserError: there are more than a figure can show.
    """
    where, most = f"plot '{plot.name}'", plot.kind.panels
    if panels > most:
        has_room = panels <= MOST_PANELS
        what = f"{most} panels of {plot.kind.name}s" if has_room else f"{MOST_PANELS} panels"
        advice = f"a heatmap can have {MOST_PANELS}" if has_room else "choose a facet with fewer values"
        raise UserError(f"{where}: facet '{plot.facet}' has {panels} values; the limit of a figure is {what}: {advice}")
    if lines > MOST_LINES:
        found = f"line '{plot.series}' has {lines} values"
        found = f"a panel has {lines} lines" if isinstance(plot, Histogram) else found
        raise UserError(
            f"{where}: {found}; the limit of a figure is {MOST_LINES} lines: add a facet, or use fewer values"
        )


def _gather(rows: Sequence[Row], plot: Plot, hidden: Sequence[str]) -> dict[Value | None, Cells]:
    """Cells by facet. A key counts once per place: equal trials of several blocks are one measurement."""
    facets: dict[Value | None, Cells] = {}
    seen = set()
    for row, name in zip(rows, reference_names(rows, plot), strict=True):
        facet = row.places.get(plot.facet or "")
        place = _place(row, plot, Reference(name))
        if (row.key, facet, place) in seen:
            continue
        seen.add((row.key, facet, place))
        cell = facets.setdefault(facet, {}).setdefault(place, Cell())
        cell.add(row)
        cell.hidden.append({column: row.places[column] for column in hidden})
    return facets


def _place(row: Row, plot: Plot, reference: Reference) -> tuple[Place, Place]:
    x = row.places[plot.x]
    if plot.series is None:
        is_reference = x is None or (plot.facet is not None and row.places[plot.facet] is None)
        return (reference if x is None else x), (reference if is_reference else ONLY)
    series = row.places[plot.series]
    return (reference if x is None else x), (reference if series is None else series)


def reference_names(rows: Sequence[Row], plot: Entry) -> list[str]:
    """A name for each row in case it is a reference: its formats, unless other rows have the same."""
    others = {row.formats for row in rows if None not in [row.places[column] for column in plot.columns.values()]}
    return [row.formats if row.formats not in others | {""} else "reference" for row in rows]


def titled(
    facets: Mapping[Value | None, Mapping[tuple[Place, Place], Shown]], column: str | None, loose_title: str
) -> list[tuple[str, dict[tuple[Place, Place], Shown]]]:
    """The titles and contents of panels, in order.

    References without a facet are in every panel; other rows without one have their own panel, titled `loose_title`.
    """
    loose = dict(facets.get(None, {}))
    everywhere = {place: shown for place, shown in loose.items() if any(isinstance(part, Reference) for part in place)}
    rest = {place: shown for place, shown in loose.items() if place not in everywhere}
    if column is None:
        return [("", loose)]
    order = axis(column, (facet for facet in facets if facet is not None))
    panels = [(order.title(value), {**everywhere, **facets[value]}) for value in order.values]
    if rest:
        panels.append((loose_title, {**everywhere, **rest}))
    return panels or [("", everywhere)]


def loose_title(rows: Sequence[Row], plot: Entry) -> str:
    """The title of the panel of trials without a facet: their format, if no other trial has it."""
    if plot.facet is None:
        return ""
    loose = [row.places[plot.facet] is None for row in rows]
    others = {row.formats for row, own in zip(rows, loose, strict=True) if not own}
    names = {row.formats for row, own in zip(rows, loose, strict=True) if own}
    is_unique = len(names) == 1 and not names & (others | {""})
    return cut(min(names)) if is_unique else f"{word(plot.facet)}: not applicable"


def _has_bands(series: Axis) -> bool:
    return len(series.places) <= MOST_BANDS


def _every(x: Axis) -> int:
    """How many values of x there are per bar, which is at the first of them."""
    return math.ceil(len(x.joined) / MOST_BARS)


def _notes(plot: Plot, panels: Sequence[Panel], x: Axis, series: Axis) -> str:
    """What is averaged, and over how many trials; "" if each place has one."""
    groups: dict[str, list[Cell]] = {}
    for place, cell in [pair for panel in panels for pair in panel.cells.items()]:
        groups.setdefault(_reference_of(place, x, series), []).append(cell)
    own = groups.pop("", None) or [cell for cells in groups.values() for cell in cells]
    notes = [_note_on(plot, own, x, series)]
    notes += [f"{name}: {_over(cells)}" for name, cells in groups.items() if not _counts(cells) <= _span(own)]
    return "; ".join(filter(None, notes))


def _reference_of(place: tuple[Place, Place], x: Axis, series: Axis) -> str:
    """The name of the reference that a place belongs to; "" if it has both parameters."""
    if isinstance(place[1], Reference):
        return series.text(place[1])
    return x.text(place[0]) if isinstance(place[0], Reference) else ""


def _counts(cells: Iterable[Cell]) -> set[int]:
    """The numbers of trials per place with a result."""
    return {len(cell.values) for cell in cells if cell.values}


def _span(cells: Iterable[Cell]) -> set[int]:
    """From the least to the largest of these numbers."""
    counts = _counts(cells) or {1}
    return set(range(min(counts), max(counts) + 1))


def _over(cells: Sequence[Cell]) -> str:
    """`1 trial`, or what means are over."""
    counts = _counts(cells)
    return "1 trial" if counts == {1} else averaged(counts, (cell.hidden for cell in cells))


def _note_on(plot: Plot, cells: Sequence[Cell], x: Axis, series: Axis) -> str:
    """The note on all places but those of references."""
    counts = _counts(cells)
    if max(counts, default=1) == 1:
        return ""
    over = averaged(counts, (cell.hidden for cell in cells))
    if plot.kind.name == "scatter":
        return f"one ring per trial: {over} at each place"
    if plot.kind.name != "lines":
        return f"mean over {over}"
    shape = "band" if _has_bands(series) else "bar"
    notes = [f"line: mean, {shape}: min … max over {over}"]
    if 1 in counts:
        notes.append(f"no {shape} where one trial is left")
    if shape == "bar" and _every(x) > 1:
        notes.append(f"bars at one {word(x.column)} in {_every(x)}: elsewhere the spread is not drawn")
    return "; ".join(notes)


def averaged(counts: Collection[int], hidden: Iterable[Sequence[Mapping[str, Value | None]]]) -> str:
    """What means are over: `3 seeds`, or `6 trials that differ in zero level and seed`.

    Args:
        counts: the numbers of trials per place.
        hidden: for each place, the values of its trials on the axes that the figure doesn't show.
    """
    number = "–".join(map(str, sorted({min(counts), max(counts)})))
    varying = list(dict.fromkeys(column for place in hidden for column in _varying(place)))
    return f"{number} seeds" if varying == ["seed"] else f"{number} trials that differ in {_listed(varying)}"


def _varying(hidden: Sequence[Mapping[str, Value | None]]) -> list[str]:
    return [column for column in hidden[0] if len({places[column] for places in hidden}) > 1]


def _listed(columns: Sequence[str]) -> str:
    *most, last = map(word, columns or ["block"])
    return f"{', '.join(most)} and {last}" if most else last
