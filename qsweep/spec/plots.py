"""What a spec can ask to have drawn: the kinds of plot, their fields, and how much a figure holds."""

from __future__ import annotations

import sys
from typing import TypeGuard

from qsweep.parameter import BadValueError, show

MOST_PANELS = 24
MOST_LINES = 40
"""What a figure holds."""
MOST_SURFACES = 12
"""Panels of a figure of surfaces, whose labels hide each other in smaller ones."""
RANGE = "range"
"""The one field of a plot that is not text: the ends of a range to draw over a histogram."""
REACH = "reach"
"""What a threshold, a heatmap or a search asks for: a share of the best trial without the axis, or an accuracy."""
PLOT_FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "surface": (("x", "y", "z"), ("facet", "title", "name")),
    "heatmap": (("x", "y", "z"), ("facet", "reach", "title", "name")),
    "threshold": (("x", "y", "z"), ("line", "facet", "reach", "title", "name")),
    "lines": (("x", "y"), ("line", "facet", "title", "name")),
    "scatter": (("x", "y"), ("line", "facet", "title", "name")),
    "histogram": (("place",), ("line", "facet", "range", "title", "name")),
}
"""Kind of plot: the fields that it needs, and those that it takes."""


def metric_field(kind: str) -> str | None:
    """The field of a kind of plot that names its metric, if it shows one; others of one letter or word name columns."""
    return next((name for name in ("z", "y") if name in PLOT_FIELDS[kind][0]), None)


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
