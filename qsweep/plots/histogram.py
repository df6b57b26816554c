"""Histograms of weights: filled for one trial, a line per trial for several, with the range of their format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from qsweep.plots import page
from qsweep.plots.axes import Place
from qsweep.plots.cells import ONLY
from qsweep.plots.distributions import MOST_BANDS, Band, Curve, Distributions, Panel
from qsweep.plots.lines import OKABE_ITO, stroke

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILL: Final = OKABE_ITO[0]
SHADE: Final = OKABE_ITO[4]
HEIGHT: Final = 2.3
"""Height of a panel in inches."""
WEIGHT: Final = 0.8
"""Width of a line in points."""
MARGIN: Final = 0.03
"""Fraction of the axis beyond the last value."""
LINE: Final = 1.7 * page.TICKS / 72
"""Height of a line of text in inches."""


def draw(shown: Distributions) -> Figure:
    """The figure of `shown`."""
    rows, columns = page.shape(len(shown.panels))
    named = len(shown.series.places) > 1
    width = page.WIDTH if columns > 1 else (0.6 + 0.15 * named) * page.WIDTH
    across = page.BESIDE_LABELS * width / columns - page.HANDLE
    legends = [_legend(shown, panel, across) for panel in shown.panels]
    above = LINE * max(sum(str(entry.get_label()).count("\n") + 1 for entry in entries) for entries in legends)
    titles = [panel.title for panel in shown.panels]
    figure, axes = page.titled(
        shown.title, titles, (width, rows * page.row_height(rows, HEIGHT + above, page.LEAST + above) + 0.7)
    )
    for each, panel, entries in zip(axes, shown.panels, legends, strict=True):
        _panel(each, shown, panel, entries)
        each.set_title(each.get_title(), pad=72 * above + 6)
    page.outer_labels(figure, axes, _value(shown), _height(shown))
    if named:
        _name_lines(figure, shown)
    if shown.notes:
        note = Line2D([], [], linestyle="none", label=page.wrapped(shown.notes, width - page.HANDLE, page.TICKS))
        figure.legend(handles=[note], loc="outside lower center", handlelength=0)
    _scales(axes, shown)
    return figure


def _name_lines(figure: Figure, shown: Distributions) -> None:
    named = [series for series in shown.series.places if series != ONLY]
    handles = [Line2D([], [], label=shown.series.text(series), **_look(shown, series)) for series in named]
    title = shown.series.label if shown.plot.series else None
    figure.legend(handles=handles, title=title, loc="outside right center")


def _value(shown: Distributions) -> str:
    layer, _, role = shown.plot.place.rpartition(".")
    return f"{role} of {layer}" if layer else role


def _height(shown: Distributions) -> str:
    if shown.is_density:
        return f"share of {shown.roles} ÷ bin width"
    return f"{shown.roles} per bin (%)"


def _panel(axes: Axes, shown: Distributions, panel: Panel, entries: Sequence[Patch]) -> None:
    alone = len(panel.curves) == 1
    for (_, series), curve in panel.curves.items():
        heights = [_scaled(n, curve, shown) for n in curve.counts]
        if alone:
            width = WEIGHT if curve.is_sparse else 0.0  # outlines, since levels are too thin to see in a thousand bins
            colour = _look(shown, series)["color"]
            axes.stairs(heights, curve.edges, fill=True, fc=colour, ec=colour, linewidth=width, label="_one")
        else:
            axes.stairs(heights, curve.edges, label="_many", **_look(shown, series))
    for band in panel.bands if len(panel.bands) <= MOST_BANDS else []:
        _draw_band(axes, band, shaded=len(panel.bands) == 1)
    if entries:
        # above the panel, where it covers nothing
        axes.legend(handles=list(entries), loc="lower center", bbox_to_anchor=(0.5, 1), borderaxespad=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def _look(shown: Distributions, series: Place) -> dict[str, Any]:
    if series == ONLY:
        return {"color": FILL, "linewidth": WEIGHT}
    look = stroke(shown.series, series)
    if series in shown.series.references[:1]:  # dashes are illegible on such fine steps
        look["linestyle"] = "-"
    return {**look, "linewidth": WEIGHT}


def _scaled(count: int, curve: Curve, shown: Distributions) -> float:
    share = count / curve.total
    return share / curve.width if shown.is_density else 100 * share


def _draw_band(axes: Axes, band: Band, shaded: bool) -> None:
    if shaded:
        axes.axvspan(band.low, band.high, color=SHADE, alpha=0.2, linewidth=0, zorder=0, label="_band")
    for end in (band.low, band.high):
        axes.axvline(end, color="0.25", linewidth=0.8, linestyle="--", label="_end")


def _legend(shown: Distributions, panel: Panel, width: float) -> list[Patch]:
    """An entry per range, in lines of `width` inches, with the fraction inside if the range is not a format's."""
    look: dict[str, Any] = {"facecolor": (SHADE, 0.2), "edgecolor": "0.25", "linestyle": "--", "linewidth": 0.8}
    return [
        Patch(**look, label=page.wrapped(_band_text(shown, panel, band), width, page.TICKS))
        for band in panel.bands[:MOST_BANDS]
    ]


def _band_text(shown: Distributions, panel: Panel, band: Band) -> str:
    if shown.plot.range is None:
        return band.label
    shares = sorted(100 * curve.inside(band.low, band.high) for curve in panel.curves.values())
    ends = "–".join(dict.fromkeys(f"{share:.1f}" for share in (shares[0], shares[-1])))
    if page.shape(len(shown.panels))[1] > 2:  # narrow panels
        return f"{band.label.removeprefix('range ')}: {ends} % inside"
    return f"{band.label}: {ends} % of the {shown.roles} inside"


# --- scales -----------------------------------------------------------------------------------------------------------


def _scales(axes: Sequence[Axes], shown: Distributions) -> None:
    """Limits from the smallest to the largest value of all panels, and up to the ranges unless these are much wider."""
    low, high = _limits(shown)
    margin = MARGIN * (high - low)
    axes[0].set_xlim(low - margin, high + margin)
    if least := _least_logarithmic(shown):
        axes[0].set_yscale("log")
        axes[0].set_ylim(bottom=0.7 * least)
    else:
        axes[0].set_ylim(bottom=0)


def _least_logarithmic(shown: Distributions) -> float | None:
    """The smallest positive height if the peaks of two trials differ by more than a factor of ten, else None.

    If one trial has few levels with many weights each, a linear axis would flatten a distribution over many levels.
    """
    heights = [[_scaled(n, curve, shown) for n in curve.counts if n] for curve in shown.curves]
    peaks = [max(own) for own in heights]
    return min(map(min, heights)) if peaks and max(peaks) > 10 * min(peaks) else None


def _limits(shown: Distributions) -> tuple[float, float]:
    ends = [end for curve in shown.curves for end in (curve.edges[0], curve.edges[-1])] or [-1.0, 1.0]
    low, high = min(ends), max(ends)
    width = high - low
    for band in _bands(shown):
        low, high = min(low, max(band.low, low - width / 2)), max(high, min(band.high, high + width / 2))
    return low, high


def _bands(shown: Distributions) -> Iterator[Band]:
    for panel in shown.panels:
        yield from panel.bands
