"""The content of a figure of histograms: the counts of each trial's weights, and the range of its format."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from qsweep.errors import UserError, unknown
from qsweep.formats import ROUNDING, Fixed, Format, Range, make, name_of, parameters_of, split_name
from qsweep.parameter import REQUIRED, BadValueError, listing
from qsweep.plots.axes import Axis, Place, Reference, Value, axis, plain
from qsweep.plots.cells import ONLY, loose_title, reference_names, refuse_many, titled
from qsweep.plots.entry import Histogram
from qsweep.plots.rows import Row, placed, values
from qsweep.trial.parameters import ROLE_DEFAULTS

if TYPE_CHECKING:
    import pandas as pd

LACKING: Final = {"diverged": "diverged", "done": "without a histogram"}
"""Why a trial is not drawn, by its status; all others are `failed or not run`."""
PLURALS: Final = {"weight": "weights", "bias": "biases"}
ALIKE: Final = 1e-2
"""Bins whose widths differ by no more than this fraction look equally wide."""
MOST_BANDS: Final = 4
"""Maximum number of ranges that are drawn in a panel."""


@dataclass(frozen=True)
class Band:
    """A range to mark: its ends and its label."""

    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Curve:
    """One trial's histogram: equal bins between its smallest and its largest value."""

    role: str
    low: float
    high: float
    counts: tuple[int, ...]
    band: Band | None

    @property
    def width(self) -> float:
        """The width of a bin; if all values are equal, that of a bin of an interval of length 1."""
        return ((self.high - self.low) or 1.0) / len(self.counts)

    @property
    def total(self) -> int:
        """The number of values."""
        return sum(self.counts)

    @property
    def is_sparse(self) -> bool:
        """Whether most bins are empty, because the values are levels of a format."""
        return 2 * sum(map(bool, self.counts)) < len(self.counts)

    @property
    def edges(self) -> list[float]:
        """The edges of the bins; centred on the value if all are equal."""
        if self.low == self.high:
            return [self.low + (i - 0.5) * self.width for i in range(len(self.counts) + 1)]
        return [self.low + i * self.width for i in range(len(self.counts) + 1)]

    def inside(self, low: float, high: float) -> float:
        """The fraction of values between two ends; a bin that is cut by an end counts in proportion."""
        cut = [max(min(b, high) - max(a, low), 0.0) / (b - a) for a, b in pairwise(self.edges)]
        return math.fsum(n * part for n, part in zip(self.counts, cut, strict=True)) / self.total


Curves = dict[tuple[Place, Place], Curve]


class Panel(NamedTuple):
    """One value of the facet: its title, and its curves by (key, series)."""

    title: str
    curves: Curves

    @property
    def bands(self) -> list[Band]:
        """The distinct ranges of its trials."""
        return list(dict.fromkeys(curve.band for curve in self.curves.values() if curve.band))


@dataclass(frozen=True)
class Distributions:
    """The content of a figure of histograms."""

    plot: Histogram
    title: str
    series: Axis
    panels: tuple[Panel, ...]
    notes: str

    @cached_property
    def curves(self) -> list[Curve]:
        """The curves of all panels."""
        return [curve for panel in self.panels for curve in panel.curves.values()]

    @property
    def is_density(self) -> bool:
        """Whether heights are divided by the widths of bins: if these differ, fractions can't be compared."""
        widths = [curve.width for curve in self.curves]
        return bool(widths) and max(widths) > (1 + ALIKE) * min(widths)

    @property
    def roles(self) -> str:
        """The plural of what is counted: weights."""
        role = self.curves[0].role if self.curves else self.plot.place.rpartition(".")[2]
        return PLURALS.get(role, "values")


def distributions(trials: pd.DataFrame, histograms: pd.DataFrame | None, plot: Histogram, title: str) -> Distributions:
    """Reduce the tables to the content of `plot`.

    Raises:
        UserError: the tables lack a column or the place, or have too many panels or lines for a figure.
    """
    rows = placed(trials, plot)
    _check_place(trials, histograms, plot)
    curves = {} if histograms is None else _curves(trials, histograms, plot)
    facets = _gather(rows, plot, curves)
    panels = tuple(Panel(*panel) for panel in titled(facets, plot.facet, loose_title(rows, plot)))
    series = axis(plot.series or ONLY, dict.fromkeys(series for panel in panels for _, series in panel.curves))
    refuse_many(plot, len(panels), max((len(panel.curves) for panel in panels), default=0))
    return Distributions(plot, plot.title or title, series, panels, _notes(rows, curves))


def _check_place(trials: pd.DataFrame, histograms: pd.DataFrame | None, plot: Histogram) -> None:
    there = [] if histograms is None else list(dict.fromkeys(map(str, histograms["place"])))
    if there and plot.place not in there:
        raise UserError(f"plot '{plot.name}': place: {unknown('place', plot.place, there)}")
    asked = values(trials["histogram"]) if "histogram" in trials.columns else []
    if not there and not any(asked):  # if all trials with one diverged, the figure shows that
        raise UserError(f"plot '{plot.name}': no trial has a histogram: write `histogram: 1000` (bins) in its trial")


