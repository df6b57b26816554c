"""The plan of a spec: its grid expanded into rows, each with the trial that it stands for."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from qsweep.data.catalog import DATASETS
from qsweep.errors import did_you_mean, unknown
from qsweep.parameter import show
from qsweep.spec import figures
from qsweep.spec.blocks import AxisGroup, Block, overlay
from qsweep.spec.file import Spec
from qsweep.spec.matching import Matcher
from qsweep.spec.plots import MOST_LINES, PLACE, PLOT_KINDS, REACH
from qsweep.spec.reader import OVERRIDE, Mistakes, Place, dotted
from qsweep.trial import cost
from qsweep.trial.key import Trial, canonical
from qsweep.trial.measures import DRAWN, MEASURES, METRICS, MODEL_BITS, SECONDS, SIZES, why_columns
from qsweep.trial.parameters import CHOICES, COMPRESS, ITERATIONS, STAGES
from qsweep.trial.quantized import compresses, is_counted, quantized_roles
from qsweep.trial.reach import ACCURACIES, DEFAULT_REACH, read_reach
from qsweep.trial.resolve import TrialError, resolve
from qsweep.trial.roles import FLOAT32, ROLES, STORED
from qsweep.trial.spelling import describe_choice, describe_role

VARIANT = "variant"
PLACES = ("x", "y", "z", "line", "facet")
"""The fields of a plot that name columns."""
TOLD_BY_TRAINING = frozenset(("epoch", "status", *DRAWN))
"""Columns of which a plan knows no value."""
ROLE_PATHS = tuple(f"quantize.{role}" for role in ROLES)


@dataclass(frozen=True, slots=True)
class Row:
    """One grid point: its trial, and the values of the plan's axes (None where its trial reads no such parameter)."""

    trial: Trial
    axes: tuple[Any, ...]


