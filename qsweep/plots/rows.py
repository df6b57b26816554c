"""The rows of the tables, read for one figure: what places a trial, and what it gave."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from qsweep.errors import UserError, unknown
from qsweep.plots.axes import Value
from qsweep.plots.entry import EPOCH, Entry, Plot
from qsweep.trial.measures import MEASURES, METRICS, MODEL_BITS, is_share
from qsweep.trial.parameters import STAGES
from qsweep.trial.roles import ROLES

if TYPE_CHECKING:
    import pandas as pd

VARIANT: Final = "variant"


@dataclass(frozen=True)
class Row:
    """A trial, or one epoch of it.

    `value` is the metric's, accuracies in per cent; `places` has the values of the columns that the figure uses, and of
    the axes that it doesn't show; `formats` are those of all roles and what its stages do, float32 where there is
    nothing else, empty where the table doesn't say.
    """

    key: str
    status: str
    value: float
    places: dict[str, Value | None]
    formats: str


def read(trials: pd.DataFrame, history: pd.DataFrame, plot: Plot) -> list[Row]:
    """The rows that `plot` draws.

    Raises:
        UserError: the tables lack a column that the plot names, or have no rows.
    """
    over_epochs = plot.kind.has_epochs and plot.x == EPOCH
    measured = history if over_epochs else trials
    rows = placed(trials, plot, beside=("x",) if over_epochs else ())
    if plot.metric not in measured.columns:
        raise UserError(f"plot '{plot.name}': {_no_column(plot.metric, measured)}")
    if over_epochs:
        return _told(_by_epoch(rows, history, plot.metric), plot)
    metric = numbers(trials[plot.metric], plot.metric)
    valued = [replace(row, value=value) for row, value in zip(rows, metric, strict=True)]
    return _told([row for row in valued if _has_place(row, plot)], plot)


def _no_column(column: str, table: pd.DataFrame) -> str:
    """What to say of a column that a table lacks."""
    if column == MODEL_BITS:
        return (
            f"no trial has {column}: none is done, or all ran before it was counted"
            " (`qsweep store forget --sweep NAME`, then `qsweep run`, trains them again)"
        )
    return unknown("column", column, list(map(str, table.columns)))


def _has_place(row: Row, plot: Plot) -> bool:
    """Whether a row can be drawn: in a figure over a measure, a trial that gave none has no position."""
    measured = [column for column in plot.columns.values() if column in MEASURES]
    return row.status == "done" or all(row.places[column] is not None for column in measured)


def _told(rows: list[Row], plot: Plot) -> list[Row]:
    """Without what is done and has no such measure: nothing of a float32 trial's weights is clipped or stalled."""
    if plot.metric in METRICS:
        return rows
    told = [row for row in rows if row.status != "done" or not math.isnan(row.value)]
    if not told:
        raise UserError(f"plot '{plot.name}': no trial has a {plot.metric}, so that there is nothing to draw")
    return told


def placed(trials: pd.DataFrame, plot: Entry, beside: Sequence[str] = ()) -> list[Row]:
    """A row for each trial, without a value yet.

    Args:
        beside: fields of the plot whose column another table has.

    Raises:
        UserError: the table lacks a column that the plot names, or has no rows.
    """
    for what, column in plot.columns.items():
        if column not in trials.columns and what not in beside:
            raise UserError(f"plot '{plot.name}': {what}: {_no_column(column, trials)}")
    if trials.empty:
        raise UserError(f"plot '{plot.name}': the table has no rows, so that there is nothing to draw")
    columns = [*plot.columns.values(), *swept(trials)]
    places = {column: _places(trials, column) for column in columns if column in trials.columns}
    return [
        Row(str(key), str(status), math.nan, {column: places[column][i] for column in places}, formats)
        for i, (key, status, formats) in enumerate(zip(trials["key"], trials["status"], _formats(trials), strict=True))
    ]


