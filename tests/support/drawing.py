"""Shared by the tests of figures: tables to draw, and the content of figures."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from qsweep.plots import heatmap, lines, surface
from qsweep.plots.cells import picture
from qsweep.plots.entry import read
from qsweep.plots.threshold import threshold

METRICS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
LR = [2.0**-e for e in range(5)]
BITS = [4, 3, 2, 1]
SURFACE = {"kind": "surface", "x": "lr", "y": "bitwidth", "z": "test_accuracy"}
HEATMAP = {**SURFACE, "kind": "heatmap"}
LINES = {"kind": "lines", "x": "lr", "y": "test_accuracy", "line": "bitwidth"}

Point = Mapping[str, Any]


def done(point: Point) -> str:
    return "done"


def half(point: Point) -> float:
    return 0.5


def through_csv(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as read from trials.csv: lower-case true/false, empty for None."""
    text = pd.DataFrame([{k: str(v).lower() if isinstance(v, bool) else v for k, v in row.items()} for row in rows])
    return pd.read_csv(io.StringIO(text.to_csv(index=False)), keep_default_na=False, na_values=[""])


def rows(
    grid: Mapping[str, list[Any]],
    status: Callable[[Point], str] = done,
    accuracy: Callable[[Point], float] = half,
    seeds: int = 1,
    weight: str = "range",
) -> list[dict[str, Any]]:
    """One row per point of a grid and seed."""
    made = []
    for values in itertools.product(*grid.values(), range(seeds)):
        point = dict(zip([*grid, "seed"], values, strict=True))
        value = accuracy(point) if status(point) == "done" else None
        key = f"{weight}-{'-'.join(map(str, values))}"
        metrics = dict.fromkeys(METRICS, value)
        made.append({"key": key, "status": status(point), **point, **metrics, "reason": "", "quantize.weight": weight})
    return made


def trials(grid: Mapping[str, list[Any]], **options: Any) -> pd.DataFrame:
    return through_csv(rows(grid, **options))


def lr_bitwidth() -> pd.DataFrame:
    """A sweep whose 1 bit diverges at a learning rate of 1; its float32 rows read neither zero nor bitwidth."""
    grid: dict[str, list[Any]] = {"zero": [True, False], "lr": LR, "bitwidth": BITS}

    def status(point: Point) -> str:
        return "diverged" if point["lr"] == 1 and point["bitwidth"] == 1 else "done"

    def accuracy(point: Point) -> float:
        return float(0.1 + 0.8 * point["lr"] ** 0.2 * (point["bitwidth"] / 4 if point["zero"] else 0.5))

    float32 = rows({"zero": [None], "lr": LR, "bitwidth": [None]}, accuracy=lambda p: 0.95, weight="float32")
    return through_csv([*rows(grid, status, accuracy), *float32])


def history(courses: Mapping[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"key": key, "stage": "train", "epoch": epoch, **dict.fromkeys(METRICS, value)}
            for key, values in courses.items()
            for epoch, value in enumerate(values, start=1)
        ],
        columns=["key", "stage", "epoch", *METRICS],
    )


def figure(table: pd.DataFrame, entry: Mapping[str, Any], over_epochs: pd.DataFrame | None = None) -> Figure:
    """The figure of an entry."""
    drawers = {"heatmap": heatmap.draw, "surface": surface.draw}
    reduced = threshold if entry["kind"] == "threshold" else picture
    shown = reduced(table, history({}) if over_epochs is None else over_epochs, read(entry), "title")
    return drawers.get(entry["kind"], lines.draw)(shown)


def panels(drawn: Figure) -> list[Any]:
    """A figure's panels, without its colour bar."""
    return [axes for axes in drawn.axes if axes is not colour_bar(drawn)]


def colour_bar(drawn: Figure) -> Axes | None:
    """The axes of a figure's colour bar, which is drawn last and has no x label."""
    last = drawn.axes[-1]
    return last if len(drawn.axes) > 1 and last.get_ylabel() and not last.get_xlabel() else None


def labelled(axes: Axes, label: str, kind: type = Line2D) -> list[Any]:
    return [artist for artist in axes.findobj(kind) if artist.get_label() == label]


def marks(axes: Axes, label: str) -> set[tuple[float, float]]:
    """The positions of the marks of one state in a panel."""
    return {(float(x), float(y)) for mark in labelled(axes, label) for x, y in zip(*mark.get_data(), strict=True)}


def legend_texts(drawn: Figure) -> list[str]:
    return [text.get_text() for legend in drawn.legends for text in legend.findobj(Text)]