@dataclass(frozen=True)
class Plan:
    """All rows of a spec, in the order of block, variant, axes as written, seed.

    Attributes:
        axes: names of the swept columns, `variant` first where there are variants.
        notes: what is no mistake but worth a line, such as a parameter that nothing reads.
    """

    spec: Spec
    axes: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @cached_property
    def trials(self) -> list[Trial]:
        """The distinct trials, in the order of their first row."""
        return list({row.trial.key: row.trial for row in self.rows}.values())

    @cached_property
    def quantized_roles(self) -> frozenset[str]:
        """The roles that some trial quantizes."""
        return frozenset(role for trial in self.trials for role in quantized_roles(trial.settings))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the rows are: it changes when the table would."""
        content = [[row.trial.key, *row.axes] for row in self.rows]
        return hashlib.sha256(canonical({"axes": self.axes, "rows": content}).encode()).hexdigest()


def expand(spec: Spec) -> Plan:
    """The plan of a checked spec.

    Raises:
        SpecError: a point that is no trial, an axis or -S that no trial reads, a plot of a column that the table will
            not have, or nothing left to train.
    """
    return _Expansion(spec).plan()


class _Expansion:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.mistakes = Mistakes(spec.document)
        self.axes = _axis_names(spec)
        self.read: set[str] = set()
        """Names of all parameters that some trial reads."""
        self.idle: dict[Place, Mapping[str, Any]] = {}
        """The entries of `exclude` and `only` that have matched nothing yet."""
        self.matchers: list[Matcher[Place]] = []
        """Of the block that is expanded: its `exclude` and its `only`."""

    def plan(self) -> Plan:
        rows = tuple(row for block in self.spec.blocks for row in self._block(block))
        if not self.mistakes.found:
            self._check_whole(rows)
        self.mistakes.stop_if_any()
        return Plan(self.spec, self.axes, rows, (*self._notes(), *_notes_of_metrics(rows)))

    def _block(self, block: Block) -> Iterator[Row]:
        self.idle |= {place: entry for kind in ("exclude", "only") for place, entry in _entries(block, kind)}
        self.matchers = [Matcher(list(_entries(block, kind))) for kind in ("exclude", "only")]
        read: set[str] = set()
        first, *others = self.spec.seeds
        for point in _points(block):
            trial = self._trial(block, point, first)
            if trial is None:
                continue
            read |= trial.columns.keys()
            if self._kept(block, point, trial):
                axes = point.axes(self.axes, trial)
                yield from (Row(one, axes) for one in (trial, *map(trial.with_seed, others)))
        self.read |= read
        if not self.mistakes.found:
            self._check_axes(block, read)

    def _trial(self, block: Block, point: _Point, seed: int) -> Trial | None:
        try:
            return resolve(point.parameters, seed, self.spec.digests)
        except TrialError as error:
            self.mistakes.add(self._place_of(error.path, block, point), str(error))
            return None

    def _place_of(self, path: str, block: Block, point: _Point) -> Place:
        """Where a parameter is given, by its dotted path: -S, an axis, a variant, or else the trial."""
        if name := _nearest(path, self.spec.overrides):
            return (OVERRIDE, name)
        groups = {name: group for group in block.groups for name in group.names}
        if name := _nearest(path, groups):
            return _axis_place(groups[name], name)
        if point.variant is not None and _has(block.variants[point.variant], path.split(".")):
            return (*block.place, "variants", point.variant, *_inside_trial(path))
        return (*block.place, "trial", *_inside_trial(path))

    def _kept(self, block: Block, point: _Point, trial: Trial) -> bool:
        if not block.exclude and not block.only:
            return True
        used = {**_used(trial), VARIANT: point.variant}
        excluded, wanted = (matcher.matching(used) for matcher in self.matchers)
        for place in [*excluded, *wanted]:
            self.idle.pop(place, None)
        return not excluded and (bool(wanted) or not block.only)

    # checks that need all trials

    def _check_axes(self, block: Block, read: set[str]) -> None:
        for group in block.groups:
            for name in [name for name in group.names if name not in read]:
                near = did_you_mean(name, sorted(read))
                self.mistakes.add(
                    _axis_place(group, name),
                    f"no trial of this grid reads '{name}'{near} (read: {', '.join(sorted(read))})",
                )

    def _check_whole(self, rows: Sequence[Row]) -> None:
        if not rows:
            self.mistakes.add((), "no trial is left: `exclude` and `only` take all of the grid away")
            return
        for name in self.spec.overrides:
            if name not in (*self.axes, "seeds") and not any(f"{read}.".startswith(f"{name}.") for read in self.read):
                self.mistakes.add((OVERRIDE, name), f"no trial reads '{name}'{did_you_mean(name, sorted(self.read))}")
        if self.spec.search:
            self._check_lowest(self.spec.search.axis, self.spec.search.reach, "bisect", ("search",), rows)
            self._check_places(rows)
        self._check_empty(rows)
        for index, plot in enumerate(self.spec.plots):
            kind = PLOT_KINDS[plot["kind"]]
            self._check_plot(plot, ("plots", index))
            self._check_measures(plot, ("plots", index), rows)
            self._check_counts(plot, ("plots", index), rows)
            if kind.lowest:
                axis, reach = plot[kind.lowest], plot.get(REACH, DEFAULT_REACH)
                self._check_lowest(axis, reach, kind.lowest, ("plots", index), rows)
            if PLACE in kind.needs:
                self._check_histogram(plot, ("plots", index), rows)

    def _check_empty(self, rows: Sequence[Row]) -> None:
        """Say before the training that no trial will have what is searched by, or the training metrics to be drawn."""
        empty = set.intersection(*(_lacks(row.trial.settings) for row in rows))
        if self.spec.search and empty.issuperset(ACCURACIES):
            self.mistakes.add(
                ("search",), "no trial has an accuracy: none trains last, and `split: all` leaves no test"
            )
        for index, plot in enumerate(self.spec.plots):
            if plot.get("x") == "epoch":
                continue  # the epochs before the compression have them
            for field in [f for f in PLACES if plot.get(f) in empty and plot[f].startswith("train")]:
                self.mistakes.add(
                    ("plots", index, field),
                    f"no trial has {plot[field]}: all end with a compression, which is only tested",
                )

    def _check_plot(self, plot: Mapping[str, Any], place: Place) -> None:
        """Say before the training, not after it, that the table will lack a column."""
        kind = PLOT_KINDS[plot["kind"]]
        for field in [f for f in ("x", "y", "line", "facet") if f in plot and f != kind.metric]:
            shown = (*self.axes, "seed", *(("epoch",) if kind.has_epochs and field == "x" else ()))
            if plot[field] not in (*shown, *MEASURES, "status") and plot[field] not in self.read:
                self.mistakes.add((*place, field), unknown("column", plot[field], shown))

    def _check_measures(self, plot: Mapping[str, Any], place: Place, rows: Sequence[Row]) -> None:
        """Say before the training that no trial will have what is to be drawn, or drawn over."""
        trials = [row.trial for row in rows]
        for field in [field for field in PLACES if plot.get(field) in MEASURES]:
            if why := _why_none_has(plot[field], trials):
                self.mistakes.add((*place, field), f"no trial has {plot[field]}: {why}")
            elif plot[field] in SIZES and plot.get("x") == "epoch" and field == PLOT_KINDS[plot["kind"]].metric:
                self.mistakes.add((*place, field), f"{plot[field]} is the same in each epoch: give another x")

    def _check_counts(self, plot: Mapping[str, Any], place: Place, rows: Sequence[Row]) -> None:
        """Say before the training that a figure would have more panels or lines than it holds."""
        kind = PLOT_KINDS[plot["kind"]]
        spots = figures.named([self._spot(row, plot) for row in rows if _is_drawn(row.trial, plot)])
        if kind.lowest:  # it shows no references
            spots = [spot for spot in spots if spot.x is not None and spot.series is not None]
        facets = {spot.facet for spot in spots} - {None}
        if message := _too_many(plot.get("facet"), len(facets), figures.panels(spots), kind.panels, "panels"):
            self.mistakes.add((*place, "facet"), message)
        series, lines = {spot.series for spot in spots} - {None}, {spot.line for spot in spots}
        if kind.has_lines and (message := _too_many(plot.get("line"), len(series), len(lines), MOST_LINES, "lines")):
            self.mistakes.add((*place, "line") if "line" in plot else place, message)
        if PLACE in kind.needs and not self.spec.search and (most := figures.most_curves(spots)) > MOST_LINES:
            what = (
                f"a panel would have {most} lines, one per trial; it holds {MOST_LINES}: give a facet, or another one"
            )
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

    def _check_lowest(self, axis: str, reach: object, field: str, place: Place, rows: Sequence[Row]) -> None:
        """The lowest value is asked for of an axis of numbers, as a share of what trials without it reach."""
        if axis not in self.axes:
            self.mistakes.add((*place, field), unknown("axis", axis, self.axes))
            return
        values = [row.axes[self.axes.index(axis)] for row in rows]
        words = [v for v in values if v is not None and (isinstance(v, bool) or not isinstance(v, int | float))]
        if words:
            self.mistakes.add((*place, field), f"{axis} has the value {show(words[0])}: nothing is lower than that")
        if read_reach(reach).is_share and None not in values:
            self.mistakes.add(
                place,
                f"{reach} is a share of what trials without {axis} reach, and there are none: add a block of them"
                " (float32), or ask for an accuracy, as in `reach: 0.9`",
            )

    def _check_places(self, rows: Sequence[Row]) -> None:
        """A search takes all trials at one place of the grid for seeds of one."""
        there: dict[tuple[str, int], Trial] = {}
        for row in rows:
            other = there.setdefault((str(row.axes), row.trial.seed), row.trial)
            if other.key != row.trial.key:
                names = sorted(name for name, value in row.trial.columns.items() if other.columns.get(name) != value)
                what = f"two trials stand at one place of the grid, which differ in {', '.join(names)}"
                self.mistakes.add(("search",), f"{what}: make an axis or `variants` of that")
                return

    def _check_histogram(self, plot: Mapping[str, Any], place: Place, rows: Sequence[Row]) -> None:
        counted = [row.trial.settings for row in rows if row.trial.settings.get("histogram")]
        if not counted:
            self.mistakes.add(place, "no trial counts its weights: write `histogram: 1000` (bins) in trial")
            return
        known = [places for settings in counted if (places := _weight_places(settings))]
        there = list(dict.fromkeys(name for places in known for name in places))
        role = plot[PLACE].rpartition(".")[2]
        if (role in STORED or role not in ROLES) and len(known) == len(counted) and plot[PLACE] not in there:
            self.mistakes.add((*place, PLACE), unknown("place", plot[PLACE], there))

    def _notes(self) -> Iterator[str]:
        given = [name for block in self.spec.blocks for name in _given(block)]
        for name in dict.fromkeys(given):
            if name not in self.read:
                yield f"no trial reads '{name}': it changes nothing"
        for place, entry in self.idle.items():
            yield f"{dotted(place)} matches no trial: {show(entry)}"


def _text_of(columns: Mapping[str, Any], name: str | None) -> str | None:
    """The value of a column, as equal ones are: None where there is none, "" where only the training tells it."""
    if name is None or name in TOLD_BY_TRAINING:
        return ""
    value = columns.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(float(value)) if is_number and abs(value) < 2**53 else repr(value)


def _too_many(column: str | None, values: int, count: int, most: int, things: str) -> str:
    """What to say of a figure that holds less than it would have; "" where it holds all."""
    if count <= most:
        return ""
    if column is None:
        return f"{count} {things}, of trials that differ in formats; a figure holds {most} {things}"
    beyond = f", and {count - values} more {things} are of trials without one" if count > values else ""
    return f"'{column}' has {values} values{beyond}; a figure holds {most} {things}"


def _why_none_has(measure: str, trials: Sequence[Trial]) -> str:
    """Why no trial will have a measure; "" where some will."""
    if measure in SIZES:
        return "" if any(_has_size(trial, measure) for trial in trials) else _why_no_size(measure)
    roles = {role for trial in trials for role in quantized_roles(trial.settings)}
    if measure not in (*METRICS, *why_columns(roles)):
        return f"none quantizes {measure.rpartition('_')[0]}"
    without_tests = measure.startswith("test_") and all(trial.columns.get("split") == "all" for trial in trials)
    return "with `split: all` no example is left to test on" if without_tests else ""


def _why_no_size(measure: str) -> str:
    if measure != MODEL_BITS:
        return "none has a stage that compresses (a model that training keeps rounded has model_bits)"
    return "none compresses weights, or keeps them rounded in a format that has codes of a fixed length"


def _is_drawn(trial: Trial, plot: Mapping[str, Any]) -> bool:
    """Whether a trial will have what a plot shows."""
    kind = PLOT_KINDS[plot["kind"]]
    if PLACE in kind.needs:
        places = _weight_places(trial.settings)
        is_open = not places or plot[PLACE].rpartition(".")[2] not in STORED
        return bool(trial.settings.get("histogram")) and (is_open or plot[PLACE] in places)
    measure = plot.get(kind.metric or "")
    if measure in SIZES:
        return _has_size(trial, measure)
    return measure in (*METRICS, SECONDS) or measure in why_columns(quantized_roles(trial.settings))


def _has_size(trial: Trial, measure: str) -> bool:
    """Whether a trial will have one of SIZES."""
    return compresses(trial.settings) or (measure == MODEL_BITS and is_counted(trial.settings))


def _lacks(settings: Mapping[str, Any]) -> set[str]:
    """The metrics that a trial will not have."""
    _, tests = DATASETS[settings["data"]["name"]].examples(settings["data"]["split"])
    is_compression = COMPRESS in next(iter(settings.get(STAGES, [])[-1:]), {})
    return {name for name in METRICS if (not tests if name.startswith("test") else is_compression)}


def _notes_of_metrics(rows: Sequence[Row]) -> Iterator[str]:
    """Not of trials on single examples, whose running training accuracy is what they are for."""
    trials = {row.trial.key: row.trial.settings for row in rows if ITERATIONS.name not in row.trial.settings}
    if count := sum("test_accuracy" in _lacks(settings) for settings in trials.values()):
        yield f"test_accuracy and test_loss stay empty in {count:,} trials: `split: all` leaves no test set"


def _nearest(path: str, names: Iterable[str]) -> str:
    """The name that a path is or is inside of, the longest; of a dotted one, else one inside of it; "" for none."""
    around = [name for name in names if f"{path}.".startswith(f"{name}.")]
    inside = [name for name in names if name.startswith(f"{path}.") and "." in path]
    return max(around, key=len) if around else next(iter(inside), "")


def _has(given: object, path: Sequence[str]) -> bool:
    """Whether a nested mapping says something of a path."""
    if not path or not isinstance(given, Mapping):
        return True
    return path[0] in given and _has(given[path[0]], path[1:])


def _inside_trial(path: str) -> Place:
    """The place of a dotted path; stages are a list."""
    head, *rest = path.split(".")
    return (head, *(int(part) if head == STAGES and part.isdigit() else part for part in rest))


def _axis_place(group: AxisGroup, name: str) -> Place:
    return group.place if group.place[-1] == name else (*group.place, name)


def _weight_places(settings: Mapping[str, Any]) -> list[str]:
    """The places of a trial's weights and biases; none of an open model, which only running it would tell."""
    return [f"{layer.place}.{role}" for layer in cost.layers(settings) or () for role in ("weight", "bias")]


