"""The output of `table`: the trials of a sweep, means over seeds, or the lowest values of an axis."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from qsweep.cli.columns import WIDE, digits, fitted, width_of
from qsweep.results import aggregate, lowest, tables
from qsweep.results.keys import SHORT_KEY
from qsweep.trial.measures import METRICS, MODEL_BITS

PAGE = 80
"""Width of a table of means; a wider terminal shows more metrics."""


# --- trials -----------------------------------------------------------------------------------------------------------


def trials_table(sweep: Path, width: int = WIDE) -> str:
    """The rows of a sweep: key, status, what distinguishes them, metrics to 4 digits, model bits if they vary."""
    trials = tables.read_trials(sweep)
    names = [*aggregate.distinguishing_columns(*aggregate.read_rows(sweep)), "seed"]
    varying = [name for name in names if trials[name].nunique(dropna=False) > 1]
    done = trials[trials["status"] == "done"]
    sizes = [name for name in [MODEL_BITS] if name in done and done[name].nunique(dropna=False) > 1]
    shown = ["key", "status", *varying, *METRICS, *sizes]
    rows = [shown]
    for row in trials.to_dict("records"):
        rows.append([_short(name, row[name]) for name in shown])
    return fitted(rows, width)


def trials_text(sweep: Path) -> str:
    """The text of trials.csv, after a check that it is a table."""
    tables.read_trials(sweep)
    return (sweep / "trials.csv").read_text(encoding="utf-8")


def _short(name: Any, value: Any) -> str:
    if value != value:  # NaN: an empty cell
        return ""
    if name == "key":
        return str(value)[:SHORT_KEY]
    if name in METRICS:
        return digits(value)
    if name == MODEL_BITS:
        return f"{value:.0f}"
    return f"{value:g}" if isinstance(value, float) else tables.cell(value)


# --- means over seeds -------------------------------------------------------------------------------------------------


def summary_table(summary: aggregate.Summary, width: int = PAGE) -> str:
    """The axes that vary, the trials per line, and as many metrics as fit, each ± half of its 95 % interval."""
    places, measured = _summary_columns(summary, width)
    axes = sum(name in summary.axes for name, *_ in places)
    return fitted(list(zip(*places, *measured.values(), strict=True)), width, max(axes, 1))


def _summary_columns(summary: aggregate.Summary, width: int) -> tuple[list[list[str]], dict[str, list[str]]]:
    """The columns that identify a line, and those of the metrics that fit beside them: at least one."""
    several = {name for name in summary.shown if len({line.place[name] for line in summary.lines}) > 1}
    axes = [name for name in summary.axes if name in several or name in summary.baseline]
    counts = [name for name in _count_names(summary) if name == "n" or any(line.counts[name] for line in summary.lines)]
    columns = [[name, *(_axis_cell(line.place[name]) for line in summary.lines)] for name in axes]
    columns += [[name, *(str(line.counts[name] or "·") for line in summary.lines)] for name in counts]
    measured = _measured(summary)
    if width_of([*columns, *list(measured.values())[:1]]) > width:
        columns = [column for column in columns if column[0] not in summary.kinds]
    while len(measured) > 1 and width_of([*columns, *measured.values()]) > width:
        measured.popitem()
    return columns, measured


def _measured(summary: aggregate.Summary) -> dict[str, list[str]]:
    """A column for each metric that some line has, and for model bits if they vary; the most important ones first."""
    columns = {}
    for name in METRICS:
        estimates = [line.measures[name] for line in summary.lines]
        if any(e.mean == e.mean for e in estimates):
            columns[name] = [name, *_estimate_cells(estimates, bool(summary.baseline))]
        bits = _bits_cells(summary)
        is_done = [line.counts["n"] for line in summary.lines]
        if name == METRICS[0] and len({*compress(bits, is_done)}) > 1:
            columns[MODEL_BITS] = [MODEL_BITS, *bits]
    return columns


def summary_note(summary: aggregate.Summary, width: int = PAGE) -> str:
    """How to read the table, and which metrics did not fit."""
    shown = _summary_columns(summary, width)[1]
    left_out = [name for name in _measured(summary) if name not in shown]
    return _reading(summary, shown) + (
        f"; --csv or a wider terminal also shows {', '.join(left_out)}" if left_out else ""
    )


def _reading(summary: aggregate.Summary, shown: Collection[str]) -> str:
    if not summary.baseline:
        return "mean ± half of its 95 % interval, over the n seeds that are done"
    paired = f"difference from the trial of the same seed with {aggregate.words(summary.baseline)}"
    reading = "mean ± half of its 95 % interval, over n pairs; * where the interval excludes 0"
    if any(line.measures[name].is_one_value for line in summary.lines for name in METRICS if name in shown):
        reading += ", except where all pairs differ by the same amount (± 0.0000), which can be a coincidence"
    unpaired = f"; {summary.unpaired} points have no partner" if summary.unpaired else ""
    return f"{paired}: {reading}{unpaired}"


def _count_names(summary: aggregate.Summary) -> list[str]:
    return list(summary.lines[0].counts) if summary.lines else []


def _axis_cell(text: str) -> str:
    """A cell of an axis: 1.0 as 1, and 2^-14 with as many digits as in the other tables."""
    try:
        return f"{float(text):g}" if {".", "e"} & {*text} else text
    except ValueError:
        return text


def _estimate_cells(estimates: Sequence[aggregate.Estimate], differences: bool) -> list[str]:
    """One metric's column, with decimal points, signs and ± aligned."""
    means = [digits(e.mean, "+z" if differences else "") for e in estimates]
    halves = [digits(e.half) for e in estimates]
    before, after = max(map(len, means), default=0), max(map(len, halves), default=0)
    stars = [" *" if differences and e.excludes_zero else "" for e in estimates]
    return [
        mean.rjust(before) + (f" ± {half.rjust(after)}" if half else "") + star
        for mean, half, star in zip(means, halves, stars, strict=True)
    ]


