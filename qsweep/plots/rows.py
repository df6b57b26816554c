"""Reads the rows of the tables for one figure: the place and the result of each trial."""

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

    `value` is that of the metric, accuracies in per cent; `places` has the values of the columns that the figure uses,
    and of the axes that it doesn't show; `formats` has the formats of all roles and the stages, float32 if there is
    nothing else, and is empty if the table doesn't have them.
    """

    key: str
    status: str
    value: float
    places: dict[str, Value | None]
    formats: str


def read(trials: pd.DataFrame, history: pd.DataFrame, plot: Plot) -> list[Row]:
    """Read the rows that `plot` draws.

    Raises:
        UserError: the tables lack a column that the plot names, or have no rows.
    """
    over_epochs = plot.kind.has_epochs and plot.x == EPOCH
    measured = history if over_epochs else trials
    rows = placed(trials, plot, beside=("x",) if over_epochs else ())
    if plot.metric not in measured.columns:
        raise UserError(f"plot '{plot.name}': {_no_column(plot.metric, measured)}")
    if over_epochs:
        return _with_measure(_by_epoch(rows, history, plot.metric), plot)
    metric = numbers(trials[plot.metric], plot.metric)
    valued = [replace(row, value=value) for row, value in zip(rows, metric, strict=True)]
    return _with_measure([row for row in valued if _has_place(row, plot)], plot)


def _no_column(column: str, table: pd.DataFrame) -> str:
    """The message for a missing column."""
    if column == MODEL_BITS:
        return (
            f"no trial has {column}: none is done, or all ran before it was counted"
            " (to retrain them: `qsweep store forget --sweep NAME`, then `qsweep run`)"
        )
    return unknown("column", column, list(map(str, table.columns)))


def _has_place(row: Row, plot: Plot) -> bool:
    """Whether a row has a position: in a figure over a measure, a trial without the measure has none."""
    measured = [column for column in plot.columns.values() if column in MEASURES]
    return row.status == "done" or all(row.places[column] is not None for column in measured)


def _with_measure(rows: list[Row], plot: Plot) -> list[Row]:
    """Drop done trials without the measure: a float32 trial, for example, has no clipped weights."""
    if plot.metric in METRICS:
        return rows
    kept = [row for row in rows if row.status != "done" or not math.isnan(row.value)]
    if not kept:
        raise UserError(f"plot '{plot.name}': no trial has a {plot.metric}, so there is nothing to draw")
    return kept


def placed(trials: pd.DataFrame, plot: Entry, beside: Sequence[str] = ()) -> list[Row]:
    """One row per trial, without a value yet.

    Args:
        beside: fields of the plot whose columns are in another table.

    Raises:
        UserError: the table lacks a column that the plot names, or has no rows.
    """
    for what, column in plot.columns.items():
        if column not in trials.columns and what not in beside:
            raise UserError(f"plot '{plot.name}': {what}: {_no_column(column, trials)}")
    if trials.empty:
        raise UserError(f"plot '{plot.name}': the table has no rows, so there is nothing to draw")
    columns = [*plot.columns.values(), *swept(trials)]
    places = {column: _places(trials, column) for column in columns if column in trials.columns}
    return [
        Row(str(key), str(status), math.nan, {column: places[column][i] for column in places}, formats)
        for i, (key, status, formats) in enumerate(zip(trials["key"], trials["status"], _formats(trials), strict=True))
    ]


def _places(trials: pd.DataFrame, column: str) -> list[Value | None]:
    """The values of a column that places trials. Variants are names, so `1e3` and `1000` differ."""
    if column == VARIANT:
        return [None if _is_empty(cell) else str(cell) for cell in trials[column]]
    return values(trials[column])


def swept(trials: pd.DataFrame) -> list[str]:
    """The swept columns, which follow the status: the axes, then the seed."""
    columns = list(map(str, trials.columns))
    return columns[columns.index("status") + 1 : columns.index("seed") + 1] if "seed" in columns else []


def values(column: Iterable[object]) -> list[Value | None]:
    """A column's values in one type: bool, float, or text if it mixes types; None for empty cells."""
    raw = [None if _is_empty(cell) else cell for cell in column]
    read = [None if cell is None else _value(cell) for cell in raw]
    if len({type(value) for value in read if value is not None}) <= 1 and _are_exact(raw, read):
        return read
    return [None if cell is None else str(cell) for cell in raw]


def _is_empty(cell: object) -> bool:
    """Whether a cell is empty. The texts `None` and `nan` are names, for example of a variant."""
    import pandas as pd

    return cell is None or cell is pd.NA or cell != cell or str(cell).strip() == ""  # NaN is not equal to itself


def _are_exact(raw: Sequence[object], read: Sequence[Value | None]) -> bool:
    """Whether different numbers differ as floats: integers beyond ±2^53 may not."""
    written = {str(cell).strip() for cell, value in zip(raw, read, strict=True) if isinstance(value, float)}
    return len({Decimal(text) for text in written}) == len({float(text) for text in written})


def _value(cell: object) -> Value:
    """The value of a cell, which pandas may have read as a number, a bool or text."""
    text = str(cell).strip()
    if text in ("true", "false", "True", "False"):
        return text.lower() == "true"
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def numbers(column: pd.Series[Any], metric: str) -> list[float]:
    """A metric's values, with NaN for missing ones; fractions in per cent."""
    import pandas as pd

    factor = 100.0 if is_share(metric) else 1.0
    return [factor * float(value) for value in pd.to_numeric(column, errors="coerce")]


def _formats(trials: pd.DataFrame) -> list[str]:
    named = [column for column in (*(f"quantize.{role}" for role in ROLES), STAGES) if column in trials.columns]
    columns = [values(trials[column]) for column in named]
    found = [{str(v) for v in row if v is not None} for row in zip(*columns, strict=True)] or [set()] * len(trials)
    return [", ".join(sorted(formats - {"float32"} or formats)) for formats in found]


def _by_epoch(rows: Sequence[Row], history: pd.DataFrame, metric: str) -> list[Row]:
    """One row per trial and epoch, and one for the epoch at which a trial stopped without a result."""
    courses: dict[str, list[tuple[float, float]]] = {}
    for key, epoch, value in zip(history["key"], _epochs(history), numbers(history[metric], metric), strict=True):
        courses.setdefault(str(key), []).append((epoch, value))
    return [
        replace(row, status=status, value=value, places={**row.places, EPOCH: epoch})
        for row in rows
        for epoch, status, value in _course(courses.get(row.key, []), row.status)
    ]


def _epochs(history: pd.DataFrame) -> list[float]:
    """The epochs in the table; with several stages, each of which starts again at 1, a count over all stages."""
    if history["stage"].nunique() > 1:
        return [float(n + 1) for n in history.groupby("key").cumcount()]
    return [float(epoch) for epoch in history[EPOCH]]


def _course(steps: Sequence[tuple[float, float]], status: str) -> list[tuple[float, str, float]]:
    """A trial's results per epoch; if it didn't finish, its status is at the first epoch without a value."""
    if status == "done" and steps:
        return [(epoch, status, value) for epoch, value in steps]
    known = [(epoch, "done", value) for epoch, value in steps if math.isfinite(value)]
    stop = known[-1][0] + 1 if known else 1.0
    return [*known, (stop, status, math.nan)]
