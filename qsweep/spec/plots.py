"""What a spec can ask to have drawn: the kinds of plot, their fields, and how much a figure holds."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TypeGuard

from qsweep.parameter import BadValueError, show

MOST_PANELS = 24
MOST_LINES = 40
"""What a figure holds."""
RANGE = "range"
"""The one field of a plot that is not text: the ends of a range to draw over a histogram."""
REACH = "reach"
"""What a threshold, a heatmap or a search asks for: a share of the best trial without the axis, or an accuracy."""
PLACE = "place"
"""What a histogram asks for: the parameter or activation whose values it shows."""


@dataclass(frozen=True)
class PlotKind:
    """A kind of plot.

    Attributes:
        needs: the fields of an entry that it can't do without.
        takes: the other fields that it takes.
        metric: the field that names its metric; None of a kind that shows the values at a place instead.
        series: the field that names what x is crossed with: another axis (`y`), or a column with a line per value.
        lowest: the field that names an axis whose lowest value is drawn that reaches `reach`, if one does.
        has_epochs: whether its x can be `epoch`.
        panels: how many panels a figure holds.
        figure: the file of qsweep.plots that draws it, where that is not the one of its own name.
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
        """Whether it has a line for each value of its series; a histogram has one for each trial."""
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
    """Both ends of the `range` that a histogram draws: 0.1 means ±0.1.

    Raises:
        BadValueError: it is neither a number above 0 nor two in order.
    """
    ends = given if isinstance(given, list) else [-given, given] if _is_number(given) else []
    if len(ends) == 2 and all(map(_is_number, ends)) and ends[0] < ends[1]:
        return float(ends[0]), float(ends[1])
    raise BadValueError(f"found {show(given)}, expected a number above 0 (0.1 means ±0.1), or [lowest, highest]")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