# --- points -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Point:
    """One combination of variant and axis values, and the parameters that it gives."""

    variant: str | None
    values: Mapping[str, Any]
    parameters: Mapping[str, Any]

    def axes(self, names: tuple[str, ...], trial: Trial) -> tuple[Any, ...]:
        """Its value on each axis of the plan: what its trial does not read is empty."""
        return tuple([self._axis(name, trial.columns) for name in names])

    def _axis(self, name: str, columns: Mapping[str, Any]) -> Any:
        if name == VARIANT:
            return self.variant
        if name in self.values and name in columns:
            return _shown(name, self.values[name])
        return columns.get(name)


def _shown(name: str, value: Any) -> Any:
    """An axis value as a table shows it: a model, init or role in one word or so."""
    if name in CHOICES:
        return describe_choice(value)
    return describe_role(value) if name in ROLE_PATHS else value


def _axis_names(spec: Spec) -> tuple[str, ...]:
    names = [name for block in spec.blocks for name in block.axes]
    variants = [VARIANT] if any(block.variants for block in spec.blocks) else []
    return tuple(dict.fromkeys([*variants, *names]))


def _points(block: Block) -> Iterator[_Point]:
    """Every combination of variant and axis values, the last axis fastest."""
    names = block.axes
    variants: list[str | None] = [*block.variants] or [None]
    for variant in variants:
        base = block.trial if variant is None else overlay(block.trial, block.variants[variant])
        for steps in itertools.product(*(group.points for group in block.groups)):
            values = dict(zip(names, itertools.chain(*steps), strict=True))
            yield _Point(variant, values, overlay(base, values))


def _given(block: Block) -> Iterator[str]:
    """Names of all parameters that a block and its variants set, with those inside models, inits and roles."""
    for parameters in (block.trial, *block.variants.values()):
        for name, value in parameters.items():
            if name in CHOICES:
                yield from (f"{name}.{inner}" for inner in value if inner != "name")
            elif name == "quantize":
                yield from (f"{name}.{role}.{p}" for role, own in value.items() if "format" not in own for p in own)
            else:
                yield name


# --- exclude and only -------------------------------------------------------------------------------------------------


def _entries(block: Block, kind: str) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    for index, entry in enumerate(block.exclude if kind == "exclude" else block.only):
        yield (*block.place, kind, index), entry


def _used(trial: Trial) -> dict[str, Any]:
    """What a trial uses, nested as a spec would say it, each role with the parameters that reach it from the trial."""
    columns = trial.columns
    choices = {what: {"name": columns[what], **_inside(columns, f"{what}.")} for what in CHOICES}
    return {**columns, **choices, "quantize": {role: trial.role(role) for role in ROLES}}


def _inside(columns: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in columns.items() if name.startswith(prefix)}
