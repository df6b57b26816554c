"""Checks before training that the rows of a spec have what its plots and its search need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from qsweep.errors import unknown
from qsweep.parameter import show
from qsweep.spec import figures
from qsweep.spec.file import Spec
from qsweep.spec.plots import MOST_LINES, PLACE, PLOT_KINDS, REACH
from qsweep.spec.points import ROLE_PATHS, Row
from qsweep.spec.reader import Mistakes, Place
from qsweep.trial import cost
from qsweep.trial.key import Trial, configurations
from qsweep.trial.measures import DRAWN, MEASURES, METRICS, MODEL_BITS, SECONDS, SIZES, why_columns
from qsweep.trial.reach import ACCURACIES, DEFAULT_REACH, read_reach
from qsweep.trial.roles import FLOAT32, ROLES, STORED
from qsweep.trial.settings import Settings

PLACES = ("x", "y", "z", "line", "facet")
"""The fields of a plot that name columns."""
KNOWN_AFTER_TRAINING = frozenset(("epoch", "status", *DRAWN))
"""Columns without values in a plan."""


@dataclass(frozen=True)
class Checks:
    """The checks of one spec's plots and search.

    Attributes:
        axes: names of the swept columns.
        read: names of all parameters that some trial reads.
        rows: the rows of the plan, at least one.
        mistakes: collects what is found.
    """

    spec: Spec
    axes: tuple[str, ...]
    read: set[str]
    rows: Sequence[Row]
    mistakes: Mistakes

    @cached_property
    def configurations(self) -> list[Trial]:
        """One trial of each configuration: trials that differ only in seed and key share one."""
        return configurations(row.trial for row in self.rows)

    def all(self) -> None:
        if self.spec.search:
            self._check_lowest(self.spec.search.axis, self.spec.search.reach, "bisect", ("search",))
            self._check_places()
        self._check_empty()
        for index, plot in enumerate(self.spec.plots):
            kind, place = PLOT_KINDS[plot["kind"]], ("plots", index)
            self._check_columns(plot, place)
            self._check_measures(plot, place)
            self._check_counts(plot, place)
            if kind.lowest:
                self._check_lowest(plot[kind.lowest], plot.get(REACH, DEFAULT_REACH), kind.lowest, place)
            if PLACE in kind.needs:
                self._check_histogram(plot, place)

    def _check_empty(self) -> None:
        """Report if no trial will have the accuracy for the search, or the training metrics of a plot."""
        empty = set.intersection(*(_lacks(trial.view) for trial in self.configurations))
        if self.spec.search and empty.issuperset(ACCURACIES):
            self.mistakes.add(
                ("search",), "no trial has an accuracy: none ends with training, and `split: all` leaves no test set"
            )
        for index, plot in enumerate(self.spec.plots):
            if plot.get("x") == "epoch":
                continue  # the epochs before the compression have them
            for field in [f for f in PLACES if plot.get(f) in empty and plot[f].startswith("train")]:
                self.mistakes.add(
                    ("plots", index, field),
                    f"no trial has {plot[field]}: all end with a compression, which is only tested",
                )

    def _check_columns(self, plot: Mapping[str, Any], place: Place) -> None:
        """Report if the table will not have a column of a plot."""
        kind = PLOT_KINDS[plot["kind"]]
        for field in [f for f in ("x", "y", "line", "facet") if f in plot and f != kind.metric]:
            shown = (*self.axes, "seed", *(("epoch",) if kind.has_epochs and field == "x" else ()))
            if plot[field] not in (*shown, *MEASURES, "status") and plot[field] not in self.read:
                self.mistakes.add((*place, field), unknown("column", plot[field], shown))

    def _check_measures(self, plot: Mapping[str, Any], place: Place) -> None:
        """Report if no trial will have a measure of a plot."""
        for field in [field for field in PLACES if plot.get(field) in MEASURES]:
            if why := _why_none_has(plot[field], self.configurations):
                self.mistakes.add((*place, field), f"no trial has {plot[field]}: {why}")
            elif plot[field] in SIZES and plot.get("x") == "epoch" and field == PLOT_KINDS[plot["kind"]].metric:
                self.mistakes.add((*place, field), f"{plot[field]} is the same in every epoch: choose another x")

    def _check_counts(self, plot: Mapping[str, Any], place: Place) -> None:
        """Report if a figure would have too many panels or lines."""
        kind = PLOT_KINDS[plot["kind"]]
        spots = figures.named([self._spot(row, plot) for row in self.rows if _is_drawn(row.trial, plot)])
        if kind.lowest:  # such a figure shows no references
            spots = [spot for spot in spots if spot.x is not None and spot.series is not None]
        facets = {spot.facet for spot in spots} - {None}
        if message := _too_many(plot.get("facet"), len(facets), figures.panels(spots), kind.panels, "panels"):
            self.mistakes.add((*place, "facet"), message)
        series, lines = {spot.series for spot in spots} - {None}, {spot.line for spot in spots}
        if kind.has_lines and (message := _too_many(plot.get("line"), len(series), len(lines), MOST_LINES, "lines")):
            self.mistakes.add((*place, "line") if "line" in plot else place, message)
        if PLACE in kind.needs and not self.spec.search and (most := figures.most_curves(spots)) > MOST_LINES:
            what = f"a panel would have {most} lines, one per trial; the limit is {MOST_LINES}: add or change the facet"
            self.mistakes.add(place, what)

    def _spot(self, row: Row, plot: Mapping[str, Any]) -> figures.Spot:
        """Where a figure shows a row."""
        kind = PLOT_KINDS[plot["kind"]]
        columns = {**row.trial.columns, "seed": row.trial.seed, **dict(zip(self.axes, row.axes, strict=True))}
        x, series, facet = (_text_of(columns, plot.get(field)) for field in ("x", kind.series, "facet"))
        lowest = _text_of(columns, plot.get(kind.lowest)) if kind.lowest else ""
        given = {row.trial.columns.get(path) for path in ROLE_PATHS} - {None}
        formats = ", ".join(sorted(map(str, given - {FLOAT32} or given)))
        return figures.Spot(
            row.trial.key,
            x if lowest is not None else None,
            series,
            facet,
            formats,
            kind.series in plot or kind.lowest is not None,
        )

    def _check_lowest(self, axis: str, reach: object, field: str, place: Place) -> None:
        """Report if an axis has values other than numbers, or if there is no reference to take a share of."""
        if axis not in self.axes:
            self.mistakes.add((*place, field), unknown("axis", axis, self.axes))
            return
        values = [row.axes[self.axes.index(axis)] for row in self.rows]
        words = [v for v in values if v is not None and (isinstance(v, bool) or not isinstance(v, int | float))]
        if words:
            self.mistakes.add(
                (*place, field), f"{axis} has the value {show(words[0])}, which is not a number, so it has no order"
            )
        if read_reach(reach).is_share and None not in values:
            self.mistakes.add(
                place,
                f"{reach} is a share of the accuracy of trials without {axis}, and there are none: add a block of them"
                " (float32), or give an accuracy, as in `reach: 0.9`",
            )

    def _check_places(self) -> None:
        """Report different trials at one place of the grid, which a search would mistake for seeds of one."""
        there: dict[tuple[str, int], Trial] = {}
        for row in self.rows:
            other = there.setdefault((str(row.axes), row.trial.seed), row.trial)
            if other.key != row.trial.key:
                names = sorted(name for name, value in row.trial.columns.items() if other.columns.get(name) != value)
                what = f"two trials at one place of the grid differ in {', '.join(names)}"
                self.mistakes.add(("search",), f"{what}: make that an axis, or use `variants`")
                return

    def _check_histogram(self, plot: Mapping[str, Any], place: Place) -> None:
        counted = [trial.view for trial in self.configurations if trial.view.histogram]
        if not counted:
            self.mistakes.add(place, "no trial counts its weights: write `histogram: 1000` (bins) in trial")
            return
        known = [places for settings in counted if (places := weight_places(settings))]
        there = list(dict.fromkeys(name for places in known for name in places))
        role = plot[PLACE].rpartition(".")[2]
        if (role in STORED or role not in ROLES) and len(known) == len(counted) and plot[PLACE] not in there:
            self.mistakes.add((*place, PLACE), unknown("place", plot[PLACE], there))


def _text_of(columns: Mapping[str, Any], name: str | None) -> str | None:
    """A text that is the same for equal values of a column; None if there is none, "" if it is not known yet."""
    if name is None or name in KNOWN_AFTER_TRAINING:
        return ""
    value = columns.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(float(value)) if is_number and abs(value) < 2**53 else repr(value)


def _too_many(column: str | None, values: int, count: int, most: int, things: str) -> str:
    """The message for a figure with more things than its limit; "" if it is within the limit."""
    if count <= most:
        return ""
    if column is None:
        return f"{count} {things} for trials with different formats; the limit of a figure is {most} {things}"
    more = f", and {count - values} more {things} are for trials without one" if count > values else ""
    return f"'{column}' has {values} values{more}; the limit of a figure is {most} {things}"


def _why_none_has(measure: str, trials: Sequence[Trial]) -> str:
    """The reason why no trial will have a measure; "" if some will."""
    if measure in SIZES:
        return "" if any(_has_size(trial, measure) for trial in trials) else _why_no_size(measure)
    roles = {role for trial in trials for role in trial.view.quantized_roles}
    if measure not in (*METRICS, *why_columns(roles)):
        return f"none quantizes {measure.rpartition('_')[0]}"
    without_tests = measure.startswith("test_") and all(trial.columns.get("split") == "all" for trial in trials)
    return "`split: all` leaves no test set" if without_tests else ""


def _why_no_size(measure: str) -> str:
    if measure != MODEL_BITS:
        return "none has a stage that compresses (a model that training keeps rounded has model_bits)"
    return "none compresses weights, or keeps them rounded in a format with codes of a fixed length"


def _is_drawn(trial: Trial, plot: Mapping[str, Any]) -> bool:
    """Whether a plot will show a trial."""
    kind = PLOT_KINDS[plot["kind"]]
    if PLACE in kind.needs:
        places = weight_places(trial.view)
        is_open = not places or plot[PLACE].rpartition(".")[2] not in STORED
        return bool(trial.view.histogram) and (is_open or plot[PLACE] in places)
    measure = plot.get(kind.metric or "")
    if measure in SIZES:
        return _has_size(trial, measure)
    return measure in (*METRICS, SECONDS) or measure in why_columns(trial.view.quantized_roles)


def _has_size(trial: Trial, measure: str) -> bool:
    """Whether a trial will have one of SIZES."""
    return trial.view.compresses or (measure == MODEL_BITS and trial.view.is_counted)


def _lacks(settings: Settings) -> set[str]:
    """The metrics that a trial will not have."""
    _, tests = settings.examples
    return {name for name in METRICS if (not tests if name.startswith("test") else settings.ends_compressing)}


def notes_of_metrics(rows: Sequence[Row]) -> Iterator[str]:
    """Warnings about metrics that stay empty, except for single-example trials, which measure training accuracy."""
    whole = [trial for trial in configurations(row.trial for row in rows) if not trial.view.iterations]
    untested = {id(trial.columns) for trial in whole if "test_accuracy" in _lacks(trial.view)}
    if untested:
        count = len({row.trial.key for row in rows if id(row.trial.columns) in untested})
        yield f"test_accuracy and test_loss stay empty in {count:,} trials: `split: all` leaves no test set"


def weight_places(settings: Settings) -> list[str]:
    """The places of a trial's weights and biases; [] for an open model, whose places are known only from running it."""
    shapes = cost.layers(settings) or ()
    counts = [(layer.place, {"weight": layer.weights, "bias": layer.biases}) for layer in shapes]
    return [f"{place}.{name}" for place, own in counts for name, count in own.items() if count]
