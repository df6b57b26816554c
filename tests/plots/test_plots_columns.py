"""Figures of any column: none fails, and each value of a trial is drawn within the limits of its panel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import pytest
from drawing import figure, labelled, legend_texts, panels, rows, through_csv
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from qsweep.errors import UserError
from qsweep.plots import histogram, page
from qsweep.plots.cells import LARGEST, LEAST
from qsweep.plots.distributions import distributions
from qsweep.plots.entry import Histogram, read
from qsweep.plots.rows import values

pytestmark = pytest.mark.slow

THRESHOLD = {"kind": "threshold", "z": "test_accuracy", "reach": 0.05}
COLUMNS: dict[str, list[Any]] = {
    "numbers": [1, 2, 4],
    "texts": ["nearest", "a $ sign", "x" * 300],
    "truth values": [True, False],
    "mixed": [1, "nearest", True],
    "one value": [0.5],
    "one huge value": [1e300],
    "one value far below 0": [-1e300],
    "infinite": [1.0, math.inf, -math.inf],
    "infinite alone": [math.inf],
    "below 0": [-4, -2, 0, 3],
    "beyond 2^53": [2**53, 2**53 + 1],
    "beyond -2^53": [-(2**53), -(2**53) - 1],
    "beyond all exponents": [-1e308, 0.0, 1e308],
    "tiny": [5e-324, 1e-300],
    "almost equal": [1.0, 1 + 1e-12, 1 + 2e-12],
    "neighbours": [1.0, 1 + 2**-52],
    "0 before powers": [0, 1e-4, 1e-3, 1e-2],
    "0 alone before one": [0, 1e-8, 1],
    "some missing": [None, 1, 2],
    "texts, some missing": [None, "a", "b"],
    "one, and missing": [None, 3],
}
SOME = ["texts", "mixed", "infinite", "beyond 2^53", "beyond -2^53", "neighbours", "0 before powers", "some missing"]
ACROSS, UP = ("column", "lr"), ("lr", "column")
CASES = [
    *((name, kind, *places) for kind in ("lines", "surface") for places in (ACROSS, UP) for name in COLUMNS),
    *(
        (name, kind, *places)
        for kind, places in (("heatmap", ACROSS), ("heatmap", UP), ("scatter", UP))
        for name in SOME
    ),
]
NUMBERS = [
    name for name, column in COLUMNS.items() if all(isinstance(v, float) for v in values(column) if v is not None)
]
METRICS: dict[str, list[float]] = {
    "0 and large": [0.0, 1e-5, 100.0, 3.0],
    "below 0": [-5.0, -1.0, 0.0, 2.0],
    "alike below 0": [-3.0, -3.0, -3.0, -3.0],
    "all below 0": [-5.0, -1.0, -3.0, -2.0],
    "huge": [9e99, 8e99, 1.0, 1e-99],
    "huge on both sides": [-9e99, 9e99, 0.0, 1.0],
    "almost infinite": [1.6e308, -1.7e308, 1.0, 2.0],
    "tiny": [5e-324, 1e-323, 1e-310, 1e-300],
    "almost equal": [1.0, 1 + 2**-52, 1 + 2**-51, 1 + 3 * 2**-52],
    "alike": [7.0, 7.0, 7.0, 7.0],
    "all 0": [0.0, 0.0, 0.0, 0.0],
    "powers": [1e-8, 1e-4, 1.0, 1e4],
    "some infinite": [math.inf, -math.inf, math.nan, 1.0],
}


@pytest.fixture(autouse=True, scope="module")
def style() -> Iterator[None]:
    with page.style():
        yield


def table_of(column: Sequence[Any]) -> pd.DataFrame:
    """Two trials per value of a column, all with different accuracies."""
    grid = {"column": list(column), "lr": [0.25, 0.5]}
    made = rows(grid)
    for i, row in enumerate(made):
        row["test_accuracy"] = (10 + 3 * i) / 100
    return through_csv(made)


def entry_of(kind: str, x: str, series: str, facet: str | None = None, metric: str = "test_accuracy") -> dict[str, Any]:
    places = {"y": metric, "line": series} if kind in ("lines", "scatter") else {"y": series, "z": metric}
    return {"kind": kind, "x": x, **places, "facet": facet}


def heights(axes: Any) -> list[float]:
    """The values drawn within the limits of a panel."""
    if isinstance(axes, Axes3D):
        faces = [face for p in axes.collections if isinstance(p, Poly3DCollection) for face in p._faces]
        corners = [corner for face in faces for corner in face.tolist()]
        points = [point for pin in labelled(axes, "done") for point in zip(*pin.get_data_3d(), strict=True)]
        limits = (axes.get_xlim(), axes.get_ylim(), axes.get_zlim())
        return [
            float(p[2])
            for p in [*corners, *points]
            if all(low <= c <= high for c, (low, high) in zip(p, limits, strict=True))
        ]
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    found = []
    for line in axes.lines:
        is_level = line.get_transform() != axes.transData
        marked = line.get_marker() not in ("", "None")
        if is_level and marked:  # marks at the bottom
            continue
        for x, y in zip(*line.get_data(), strict=True):
            if (is_level or left <= x <= right) and low <= y <= high:
                found.append(float(y))
    return found


def unseen(drawn: Figure, wanted: Sequence[float]) -> list[float]:
    """The values that no panel shows."""
    seen = [y for axes in panels(drawn) for y in heights(axes)]
    return [value for value in wanted if not any(abs(y - value) < 1e-6 for y in seen)]


def boxes(axes: Any) -> int:
    """The coloured cells of a heatmap within its limits."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    ends = [path.get_extents() for cells in labelled(axes, "done", PatchCollection) for path in cells.get_paths()]
    return sum(left <= e.x0 < e.x1 <= right and bottom <= e.y0 < e.y1 <= top for e in ends)


