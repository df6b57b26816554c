"""Aggregates trials.csv over seeds: means of grid points, and differences between settings, paired by seed.

Cells of axes stay text, so that points are written as they were read, and an empty cell keeps its meaning: the trials
do not read the parameter.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from qsweep.errors import MAX_SHOWN, UserError, cut, did_you_mean, few, unknown
from qsweep.results import tables
from qsweep.results.records import STATUSES
from qsweep.trial.measures import MEASURES, NOT_ROUNDED

CONFIDENCE = 0.95
ROUNDING_ERROR = 1e-12
"""Equal differences of accuracies can differ in the last bits: a smaller spread counts as 0."""

DONE = "done"
ESTIMATES = ("mean", "std", "low", "high")
"""The columns of each measure in CSV; `low` and `high` are the bounds of the 95 % interval."""

Cells = Mapping[str, str]


@dataclass(frozen=True)
class Estimate:
    """An estimated mean over seeds. With fewer than two seeds `std` and `half` are NaN; with none, `mean` is too.

    Attributes:
        std: standard deviation with n − 1.
        half: half the width of the 95 % interval of the mean, by Student's t.
    """

    mean: float
    std: float
    half: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside the interval. False for seeds that agree exactly: accuracies are so coarse that two or
        three seeds can agree by coincidence."""
        return abs(self.mean) > self.half > ROUNDING_ERROR

    @property
    def is_one_value(self) -> bool:
        """Whether two or more seeds have the same value, which is not 0."""
        return self.half <= ROUNDING_ERROR < abs(self.mean)

    @property
    def numbers(self) -> tuple[float, ...]:
        """In the order of ESTIMATES."""
        return self.mean, self.std, self.mean - self.half, self.mean + self.half


@dataclass(frozen=True)
class Line:
    """A grid point, or a pair of points: its place on the axes, its numbers of trials, and its estimates."""

    place: Cells
    counts: Mapping[str, int]
    measures: Mapping[str, Estimate]


@dataclass(frozen=True)
class Summary:
    """A table over seeds.

    Attributes:
        axes: the axes, and parameters that no grid sweeps but that differ between points.
        baseline: the cells of the baseline on the requested axis and on axes that move with it; empty in a table of
            means.
        unpaired: number of points that have no counterpart in the baseline.
        shown: the axes needed to distinguish the lines.
        kinds: of these, the parameter that identifies lines without a value on some axis.
    """

    axes: tuple[str, ...]
    measures: tuple[str, ...]
    lines: tuple[Line, ...]
    baseline: Cells
    unpaired: int = 0
    shown: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


def over_seeds(folder: Path) -> Summary:
    """Means over the done seeds of each grid point; the other seeds are counted by status.

    Raises:
        UserError: there is no such table.
    """
    axes, measures, points = read_points(folder)
    rows = [next(iter(point.trials.values())) for point in points]
    header = list(rows[0])
    swept = _swept(header)
    shown = [*swept, *distinguishing(rows, swept, axes[len(swept) :])]
    more = naming_kinds(rows, shown, swept, [name for name in _parameters(header) if name not in axes])
    named = (
        Point({**point.place, **{name: row[name] for name in more}}, point.trials)
        for point, row in zip(points, rows, strict=True)
    )
    lines = tuple(_mean_line(point, measures) for point in named)
    return Summary((*axes, *more), measures, lines, {}, shown=(*shown, *more), kinds=tuple(more))


def differences(folder: Path, against: str) -> Summary:
    """Differences from the points with AXIS=VALUE, seed by seed: trials with the same seed share init, batches, masks
    and noise, so most of a seed's effect cancels.

    A point is compared with the point that is equal on all other axes. An empty cell equals any value: a float32 net
    has no bitwidth, and is compared at each of them. An axis that moves together with AXIS is not compared.

    Raises:
        UserError: there is no such table, axis or value, or there are no pairs.
    """
    axes, measures, points = read_points(folder)
    axis, values = _requested(folder, against, axes, points)
    tied = _moving_with(axis, axes, points)
    bases = [point for point in points if point.place[axis] in values]
    swept = _swept(list(next(iter(points[0].trials.values()))))
    compared = {axis, *tied}  # including parameters such as the bitwidth of a format, which follow from the axis
    baseline = {name: bases[0].place[name] for name in (axis, *tied) if name == axis or name in swept}
    others = [point for point in points if point.place[axis] not in values]
    pairs, unpaired = _paired(others, bases, [name for name in axes if name not in compared])
    places = (_common_place(point, base, axes, compared) for point, base in pairs)
    lines = tuple(_difference_line(place, *pair, measures) for place, pair in zip(places, pairs, strict=True))
    _check_pairs(folder, words(baseline), others, lines)
    rows = [{**line.place, "key": str(number)} for number, line in enumerate(lines)]
    return Summary(
        axes, measures, lines, baseline, unpaired, shown=(*swept, *distinguishing(rows, swept, axes[len(swept) :]))
    )


