"""Lines over one axis: a mean and a band over seeds, with gaps and marks for missing results; or a ring per trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import matplotlib
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from qsweep.plots import page
from qsweep.plots.axes import Axis, Place, Reference
from qsweep.plots.cells import ONLY, Cell, Cells, Panel, Picture, spread

Course = Sequence[tuple[Place, Cell]]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OKABE_ITO: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B4513")
"""Colours that colour-blind people can distinguish; yellow, which is faint on white, is replaced by brown."""

MARKERS: Final = "osD^vP<>X"
DASHES: Final = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
"""For references, which are black."""

STROKES: Final = ("-", *DASHES, (0, (1, 1)))
"""For names, after all colours have been used."""

REFERENCE_MARKERS: Final = "Dv^<>Ph"
"""For references that have a place without a neighbour, or would otherwise look like another."""

SMALL: Final = {"markersize": 3}
POINT: Final[dict[str, Any]] = {"linestyle": "none", "marker": "o", "markersize": 2.5}
"""For a place without a neighbour, on a line without markers."""

IN_PLACE: Final[dict[str, Any]] = {"ha": "center", "va": "center", "color": "0.35"}
"""Text in place of values."""

MOST_MARKED: Final = 30
"""Up to so many places of x have markers."""

ENTRIES: Final = 12
"""Maximum per column of the legend, if there is room for several columns."""

RING: Final[dict[str, Any]] = {"marker": "o", "markersize": 4.5, "markerfacecolor": "none"}
"""A trial in a scatter."""

HANDLE: Final = 40.0
"""Width in points of an entry of the legend without its text."""

COVERED: Final = 0.005
"""Lines that differ by less than this fraction of a panel's height look like one: it is less than a line's width."""

ROW: Final = 0.045
"""Height of a row of marks, in heights of a panel."""

ROWS: Final = 8
"""The maximum number of rows of marks; further marks start again at the bottom."""


def draw(picture: Picture) -> Figure:
    """The figure of `picture`: a line per series, dashed black for references."""
    picture = replace(picture, notes="; ".join(filter(None, (picture.notes, _covered(picture)))))
    rows, columns = page.shape(len(picture.panels))
    named = len(picture.series.places) > 1
    width = page.WIDTH if columns > 1 or _is_crowded(picture.x) else (0.5 + 0.15 * named) * page.WIDTH
    legend_columns, legend_height = _legend_shape(picture, width) if named else (0, 0.0)
    height = page.row_height(rows, 2.3)
    figure, axes = page.panels(picture, width, height, least=legend_height + page.foot_height(picture, width))
    looks = {series: _look(picture, series) for series in picture.series.places}
    for each, panel in zip(axes, picture.panels, strict=True):
        _panel(each, picture, panel, looks)
    page.outer_labels(figure, axes, picture.x.label, picture.label)
    if named:
        _legend(figure, picture, looks, legend_columns)
    page.add_foot(figure, picture)
    page.lay_out(figure)
    _scales(axes, picture)
    return figure


def _is_crowded(x: Axis) -> bool:
    """Whether a narrow figure has no room for its names, even slanted."""
    return x.scale == "category" and page.SLANTED * len(x.places) > 72 * page.BESIDE_LABELS * 0.5 * page.WIDTH


def _covered(picture: Picture) -> str:
    """A note on lines that are hidden because a later one covers all of their points."""
    courses = [(series, _heights(picture, series)) for series in picture.series.places]
    under: dict[Place, list[str]] = {}
    for i, (series, own) in enumerate(courses):
        above = [other for other, theirs in courses[i + 1 :] if own and _lies_on(theirs, own)]
        if above:
            under.setdefault(above[-1], []).append(picture.series.text(series))
    return "; ".join(f"hidden under {picture.series.text(top)}: {', '.join(names)}" for top, names in under.items())


Heights = dict[tuple[int, Place], list[float]]
"""The heights of a line or of its rings, by panel and x, as fractions of a panel's height."""


