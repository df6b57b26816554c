"""The lowest value of an axis, such as a bitwidth, at which the trials of a table still reach an accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qsweep.errors import UserError, cut, unknown
from qsweep.parameter import BadValueError
from qsweep.results.aggregate import Cells, Point, read_points
from qsweep.results.records import FINAL
from qsweep.trial.reach import ACCURACIES, Edge, edge, mean, read_reach


@dataclass(frozen=True)
class Lowest:
    """The edge at one point of all other axes.

    Attributes:
        place: the cells of the other axes.
        accuracy: the mean over seeds at the lowest value; None if there is none.
        lacking: values whose trials have not all run.
    """

    place: Cells
    edge: Edge
    accuracy: float | None
    lacking: tuple[float, ...]


@dataclass(frozen=True)
class Answer:
    """The content of `table --lowest`.

    Attributes:
        best: the reference's best accuracy and its place, if a share was requested.
    """

    axis: str
    axes: tuple[str, ...]
    measure: str
    target: float
    best: tuple[float, Cells] | None
    lines: tuple[Lowest, ...]


def lowest(folder: Path, axis: str, reach: str) -> Answer:
    """The edge of an axis at each point of the other axes, from means over seeds; diverged trials reach nothing.

    Raises:
        UserError: there is no such table or axis, `reach` is invalid, or there is no reference to take a share of.
    """
    axes, _, points = read_points(folder)
    if axis not in axes:
        raise UserError(f"{folder}: --lowest: {unknown('axis', axis, axes)}")
    try:
        wanted = read_reach(reach)
    except BadValueError as error:
        raise UserError(f"--reach: {error}") from None
    measure = next((name for name in ACCURACIES if _is_measured(name, points)), "")
    if not measure:
        raise UserError(f"{folder}: no trial is done, so nothing is reached (`qsweep status {folder}`)")
    references = {
        i: found for i, p in enumerate(points) if not p.place[axis] and (found := _mean(p, measure)) is not None
    }
    if wanted.is_share and not references:
        raise UserError(
            f"{folder}: --reach {reach} is a share of the accuracy of trials without {axis}, and there are none: add a"
            f" block of them (float32), or give an accuracy, as in --reach 0.9"
        )
    reached = {i: accuracy for i, accuracy in references.items() if not math.isnan(accuracy)}
    best = max(reached, key=reached.__getitem__, default=None) if wanted.is_share else None
    others = tuple(name for name in axes if name != axis)
    target = wanted.target(references.values())
    lines = tuple(_line(own, axis, others, measure, target) for own in _groups(points, axis, others, folder))
    reference = None if best is None else (references[best], {name: points[best].place[name] for name in others})
    return Answer(axis, others, measure, target, reference, lines)


def _is_measured(measure: str, points: Iterable[Point]) -> bool:
    return any(row.get(measure) for point in points for row in point.trials.values())


def _mean(point: Point, measure: str) -> float | None:
    """The mean over seeds; NaN if one of them diverged, None if one has not run."""
    if any(row["status"] not in FINAL for row in point.trials.values()):
        return None
    return mean([values[measure] if (values := point.values(seed)) else math.nan for seed in point.trials])


def _groups(points: Iterable[Point], axis: str, others: tuple[str, ...], folder: Path) -> list[list[Point]]:
    """The points that have a value on this axis, grouped by their places on the other axes."""
    groups: dict[tuple[str, ...], list[Point]] = {}
    for point in points:
        if point.place[axis]:
            _number(point.place[axis], axis, folder)
            groups.setdefault(tuple(point.place[name] for name in others), []).append(point)
    return list(groups.values())


def _number(cell: str, axis: str, folder: Path) -> float:
    try:
        return float(cell)
    except ValueError:
        raise UserError(f"{folder}: --lowest {axis}: '{cut(cell)}' is not a number, so it has no order") from None


def _line(points: list[Point], axis: str, others: tuple[str, ...], measure: str, target: float) -> Lowest:
    means = {float(point.place[axis]): _mean(point, measure) for point in points}
    known = {value: accuracy for value, accuracy in means.items() if accuracy is not None}
    found = edge(known, target)
    accuracy = None if found.lowest is None else known[found.lowest]
    place = {name: points[0].place[name] for name in others}
    return Lowest(place, found, accuracy, tuple(sorted(means.keys() - known.keys())))