def _places(trials: pd.DataFrame, column: str) -> list[Value | None]:
    """The values of a column that places trials. Variants are names, `1e3` and `1000` two of them."""
    if column == VARIANT:
        return [None if _is_empty(cell) else str(cell) for cell in trials[column]]
    return values(trials[column])


def swept(trials: pd.DataFrame) -> list[str]:
    """The swept columns, which stand after the status: the axes, and the seed last."""
    columns = list(map(str, trials.columns))
    return columns[columns.index("status") + 1 : columns.index("seed") + 1] if "seed" in columns else []


def values(column: Iterable[object]) -> list[Value | None]:
    """A column's values in one type: bool, float, or text where it mixes these; None where it is empty."""
    raw = [None if _is_empty(cell) else cell for cell in column]
    read = [None if cell is None else _value(cell) for cell in raw]
    if len({type(value) for value in read if value is not None}) <= 1 and _are_exact(raw, read):
        return read
    return [None if cell is None else str(cell) for cell in raw]


def _is_empty(cell: object) -> bool:
    """Whether a cell has nothing in it. The texts `None` and `nan` are names, of a variant say."""
    import pandas as pd

    return cell is None or cell is pd.NA or cell != cell or str(cell).strip() == ""  # NaN is not equal to itself


def _are_exact(raw: Sequence[object], read: Sequence[Value | None]) -> bool:
    """Whether numbers that differ stay apart as floats: integers beyond ±2^53 may not."""
    written = {str(cell).strip() for cell, value in zip(raw, read, strict=True) if isinstance(value, float)}
    return len({Decimal(text) for text in written}) == len({float(text) for text in written})


def _value(cell: object) -> Value:
    """One cell, whether pandas has read it as a number, as a truth value or as text."""
    text = str(cell).strip()
    if text in ("true", "false", "True", "False"):
        return text.lower() == "true"
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def numbers(column: pd.Series[Any], metric: str) -> list[float]:
    """A metric's values, NaN where there is none; shares in per cent."""
    import pandas as pd

    factor = 100.0 if is_share(metric) else 1.0
    return [factor * float(value) for value in pd.to_numeric(column, errors="coerce")]


def _formats(trials: pd.DataFrame) -> list[str]:
    named = [column for column in (*(f"quantize.{role}" for role in ROLES), STAGES) if column in trials.columns]
    columns = [values(trials[column]) for column in named]
    found = [{str(v) for v in row if v is not None} for row in zip(*columns, strict=True)] or [set()] * len(trials)
    return [", ".join(sorted(formats - {"float32"} or formats)) for formats in found]


def _by_epoch(rows: Sequence[Row], history: pd.DataFrame, metric: str) -> list[Row]:
    """One row for each trial and epoch, and one for the epoch at which a trial stopped without a result."""
    courses: dict[str, list[tuple[float, float]]] = {}
    for key, epoch, value in zip(history["key"], _epochs(history), numbers(history[metric], metric), strict=True):
        courses.setdefault(str(key), []).append((epoch, value))
    return [
        replace(row, status=status, value=value, places={**row.places, EPOCH: epoch})
        for row in rows
        for epoch, status, value in _course(courses.get(row.key, []), row.status)
    ]


def _epochs(history: pd.DataFrame) -> list[float]:
    """Epochs as the table counts them; with several stages, whose counts start anew, a count over all of them."""
    if history["stage"].nunique() > 1:
        return [float(n + 1) for n in history.groupby("key").cumcount()]
    return [float(epoch) for epoch in history[EPOCH]]


def _course(steps: Sequence[tuple[float, float]], status: str) -> list[tuple[float, str, float]]:
    """What a trial gave at each epoch; one that didn't finish has its status at the first epoch without a value."""
    if status == "done" and steps:
        return [(epoch, status, value) for epoch, value in steps]
    known = [(epoch, "done", value) for epoch, value in steps if math.isfinite(value)]
    stop = known[-1][0] + 1 if known else 1.0
    return [*known, (stop, status, math.nan)]