def _heights(picture: Picture, series: Place) -> Heights:
    low, high = _limits(picture)
    at = math.log if picture.is_log else float
    return {
        (i, x): [(at(value) - at(low)) / (at(high) - at(low)) for value in _drawn(picture, cell)]
        for i, panel in enumerate(picture.panels)
        for x, cell in _course(picture, spread(panel.cells, picture.x), series)
        if cell.values
    }


def _drawn(picture: Picture, cell: Cell) -> Sequence[float]:
    return cell.values if picture.plot.kind.name == "scatter" else [cell.mean]


def _lies_on(upper: Heights, lower: Heights) -> bool:
    return all(
        any(abs(theirs - own) < COVERED for theirs in upper.get(place, ()))
        for place, heights in lower.items()
        for own in heights
    )


def _look(picture: Picture, series: Place) -> dict[str, Any]:
    """Colour and marker of a line."""
    look = stroke(picture.series, series)
    if isinstance(series, Reference) and picture.plot.kind.name == "scatter" and _has_rings(picture, series):
        index = picture.series.references.index(series)
        marker = REFERENCE_MARKERS[(index - 1) % len(REFERENCE_MARKERS)] if index else RING["marker"]
        return {"color": "black", "linestyle": "none", **RING, "marker": marker}
    if isinstance(series, Reference):
        index = picture.series.references.index(series)
        needs_marker = index >= len(DASHES) or any(
            _lone(_course(picture, panel.cells, series)) for panel in picture.panels
        )
        return {**look, "marker": REFERENCE_MARKERS[index % len(REFERENCE_MARKERS)] if needs_marker else "", **SMALL}
    if picture.plot.kind.name == "scatter":
        index = picture.series.values.index(series)
        marker = MARKERS[index // len(OKABE_ITO) % len(MARKERS)] if picture.series.scale == "category" else "o"
        return {"color": look["color"], "linestyle": "none", **RING, "marker": marker}
    index = picture.series.values.index(series)
    few = len(picture.x.values) <= MOST_MARKED
    return {**look, "marker": MARKERS[index % len(MARKERS)] if few else "", **SMALL}


def _has_rings(picture: Picture, series: Reference) -> bool:
    """Whether a reference has its own places in a scatter; one that doesn't depend on x is a horizontal line."""
    return any(_course(picture, panel.cells, series) for panel in picture.panels)


def stroke(axis: Axis, series: Place) -> dict[str, Any]:
    """The stroke of a line: ordered colours for numbers, distinct ones for everything else, dashes for references."""
    if isinstance(series, Reference):
        return {"color": "black", "linestyle": DASHES[axis.references.index(series) % len(DASHES)], "linewidth": 1.2}
    index, count = axis.values.index(series), len(axis.values)
    if axis.scale != "category" and count > 1:
        return {"color": matplotlib.colormaps[page.MAP](0.85 * index / (count - 1)), "linewidth": 1.2}
    dash = STROKES[index // len(OKABE_ITO) % len(STROKES)]
    return {"color": OKABE_ITO[index % len(OKABE_ITO)], "linestyle": dash, "linewidth": 1.2}


def _panel(axes: Axes, picture: Picture, panel: Panel, looks: dict[Place, dict[str, Any]]) -> None:
    cells = panel.cells
    draw_course = _rings if picture.plot.kind.name == "scatter" else _line
    for series, look in looks.items():
        draw_course(axes, picture, _course(picture, cells, series), look)
    for (x, series), cell in cells.items():
        if isinstance(x, Reference) and isinstance(series, Reference):
            _level(axes, cell, looks[series])
    _marks(axes, picture, spread(cells, picture.x), looks)
    if not any(cell.values for cell in cells.values()):
        axes.text(0.5, 0.5, panel.reason, transform=axes.transAxes, **IN_PLACE)
    axes.grid(axis="y", color="0.9", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _course(picture: Picture, cells: Cells, series: Place) -> Course:
    """The cells of a line, from left to right."""
    return [(x, cells[x, series]) for x in picture.x.places if (x, series) in cells]


def _lone(course: Course) -> list[tuple[Place, Cell]]:
    """The cells with values but no neighbour with values: they are visible only with a marker."""
    around = [False, *(bool(cell.values) for _, cell in course), False]
    return [step for i, step in enumerate(course, start=1) if around[i] and not around[i - 1] and not around[i + 1]]


def _line(axes: Axes, picture: Picture, course: Course, look: dict[str, Any]) -> None:
    """A line with its spread. NaN for places without results makes gaps; places off the scale are not connected."""
    for off_scale, group in groupby(course, key=lambda step: picture.x.is_off_scale(step[0])):
        steps = list(group)
        x = [picture.x.at(place) for place, _ in steps]
        means = [cell.mean for _, cell in steps]
        if off_scale:
            _bars(axes, picture, steps, color=look["color"], linewidth=0.8)
            axes.plot(x, means, **{**look, "linestyle": "none", "marker": look.get("marker") or "o"})
        else:
            axes.plot(x, means, **look)
            if not look["marker"]:
                lone = [(picture.x.at(place), cell.mean) for place, cell in _lone(steps)]
                axes.plot([x for x, _ in lone], [y for _, y in lone], **POINT, color=look["color"])
            _spread(axes, picture, steps, look)


def _spread(axes: Axes, picture: Picture, steps: Course, look: dict[str, Any]) -> None:
    """The range from min to max: a band, or for many lines bars, which hide less; not at each of many places."""
    with_bars = [step for step in steps if step[0] in picture.bar_places]
    if picture.has_bands and len(steps) > 1:
        x, low, high = zip(*((picture.x.at(place), *cell.ends) for place, cell in steps), strict=True)
        axes.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)
        with_bars = _lone(steps)  # a band needs two places
    _bars(axes, picture, with_bars, color=look["color"], linewidth=0.7, alpha=0.7)


def _bars(axes: Axes, picture: Picture, steps: Course, **look: Any) -> None:
    spread_out = [(picture.x.at(place), *cell.ends) for place, cell in steps if cell.ends[0] < cell.ends[1]]
    if spread_out:
        axes.vlines(*zip(*spread_out, strict=True), **look)


def _rings(axes: Axes, picture: Picture, course: Course, look: dict[str, Any]) -> None:
    """A ring per trial with a result; crosses are for those without."""
    points = [(picture.x.at(place), value) for place, cell in course for value in cell.values]
    x, y = zip(*points, strict=True) if points else ((), ())
    axes.plot(x, y, **{**RING, "marker": look["marker"] or RING["marker"]}, color=look["color"], linestyle="none")


def _level(axes: Axes, cell: Cell, look: dict[str, Any]) -> None:
    """Draw a reference that doesn't depend on x."""
    if cell.values:
        axes.axhline(cell.mean, **look)
        axes.axhspan(min(cell.values), max(cell.values), color="black", alpha=0.12, linewidth=0)


def _marks(axes: Axes, picture: Picture, cells: Cells, looks: dict[Place, dict[str, Any]]) -> None:
    """Marks along the bottom; those of several lines at one x are stacked."""
    for place, lacking in _lacking(picture, cells).items():
        for rank, series in enumerate(lacking):
            state = cells[place, series].state
            axes.plot(
                [picture.x.at(place)],
                [(rank % ROWS + 0.6) * ROW],
                transform=axes.get_xaxis_transform(),
                **page.mark(state, looks[series]["color"]),
            )


def _lacking(picture: Picture, cells: Cells) -> dict[Place, list[Place]]:
    """The series with trials without a result, by x."""
    found: dict[Place, list[Place]] = {}
    for series in picture.series.places:
        for x, s in cells:
            if s == series and cells[x, s].state != "done":
                found.setdefault(x, []).append(s)
    return found


def _legend_shape(picture: Picture, width: float) -> tuple[int, float]:
    """Columns and height (inches) of the legend: as many columns as leave two thirds of the width to the panels."""
    entries = len(picture.series.places)
    column = max(page.text_width(picture.series.text(place)) for place in picture.series.places) + HANDLE
    most = max(1, int(width * 72 / 3 / column))
    columns = min(most, math.ceil(entries / ENTRIES))
    return columns, (math.ceil(entries / columns) + 4) * page.TICKS * 1.7 / 72


def _legend(figure: Figure, picture: Picture, looks: dict[Place, dict[str, Any]], columns: int) -> None:
    shown = [series for series in _legend_order(picture) if series != ONLY]
    handles = [Line2D([], [], label=picture.series.text(series), **looks[series]) for series in shown]
    title = picture.series.label if picture.plot.series else None
    figure.legend(handles=handles, title=title, loc="outside right center", ncols=columns)


def _legend_order(picture: Picture) -> list[Place]:
    """Numbers in the order of their lines from top to bottom; names in the order of the table."""
    axis = picture.series
    ends = [(rank, end) for rank, value in enumerate(axis.values) if not math.isnan(end := _end(picture, value))]
    middle = math.fsum(end for _, end in ends) / len(ends) if ends else 0.0
    rising = math.fsum((rank - (len(axis.values) - 1) / 2) * (end - middle) for rank, end in ends)
    is_reversed = axis.scale != "category" and rising > 0
    return [*(reversed(axis.values) if is_reversed else axis.values), *axis.references]


def _end(picture: Picture, series: Place) -> float:
    """The height at which the lines of a series end, averaged over the panels; NaN if they are empty."""
    courses = [_course(picture, panel.cells, series) for panel in picture.panels]
    ends = [[cell.mean for place, cell in course if cell.values] for course in courses]
    last = [means[-1] for means in ends if means]
    return math.fsum(last) / len(last) if last else math.nan


def _scales(axes: Sequence[Axes], picture: Picture) -> None:
    """Limits and ticks, shared by all panels, with room for the marks below the values."""
    x = picture.x
    axes[0].set_xlim(x.at(x.places[0]) - 0.4 * x.step, x.at(x.places[-1]) + 0.4 * x.step)
    points = page.room(axes[0], horizontal=True)
    shown = page.fitting(x, x.at, points / (axes[0].get_xlim()[1] - axes[0].get_xlim()[0]))
    for each in axes:
        each.set_xticks([x.at(place) for place in shown], [x.text(place) for place in shown], **page.slant(x, points))
    axes[0].set_yscale("log" if picture.is_log else "linear")
    low, high = _limits(picture)
    if not any(cell.values for cell in picture.cells):  # an axis with numbers would suggest that there are values
        axes[0].set_yticks([])
        axes[0].set_ylim(0, 1)
        return
    locator = axes[0].yaxis.get_major_locator()
    is_whole = all(value.is_integer() for cell in picture.cells for value in cell.values)
    if picture.plot.lowest and is_whole and isinstance(locator, MaxNLocator):
        locator.set_params(integer=True)
    ticks = locator.tick_values(low, high)
    axes[0].set_yticks([tick for tick in ticks if low <= tick <= (min(high, 100.0) if picture.is_share else high)])
    axes[0].minorticks_off()
    axes[0].set_ylim(_bottom(picture, low, high), high)


def _limits(picture: Picture) -> tuple[float, float]:
    """From the smallest value or 0 to the largest; accuracies from 0 to 100 % if some are below a half."""
    found = [value for cell in picture.cells for value in cell.values]
    low, high = min(found, default=0.0), max(found, default=1.0)
    if picture.is_log:
        return low / 1.3, high * 1.3
    if picture.is_share:
        margin = max(0.06 * (high - low), 1.0)
        return (0.0, 102.0) if low < 50 or not found else (low - margin, min(102.0, high + margin))
    margin = 0.06 * ((high - low) or abs(high)) or 1.0
    return low - margin if low < 0 else 0.0, high + margin


def _bottom(picture: Picture, low: float, high: float) -> float:
    """The lower end of the axis: `low` minus the height of the rows of marks."""
    panels = (spread(panel.cells, picture.x) for panel in picture.panels)
    rows = [len(series) for cells in panels for series in _lacking(picture, cells).values()]
    share = ROW * min(max(rows, default=-0.5) + 0.5, ROWS)
    below = share / (1 - share)
    return low * (low / high) ** below if picture.is_log else low - below * (high - low)