def csv_text(summary: Summary) -> str:
    """A summary as CSV, with all numbers in full."""
    counts = list(summary.lines[0].counts) if summary.lines else ["n"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [*summary.axes, *counts, *(f"{measure}_{name}" for measure in summary.measures for name in ESTIMATES)]
    )
    for line in summary.lines:
        numbers = [number for measure in summary.measures for number in line.measures[measure].numbers]
        places = [line.place[name] for name in summary.axes]
        writer.writerow([*places, *line.counts.values(), *("" if math.isnan(x) else tables.cell(x) for x in numbers)])
    return stream.getvalue()


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation and 95 % interval of the values of some seeds."""
    n = len(values)
    mean = _sum(values) / n if n else math.nan
    if n < 2:
        return Estimate(mean, math.nan, math.nan)
    std = math.sqrt(_sum([(value - mean) * (value - mean) for value in values]) / (n - 1))
    return Estimate(mean, std, _quantile(n - 1) * std / math.sqrt(n))


def _sum(values: Iterable[float]) -> float:
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # losses near the largest float, or infinities of both signs
        return math.nan


@lru_cache
def _quantile(freedom: int) -> float:
    """Half the width of the interval in standard errors, by Student's t."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def words(cells: Cells) -> str:
    """Cells as `axis=value`, and empty ones as `no axis`."""
    return ", ".join(f"{name}={cell}" if cell else f"no {name}" for name, cell in cells.items())


# --- grid points ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """The trials of one grid point, by seed."""

    place: Cells
    trials: Mapping[str, Cells]

    def values(self, seed: str) -> dict[str, float] | None:
        """The measures of a done trial; None if it is not done, or there is none."""
        row = self.trials.get(seed)
        if row is None or row["status"] != DONE:
            return None
        return {name: float(row[name]) for name in MEASURES if row.get(name)}


def read_points(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...], list[Point]]:
    """The axes of a table, its measures, and its points in the order of the table."""
    header, rows = read_rows(folder)
    axes = _swept(header)
    axes += _differing(rows, axes, _parameters(header))
    measures = tuple(name for name in header if name in MEASURES)
    return tuple(axes), measures, _points(rows, axes, folder / "trials.csv")


def read_rows(folder: Path) -> tuple[list[str], list[Cells]]:
    """The columns of a sweep's table, and its rows as text.

    Raises:
        UserError: there is no such table.
    """
    tables.read_trials(folder)  # reports what is wrong with the table
    with (folder / "trials.csv").open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream, restval="")
        rows: list[Cells] = list(reader)
        return list(reader.fieldnames or ()), rows


def _swept(header: Sequence[str]) -> list[str]:
    """The axes of a table."""
    return list(header[header.index("status") + 1 : header.index("seed")])


def _parameters(header: Sequence[str]) -> list[str]:
    """The parameters of a table that are not axes."""
    after = header[header.index("reason") + 1 :] if "reason" in header else ()
    return [name for name in after if name != NOT_ROUNDED]


def distinguishing_columns(header: Sequence[str], rows: Sequence[Cells]) -> list[str]:
    """The columns needed to distinguish the rows of a table, besides key, status and seed."""
    swept, parameters = _swept(header), _parameters(header)
    shown = [*swept, *distinguishing(rows, [*swept, "seed"], parameters)]
    return [*shown, *naming_kinds(rows, shown, swept, parameters)]


def distinguishing(rows: Sequence[Cells], axes: Sequence[str], parameters: Sequence[str]) -> list[str]:
    """A few parameters that distinguish trials with equal cells on the axes, formats first."""
    ordered = sorted(parameters, key=lambda name: not name.startswith(ROLE_COLUMNS))
    chosen: list[str] = []
    while alike := _alike(rows, [*axes, *chosen]):
        gains = {name: sum(len({row[name] for row in group}) - 1 for group in alike) for name in ordered}
        best = max(ordered, key=lambda name: gains[name], default="")
        if not best or not gains[best]:
            break
        chosen.append(best)
    return chosen


