"""trials.csv over its seeds: means of grid points, and differences between settings, paired by seed.

Cells of axes stay the text that the table has, so that a point is written again as it was read, and an empty cell is
itself: "its trials read no such parameter".
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
"""Two equal differences of accuracies are not equal to the last bit: a spread below this is none."""

DONE = "done"
ESTIMATES = ("mean", "std", "low", "high")
"""What a CSV tells of each measure; `low` and `high` are the ends of the 95 % interval."""

Cells = Mapping[str, str]


@dataclass(frozen=True)
class Estimate:
    """What some seeds say about a mean. Without two of them `std` and `half` are NaN, without one `mean` is.

    Attributes:
        std: standard deviation, of n − 1.
        half: half the width of the 95 % interval of the mean, by Student's t.
    """

    mean: float
    std: float
    half: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside of the interval. Seeds that agree exactly have no interval to tell it by: accuracies
        are so coarse that two or three seeds do so by chance."""
        return abs(self.mean) > self.half > ROUNDING_ERROR

    @property
    def is_one_value(self) -> bool:
        """Whether two seeds or more say the same value, which is not 0."""
        return self.half <= ROUNDING_ERROR < abs(self.mean)

    @property
    def numbers(self) -> tuple[float, ...]:
        """In the order of ESTIMATES."""
        return self.mean, self.std, self.mean - self.half, self.mean + self.half


@dataclass(frozen=True)
class Line:
    """One grid point, or one pair of points: its place on the axes, how many trials say it, and what they say."""

    place: Cells
    counts: Mapping[str, int]
    measures: Mapping[str, Estimate]


@dataclass(frozen=True)
class Summary:
    """A table over seeds.

    Attributes:
        axes: and the parameters that no grid sweeps and that differ between points all the same.
        baseline: the cells that differences are to, of the axis that was asked for and of axes that move with it;
            empty in a table of means.
        unpaired: number of points that have no counterpart in the baseline.
        shown: those of the axes that a reader needs to tell the lines apart.
        kinds: of these, the parameter that says what the lines are that lack an axis.
    """

    axes: tuple[str, ...]
    measures: tuple[str, ...]
    lines: tuple[Line, ...]
    baseline: Cells
    unpaired: int = 0
    shown: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


def over_seeds(folder: Path) -> Summary:
    """Means over the seeds of each grid point that are done; the others are counted, by status.

    Raises:
        UserError: there is no such table.
    """
    axes, measures, points = read_points(folder)
    rows = [next(iter(point.trials.values())) for point in points]
    header = list(rows[0])
    swept = _swept(header)
    shown = [*swept, *telling_apart(rows, swept, axes[len(swept) :])]
    more = naming_kinds(rows, shown, swept, [name for name in _parameters(header) if name not in axes])
    named = (
        Point({**point.place, **{name: row[name] for name in more}}, point.trials)
        for point, row in zip(points, rows, strict=True)
    )
    lines = tuple(_mean_line(point, measures) for point in named)
    return Summary((*axes, *more), measures, lines, {}, shown=(*shown, *more), kinds=tuple(more))


def differences(folder: Path, against: str) -> Summary:
    """How far the points are from those with AXIS=VALUE, seed by seed: trials of one seed share init, batches, masks
    and noise, so most of what a seed does is the same on both sides and drops out.

    A point is compared with the one that is its equal on all other axes. An empty cell is equal to any: a float32 net
    has no bitwidth, and is there for each of them. An axis that moves together with AXIS is not compared.

    Raises:
        UserError: there is no such table, axis or value, or nothing that can be paired.
    """
    axes, measures, points = read_points(folder)
    axis, values = _asked(folder, against, axes, points)
    tied = _moving_with(axis, axes, points)
    bases = [point for point in points if point.place[axis] in values]
    swept = _swept(list(next(iter(points[0].trials.values()))))
    apart = {axis, *tied}  # parameters too, such as the bitwidth of a format: they say no more than the axis does
    baseline = {name: bases[0].place[name] for name in (axis, *tied) if name == axis or name in swept}
    others = [point for point in points if point.place[axis] not in values]
    pairs, unpaired = _paired(others, bases, [name for name in axes if name not in apart])
    places = (_common_place(point, base, axes, apart) for point, base in pairs)
    lines = tuple(_difference_line(place, *pair, measures) for place, pair in zip(places, pairs, strict=True))
    _check_pairs(folder, words(baseline), others, lines)
    rows = [{**line.place, "key": str(number)} for number, line in enumerate(lines)]
    return Summary(
        axes, measures, lines, baseline, unpaired, shown=(*swept, *telling_apart(rows, swept, axes[len(swept) :]))
    )


def csv_text(summary: Summary) -> str:
    """All numbers, in full."""
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
    """Mean, standard deviation and 95 % interval of what some seeds gave."""
    n = len(values)
    mean = _sum(values) / n if n else math.nan
    if n < 2:
        return Estimate(mean, math.nan, math.nan)
    std = math.sqrt(_sum([(value - mean) * (value - mean) for value in values]) / (n - 1))
    return Estimate(mean, std, _quantile(n - 1) * std / math.sqrt(n))


def _sum(values: Iterable[float]) -> float:
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # losses near the largest float, or infinite of both signs
        return math.nan