def _curves(trials: pd.DataFrame, histograms: pd.DataFrame, plot: Histogram) -> dict[str, Curve]:
    """The histogram of each trial that has one for the place, by key; that of the last of several stages."""
    settings = _settings(trials)
    own = histograms[histograms["place"] == plot.place]
    found = {}
    for key, role, low, high, counts in zip(*(own[c] for c in ("key", "role", "low", "high", "counts")), strict=True):
        band = Band(*plot.range, _ends_text(*plot.range)) if plot.range else _band(settings.get(key, {}), role, plot)
        found[str(key)] = Curve(str(role), float(low), float(high), tuple(map(int, str(counts).split())), band)
    return found


def _settings(trials: pd.DataFrame) -> dict[str, dict[str, Value | None]]:
    """The columns of each trial that define its formats, by key."""
    names = [p.name for p in ROLE_DEFAULTS] + [c for c in map(str, trials.columns) if c.startswith("quantize.")]
    columns = {name: values(trials[name]) for name in names if name in trials.columns}
    return {str(key): {name: columns[name][i] for name in columns} for i, key in enumerate(trials["key"])}


def _gather(rows: Sequence[Row], plot: Histogram, curves: Mapping[str, Curve]) -> dict[Value | None, Curves]:
    """Curves by facet; a key counts once per place."""
    facets: dict[Value | None, Curves] = {}
    for row, name in zip(rows, reference_names(rows, plot), strict=True):
        if row.key in curves:
            facet = row.places.get(plot.facet or "")
            facets.setdefault(facet, {})[row.key, _series(row, plot, Reference(name))] = curves[row.key]
    return facets


def _series(row: Row, plot: Histogram, reference: Reference) -> Place:
    if plot.series is None:
        return reference if plot.facet is not None and row.places[plot.facet] is None else ONLY
    series = row.places[plot.series]
    return reference if series is None else series


# --- the range of a format --------------------------------------------------------------------------------------------


def _band(settings: Mapping[str, Value | None], role: str, plot: Histogram) -> Band | None:
    """The range of a role's format, if that is fixed."""
    word = settings.get(f"quantize.{role}")
    if not isinstance(word, str):
        return None
    try:
        fmt = _format(word, settings)
    except BadValueError as error:
        raise UserError(f"plot '{plot.name}': quantize.{role} of the table: {error}") from None
    return _ends(fmt) if fmt is not None else None


def _format(word: str, settings: Mapping[str, Value | None]) -> Format | None:
    """The format named in a table, with the parameters that apply to it from the trial; None if some are missing."""
    family, own = split_name(word, (ROUNDING,))
    known = listing(parameters_of(family))
    reached = {p.name: settings[p.name] for p in ROLE_DEFAULTS if settings.get(p.name) is not None}
    given: dict[str, Any] = {
        **{name: p.default for name, p in known.items()},
        **{name: known[name].check(value) for name, value in reached.items() if name in known and name not in own},
        **own,
    }
    return None if REQUIRED in given.values() else make(family, given)


def _ends(fmt: Format) -> Band | None:
    """The range outside of which values are clipped; None for formats with a scale, and for floats, whose range is too
    wide to draw."""
    if isinstance(fmt, Range):
        end = 1 / fmt.scale
        return Band(-end, end, f"range ±1/scale = {_ends_text(-end, end).removeprefix('range ')}")
    if isinstance(fmt, Fixed) and fmt.overflow == "saturate":
        low, high = fmt.elements.lowest * fmt.elements.step, fmt.elements.highest * fmt.elements.step
        return Band(low, high, _ends_text(low, high).replace("range", f"range of {name_of(fmt)}"))
    return None


def _ends_text(low: float, high: float) -> str:
    return f"range ±{plain(high)}" if low == -high else f"range {plain(low)} … {plain(high)}"


# --- notes ------------------------------------------------------------------------------------------------------------


def _notes(rows: Sequence[Row], curves: Mapping[str, Curve]) -> str:
    """The number of values and bins, and the trials that are not drawn."""
    statuses = {row.key: row.status for row in rows}
    drawn = [curves[key] for key in statuses if key in curves]
    words = [LACKING.get(status, "failed or not run") for key, status in statuses.items() if key not in curves]
    lacking = [f"{words.count(word)} {word}" for word in dict.fromkeys(words)]
    notes = [_counted(drawn)] if drawn else []
    return "; ".join([*notes, *([f"not drawn: {', '.join(lacking)}"] if lacking else [])])


def _counted(curves: Sequence[Curve]) -> str:
    totals, bins = {curve.total for curve in curves}, {len(curve.counts) for curve in curves}
    number = "–".join(f"{n:,}" for n in sorted({min(totals), max(totals)}))
    count = "–".join(f"{n:,}" for n in sorted({min(bins), max(bins)}))
    name = PLURALS.get(curves[0].role, "values")
    if len(curves) == 1:
        return f"{number} {name} in {count} bins, each {plain(float(f'{curves[0].width:.3g}'))} wide"
    return f"one line per trial, {number} {name} in {count} bins"