def _alike(rows: Iterable[Cells], names: Sequence[str]) -> list[list[Cells]]:
    """The groups of several trials that have equal cells in these columns."""
    groups: dict[tuple[str, ...], dict[str, Cells]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), {})[row["key"]] = row
    return [list(group.values()) for group in groups.values() if len(group) > 1]


def naming_kinds(
    rows: Sequence[Cells], shown: Sequence[str], axes: Sequence[str], parameters: Sequence[str]
) -> list[str]:
    """The parameter that identifies rows without a value on some axis, such as a float32 reference in a grid of
    bitwidths; none if a shown column already does."""
    kinds: dict[tuple[bool, ...], list[Cells]] = {}
    for row in rows:
        kinds.setdefault(tuple(bool(row[name]) for name in axes), []).append(row)

    def parts(name: str) -> bool:
        found = [{row[name] for row in kind} for kind in kinds.values()]
        return "" not in set().union(*found) and sum(map(len, found)) == len(set().union(*found))

    if len(kinds) < 2 or any(map(parts, shown)):
        return []
    return [name for name in sorted(parameters, key=lambda name: not name.startswith(ROLE_COLUMNS)) if parts(name)][:1]


ROLE_COLUMNS = "quantize."
"""Prefix of the columns with the formats of roles."""


def _differing(rows: Iterable[Cells], axes: Sequence[str], parameters: Sequence[str]) -> list[str]:
    """The parameters that no grid sweeps but that differ at one place and seed: two grids of a spec can have the same
    axes and different `trial`s. Their means must not be mixed."""
    first: dict[tuple[str, ...], Cells] = {}
    found: set[str] = set()
    for row in rows:
        other = first.setdefault((row["seed"], *(row[name] for name in axes)), row)
        if row["key"] != other["key"]:
            found.update(name for name in parameters if row[name] != other[name])
    return [name for name in parameters if name in found]


def _points(rows: Iterable[Cells], axes: Sequence[str], path: Path) -> list[Point]:
    """Group rows by place, with each trial once: a grid repeats trials that do not read one of its axes."""
    trials: dict[tuple[str, ...], dict[str, Cells]] = {}
    for row in rows:
        seeds = trials.setdefault(tuple(row[name] for name in axes), {})
        if seeds.setdefault(row["seed"], row)["key"] != row["key"]:
            raise UserError(f"{path} has two trials of seed {row['seed']} that differ in no parameter: {row['key']}")
    return [Point(dict(zip(axes, cells, strict=True)), seeds) for cells, seeds in trials.items()]


def _mean_line(point: Point, measures: Sequence[str]) -> Line:
    statuses = Counter(row["status"] for row in point.trials.values())
    counts = {"n": statuses[DONE], **{name: statuses[name] for name in STATUSES if name != DONE}}
    found = [values for seed in point.trials if (values := point.values(seed)) is not None]
    return Line(point.place, counts, _estimates(found, measures))


def _estimates(trials: Sequence[Mapping[str, float]], measures: Sequence[str]) -> dict[str, Estimate]:
    return {name: estimate([values[name] for values in trials if name in values]) for name in measures}


# --- differences ------------------------------------------------------------------------------------------------------


def _requested(folder: Path, against: str, axes: Sequence[str], points: Sequence[Point]) -> tuple[str, set[str]]:
    """The axis that --against names, and its cells that match the value; `1` matches 1.0."""
    axis, equals, value = against.partition("=")
    if not equals:
        raise UserError(f"--against {cut(against)}: expected AXIS=VALUE, such as rounding=nearest")
    if axis == "seed":
        raise UserError(f"--against {cut(against)}: {OF_SEEDS}" + (f" ({few(axes)})" if axes else ""))
    if not axes:
        raise UserError(f"{folder} has no axes, so there is nothing to compare")
    if axis not in axes:
        raise UserError(f"{folder}: --against: {unknown('axis', axis, axes)}")
    there = list(dict.fromkeys(point.place[axis] for point in points))
    found = {cell for cell in there if cell in (value, tables.cell(value)) or _same_number(cell, value)}
    if not found:
        raise UserError(f"{folder}: --against: {_no_such_value(axis, value, there)}")
    if len(found) == len(there):
        raise UserError(f"{folder}: {axis} is {value} in all its trials: there is nothing to compare with them")
    return axis, found


OF_SEEDS = (
    "pairs are formed by seed: each difference is between two trials with the same seed. Name the axis to compare;"
    " `--aggregate` shows the variation between seeds"
)
"""Why seeds are not an axis to compare."""


