"""The kinds of plot that a spec can have, their fields, and the limits of a figure."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TypeGuard

from qsweep.parameter import BadValueError, show

MOST_PANELS = 24
MOST_LINES = 40
"""The maximum number of panels and lines in a figure."""
RANGE = "range"
"""The only field of a plot that is not a string: a range to mark in a histogram."""
REACH = "reach"
"""The goal of a threshold, a heatmap or a search: a share of the best trial without the axis, or an accuracy."""
PLACE = "place"
"""The parameter or activation whose values a histogram shows."""


@dataclass(frozen=True)
class PlotKind:
    """A kind of plot.

    Attributes:
        needs: the required fields of an entry.
        takes: its optional fields.
        metric: the field that names its metric; None for a kind that shows the values at a place instead.
        series: the field that x is crossed with: another axis (`y`), or a column with a line per value.
        lowest: the field that names the axis whose lowest value that reaches `reach` is drawn, if there is one.
        has_epochs: whether its x can be `epoch`.
        panels: the maximum number of panels.
        figure: the module of qsweep.plots that draws it, if its name is not that of the kind.
    """

    name: str
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    metric: str | None = None
    series: str = "line"
    lowest: str | None = None
    has_epochs: bool = False
    panels: int = MOST_PANELS
    figure: str = ""

    @property
    def has_lines(self) -> bool:
        """Whether it has a line per value of its series; a histogram has one per trial."""
        return self.metric is not None and self.series == "line"


PLOT_KINDS = {
    kind.name: kind
    for kind in (
        PlotKind(
            "surface",
            needs=("x", "y", "z"),
            takes=("facet", "title", "name"),
            metric="z",
            series="y",
            panels=12,  # labels hide each other in smaller ones
        ),
        PlotKind(
            "heatmap",
            needs=("x", "y", "z"),
            takes=("facet", REACH, "title", "name"),
            metric="z",
            series="y",
        ),
        PlotKind(
            "threshold",
            needs=("x", "y", "z"),
            takes=("line", "facet", REACH, "title", "name"),
            metric="z",
            lowest="y",
            figure="lines",
        ),
        PlotKind(
            "lines",
            needs=("x", "y"),
            takes=("line", "facet", "title", "name"),
            metric="y",
            has_epochs=True,
        ),
        PlotKind(
            "scatter",
            needs=("x", "y"),
            takes=("line", "facet", "title", "name"),
            metric="y",
            figure="lines",
        ),
        PlotKind(
            "histogram",
            needs=(PLACE,),
            takes=("line", "facet", RANGE, "title", "name"),
        ),
    )
}
"""All kinds of plot by name."""


def plot_range(given: object) -> tuple[float, float]:
    """The lower and upper end of the `range` of a histogram: 0.1 means ±0.1.

    Raises:
        BadValueError: it is neither a number above 0 nor two increasing numbers.
    """
    ends = given if isinstance(given, list) else [-given, given] if _is_number(given) else []
    if len(ends) == 2 and all(map(_is_number, ends)) and ends[0] < ends[1]:
        return float(ends[0]), float(ends[1])
    raise BadValueError(f"found {show(given)}, expected a number above 0 (0.1 means ±0.1), or [lowest, highest]")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