@pytest.mark.parametrize(("name", "kind", "x", "series"), CASES)
def test_each_trial_of_any_column_is_visible(name: str, kind: str, x: str, series: str) -> None:
    table = table_of(COLUMNS[name])
    drawn = figure(table, entry_of(kind, x, series))
    if kind == "heatmap":
        assert sum(map(boxes, panels(drawn))) == len(table)
    else:
        assert unseen(drawn, [100 * accuracy for accuracy in table["test_accuracy"]]) == []


@pytest.mark.parametrize("name", SOME)
def test_each_trial_of_any_facet_is_visible(name: str) -> None:
    table = table_of(COLUMNS[name])
    drawn = figure(table, entry_of("lines", "lr", "seed", facet="column"))
    assert len(panels(drawn)) == len(COLUMNS[name])
    assert unseen(drawn, [100 * accuracy for accuracy in table["test_accuracy"]]) == []


@pytest.mark.parametrize(("x", "line"), [("column", "lr"), ("lr", "column")])
@pytest.mark.parametrize("name", SOME)
def test_each_point_of_a_threshold_over_any_column_is_visible_or_counted(name: str, x: str, line: str) -> None:
    column = COLUMNS[name]
    made = rows({"column": column, "lr": [0.25, 0.5], "bitwidth": [8]})
    drawn = figure(through_csv(made), {**THRESHOLD, "x": x, "line": line, "y": "bitwidth"})
    missing = column.count(None)
    points = 2 * (len(column) - missing)
    assert sum(y == 8 for y in heights(panels(drawn)[0])) == points
    note = " ".join(legend_texts(drawn)[-1].split())
    assert f"at {points} of {points} points" in note
    assert (f"not drawn: {2 * missing} trials without" in note) == bool(missing)


@pytest.mark.parametrize("name", NUMBERS)
def test_threshold_of_any_numbers_is_visible_or_refused(name: str) -> None:
    column = COLUMNS[name]
    table = through_csv(rows({"column": column, "lr": [0.25, 0.5]}))
    entry = {**THRESHOLD, "x": "lr", "y": "column"}
    lowest = min(value for value in column if value is not None)
    if abs(lowest) >= LARGEST:
        with pytest.raises(UserError, match="in column is too large to draw"):
            figure(table, entry)
    else:
        assert heights(panels(figure(table, entry))[0]).count(lowest) == 2


@pytest.mark.parametrize("place", ["line", "facet"])
@pytest.mark.parametrize("name", SOME)
def test_each_histogram_of_any_column_is_drawn(name: str, place: str) -> None:
    table = table_of(COLUMNS[name])
    plot = read({"kind": "histogram", "place": "a.weight", place: "column"})
    assert isinstance(plot, Histogram)
    counts = [{"key": key, "place": "a.weight", "role": "weight", "low": -1, "high": 1} for key in table["key"]]
    shown = distributions(table, pd.DataFrame(counts).assign(counts="1 2 4 1"), plot, "title")
    assert sum(len(axes.findobj(StepPatch)) for axes in panels(histogram.draw(shown))) >= len(table)


@pytest.mark.parametrize("place", ["x", "series", "facet"])
def test_column_without_any_value_is_refused_as_x_and_drawn_as_a_reference_elsewhere(place: str) -> None:
    table = table_of([None])
    named = {"x": "lr", "series": "seed", place: "column"}
    if place == "x":
        with pytest.raises(UserError, match="column 'column' is empty in every row"):
            figure(table, entry_of("lines", **named))
    else:
        assert unseen(figure(table, entry_of("lines", **named)), [10, 13]) == []


@pytest.mark.parametrize("kind", ["lines", "heatmap", "surface"])
@pytest.mark.parametrize("name", METRICS)
def test_each_value_of_any_metric_is_visible_or_marked(name: str, kind: str) -> None:
    found = METRICS[name]
    made = rows({"lr": [0.25, 0.5], "bitwidth": [4, 8]})
    for row, value in zip(made, found, strict=True):
        row["test_loss"] = value
    drawn = figure(through_csv(made), entry_of(kind, "lr", "bitwidth", metric="test_loss"))
    finite = [value for value in found if abs(value) < LARGEST]
    if kind == "heatmap":
        assert boxes(panels(drawn)[0]) == len(finite)
    elif kind == "surface" and min(finite) > LEAST and max(finite) > 100 * min(finite):
        assert {round(math.log10(value), 6) for value in finite} <= {round(y, 6) for y in heights(panels(drawn)[0])}
    else:
        assert set(finite) <= set(heights(panels(drawn)[0]))
    assert ("done, but the value is infinite or missing" in legend_texts(drawn)) == (len(finite) < len(found))