def _same_number(cell: str, value: str) -> bool:
    try:
        return float(cell) == float(value)
    except ValueError:
        return False


def _no_such_value(axis: str, value: str, there: Sequence[str]) -> str:
    named = [cell for cell in there if cell]
    more = [f"and {len(named) - MAX_SHOWN} more"] if len(named) > MAX_SHOWN else []
    shown = ", ".join([*named[:MAX_SHOWN], *more])
    without = f"; `{axis}=` means the trials without one" if "" in there else ""
    near = did_you_mean(value, named)
    return f"no trial has {axis}={cut(value)}{near} (one of: {shown}{without})"


def _moving_with(axis: str, axes: Sequence[str], points: Sequence[Point]) -> list[str]:
    """The axes with exactly one value for each value of `axis`, like those of a `zip`."""
    steps = {point.place[axis] for point in points}
    there = {name: {(point.place[axis], point.place[name]) for point in points} for name in axes if name != axis}
    return [
        name for name, pairs in there.items() if len(pairs) == len(steps) and len({value for _, value in pairs}) > 1
    ]


def _paired(
    points: Sequence[Point], bases: Sequence[Point], axes: Sequence[str]
) -> tuple[list[tuple[Point, Point]], int]:
    """Each point with its counterparts, and the number of points without one."""
    index = _Index(bases, axes)
    found = [(point, index.nearest(point)) for point in points]
    return [(point, base) for point, own in found for base in own], sum(not own for _, own in found)


class _Index:
    """Points indexed by the axes on which they have a value, to find equal points without a search."""

    def __init__(self, points: Sequence[Point], axes: Sequence[str]) -> None:
        self.axes = axes
        self.kinds: dict[tuple[str, ...], list[Point]] = {}
        for point in points:
            self.kinds.setdefault(self._named(point), []).append(point)
        self.by_cells: dict[tuple[tuple[str, ...], ...], dict[tuple[str, ...], list[Point]]] = {}

    def nearest(self, point: Point) -> list[Point]:
        """The points that agree on all axes where both have a value, of the kind that lacks the fewest axes."""
        own = self._named(point)
        for kind in sorted(self.kinds, key=lambda names: len({*names} ^ {*own})):
            common = tuple(name for name in own if name in kind)
            if found := self._with_cells(kind, common).get(_cells(point, common)):
                return found
        return []

    def _named(self, point: Point) -> tuple[str, ...]:
        return tuple(name for name in self.axes if point.place[name])

    def _with_cells(self, kind: tuple[str, ...], common: tuple[str, ...]) -> dict[tuple[str, ...], list[Point]]:
        if (kind, common) not in self.by_cells:
            found = self.by_cells[kind, common] = {}
            for point in self.kinds[kind]:
                found.setdefault(_cells(point, common), []).append(point)
        return self.by_cells[kind, common]


def _cells(point: Point, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(point.place[name] for name in names)


def _common_place(point: Point, base: Point, axes: Sequence[str], compared: Collection[str]) -> Cells:
    """The place of a pair: the cells of the point or, where it has none, of the base, except on the axes that are
    compared."""
    return {name: point.place[name] if name in compared else point.place[name] or base.place[name] for name in axes}


def _difference_line(place: Cells, point: Point, base: Point, measures: Sequence[str]) -> Line:
    seeds = list(dict.fromkeys([*point.trials, *base.trials]))
    found = list(_by_seed(point, base, seeds))
    return Line(place, {"n": len(found), "left_out": len(seeds) - len(found)}, _estimates(found, measures))


def _by_seed(point: Point, base: Point, seeds: Iterable[str]) -> Iterator[dict[str, float]]:
    """The differences for all seeds that are done on both sides."""
    for seed in seeds:
        values, others = point.values(seed), base.values(seed)
        if values is not None and others is not None:
            yield {name: values[name] - others[name] for name in values if name in others}


def _check_pairs(folder: Path, baseline: str, points: Sequence[Point], lines: Sequence[Line]) -> None:
    if not lines:
        raise UserError(
            f"{folder}: no pairs: none of the {len(points)} other points is equal to a point with {baseline} on all "
            "other axes"
        )
    if not any(line.counts["n"] for line in lines):
        raise UserError(
            f"{folder}: no pairs: no seed is done both with {baseline} and without it (`qsweep status {folder}`; "
            "`qsweep run` trains what is missing)"
        )