def _bits_cells(summary: aggregate.Summary) -> list[str]:
    """Model bits, which seldom differ between seeds: only their means."""
    sign, known = "+" if summary.baseline else "", MODEL_BITS in summary.measures
    means = [line.measures[MODEL_BITS].mean if known else math.nan for line in summary.lines]
    return ["" if mean != mean else format(mean, f"{sign}.0f") for mean in means]


# --- lowest values ----------------------------------------------------------------------------------------------------


def lowest_table(answer: lowest.Answer, width: int = WIDE) -> str:
    """A line for each point of the other axes: the lowest value, its accuracy, and higher values that fail."""
    axes = [name for name in answer.axes if len({line.place[name] for line in answer.lines}) > 1]
    columns = [[name, *(_axis_cell(line.place[name]) for line in answer.lines)] for name in axes]
    lows = [line.edge.lowest for line in answer.lines]
    columns.append([f"lowest {answer.axis}", *("·" if low is None else f"{low:g}" for low in lows)])
    found = [line.accuracy for line in answer.lines]
    columns.append([answer.measure, *("·" if a is None else f"{a:.4f}" for a in found)])
    for name, values in (
        ("fails above", [line.edge.fails for line in answer.lines]),
        ("not run", [line.lacking for line in answer.lines]),
    ):
        if any(values):
            columns.append([name, *(_few(own) for own in values)])
    return fitted(list(zip(*columns, strict=True)), width, max(len(axes), 1))


def _few(values: Sequence[float]) -> str:
    """The first three of some numbers, and how many more there are."""
    more = f" +{len(values) - 3}" if len(values) > 3 else ""
    return " ".join(f"{value:g}" for value in values[:3]) + more or "·"


def lowest_note(answer: lowest.Answer) -> str:
    """The accuracy that had to be reached."""
    if answer.best is None:
        return f"{answer.measure} of {answer.target:.4f} or more, mean over seeds"
    accuracy, place = answer.best
    at = aggregate.words({name: _axis_cell(cell) for name, cell in place.items() if cell})
    without = f"the best without {answer.axis} is {accuracy:.4f}" + (f" at {at}" if at else "")
    return f"{answer.measure} of {answer.target:.4f} or more, mean over seeds; {without}"