@lru_cache
def _quantile(freedom: int) -> float:
    """How many standard errors the interval reaches, by Student's t."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def words(cells: Cells) -> str:
    """Cells as one would type them, and an empty one as what it means."""
    return ", ".join(f"{name}={cell}" if cell else f"no {name}" for name, cell in cells.items())


# --- grid points ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """The trials of one grid point, by seed."""

    place: Cells
    trials: Mapping[str, Cells]

    def values(self, seed: str) -> dict[str, float] | None:
        """What a trial that is done gave; None for one that is not, or not there."""
        row = self.trials.get(seed)
        if row is None or row["status"] != DONE:
            return None
        return {name: float(row[name]) for name in MEASURES if row.get(name)}


def read_points(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...], list[Point]]:
    """The axes of a table, what it measures, and its points in the order in which they stand there."""
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
    tables.read_trials(folder)  # says what is wrong with the table
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
    """The columns that a reader needs to tell the rows of a table apart, besides key, status and seed."""
    swept, parameters = _swept(header), _parameters(header)
    shown = [*swept, *telling_apart(rows, [*swept, "seed"], parameters)]
    return [*shown, *naming_kinds(rows, shown, swept, parameters)]


def telling_apart(rows: Sequence[Cells], axes: Sequence[str], parameters: Sequence[str]) -> list[str]:
    """Few parameters by which trials differ that have equal cells on the axes, formats before all others."""
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
    """The parameter that says what the rows are that lack an axis which others have, as a float32 reference lacks the
    bitwidths of a grid; none where a column that is shown says it."""
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
"""How the columns begin that say what a role is rounded to."""


def _differing(rows: Iterable[Cells], axes: Sequence[str], parameters: Sequence[str]) -> list[str]:
    """The parameters that no grid sweeps, and that differ all the same at one place and seed: two grids of one spec
    have the same axes and another `trial`. Their means are not to be mixed."""
    first: dict[tuple[str, ...], Cells] = {}
    found: set[str] = set()
    for row in rows:
        other = first.setdefault((row["seed"], *(row[name] for name in axes)), row)
        if row["key"] != other["key"]:
            found.update(name for name in parameters if row[name] != other[name])
    return [name for name in parameters if name in found]


def _points(rows: Iterable[Cells], axes: Sequence[str], path: Path) -> list[Point]:
    """Rows of one place, each trial once: a grid repeats the trials that do not read one of its axes."""
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


def _asked(folder: Path, against: str, axes: Sequence[str], points: Sequence[Point]) -> tuple[str, set[str]]:
    """The axis that --against names, and its cells that mean the value: `1` is how one types 1.0."""
    axis, equals, value = against.partition("=")
    if not equals:
        raise UserError(f"--against {cut(against)}: expected AXIS=VALUE, such as rounding=nearest")
    if axis == "seed":
        raise UserError(f"--against {cut(against)}: {OF_SEEDS}" + (f" ({few(axes)})" if axes else ""))
    if not axes:
        raise UserError(f"{folder} has no axes: there is nothing to compare in it")
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
    "pairs are made by seed: each difference is between two trials of one seed. Name the axis to compare; `--aggregate`"
    " shows what varies from seed to seed"
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
    """The axes that have one value for each value of `axis`, as those of a `zip` do."""
    steps = {point.place[axis] for point in points}
    there = {name: {(point.place[axis], point.place[name]) for point in points} for name in axes if name != axis}
    return [
        name for name, pairs in there.items() if len(pairs) == len(steps) and len({value for _, value in pairs}) > 1
    ]


def _paired(
    points: Sequence[Point], bases: Sequence[Point], axes: Sequence[str]
) -> tuple[list[tuple[Point, Point]], int]:
    """Each point with those that it can be compared with, and how many points have none."""
    index = _Index(bases, axes)
    found = [(point, index.nearest(point)) for point in points]
    return [(point, base) for point, own in found for base in own], sum(not own for _, own in found)


class _Index:
    """Points by the axes on which they have a value, so that those equal to another are found without a search."""

    def __init__(self, points: Sequence[Point], axes: Sequence[str]) -> None:
        self.axes = axes
        self.kinds: dict[tuple[str, ...], list[Point]] = {}
        for point in points:
            self.kinds.setdefault(self._named(point), []).append(point)
        self.by_cells: dict[tuple[tuple[str, ...], ...], dict[tuple[str, ...], list[Point]]] = {}

    def nearest(self, point: Point) -> list[Point]:
        """Those that say the same on all axes on which both say something; of the kind that lacks the fewest axes."""
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


def _common_place(point: Point, base: Point, axes: Sequence[str], apart: Collection[str]) -> Cells:
    """Where a pair stands: the point's cells, and the other's on the axes on which the point has none and that are not
    those on which they are set apart."""
    return {name: point.place[name] if name in apart else point.place[name] or base.place[name] for name in axes}


def _difference_line(place: Cells, point: Point, base: Point, measures: Sequence[str]) -> Line:
    seeds = list(dict.fromkeys([*point.trials, *base.trials]))
    found = list(_by_seed(point, base, seeds))
    return Line(place, {"n": len(found), "left_out": len(seeds) - len(found)}, _estimates(found, measures))


def _by_seed(point: Point, base: Point, seeds: Iterable[str]) -> Iterator[dict[str, float]]:
    """The differences of all seeds that are done on both sides."""
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
