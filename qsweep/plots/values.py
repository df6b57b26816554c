"""The values of number formats as ticks on a number line, one row per format."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qsweep.errors import UserError
from qsweep.formats import parse
from qsweep.formats.codes import MOST_VALUES, values
from qsweep.formats.facts import Facts, facts
from qsweep.formats.numbers import power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS: Final = (".png", ".pdf")
ROW: Final = 0.5
"""Height of a format's row in inches."""
FRAME: Final = 0.9
"""Height of the axis and the legend in inches."""
TALL, SHORT = 0.34, 0.2
"""Half the height of a tick in rows, for normal and subnormal numbers."""
NORMAL, SUBNORMAL = "#0072b2", "#d55e00"
"""Blue and vermilion, which colour-blind people can distinguish."""
THIN, THICK = 0.3, 1.0
"""Smallest and largest width of a tick in points."""
MOST_LINEAR: Final = 256
"""Maximum ratio of the largest to the smallest positive number for a linear axis."""
LABELS: Final = 6
"""Maximum number of labels on either side of 0 of a logarithmic axis."""


@dataclass(frozen=True)
class Row:
    """One format as it is drawn.

    Attributes:
        places: its values; for a format with a scale, in units of the largest.
        smallest_normal: smaller magnitudes are drawn as subnormal; 0 if there are none.
    """

    name: str
    facts: Facts
    places: tuple[float, ...]
    smallest_normal: float

    @property
    def label(self) -> str:
        """Name, number of values and largest, in two lines."""
        return f"{self.name}\n{self.facts.levels} values {self._end()}"

    def _end(self) -> str:
        largest, scaled = self.facts.largest or 0.0, self.facts.scale is not None
        if scaled and self.facts.lowest == 0:
            return "from lo to hi"
        if scaled and largest == 1:
            return "up to its scale"
        return f"up to {power(largest)}" + " × scale" * scaled


def draw(names: Sequence[str], path: Path) -> Path:
    """Draw the values of formats to a PNG or PDF file; return its path.

    Raises:
        UserError: a format does not exist or has no list of values, there is no format, or the suffix is wrong.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(
            f"--plot {path}: expected a file that ends in .png or .pdf (names of formats come before --plot)"
        )
    if not names:
        raise UserError("--plot needs formats to draw, such as `qsweep formats e4m3 e5m2 --plot`")
    rows = [row(name) for name in names]
    from qsweep.plots import page  # only here, since importing matplotlib takes half a second

    with page.style():
        return page.write(figure(rows), [path])[0]


def row(name: str) -> Row:
    """The row of a format.

    Raises:
        UserError: the format does not exist, or has too many values or no list of values.
    """
    fmt = parse(name)
    known, found = facts(fmt), values(fmt.code)
    if not found:
        raise UserError(f"{name}: its values can't be drawn: there are more than {MOST_VALUES:,}, or they have no list")
    smallest = known.normal if known.subnormal is not None and known.normal else 0.0
    if known.scale is None:
        return Row(name, known, tuple(found), smallest)
    lowest, largest = found[0], found[-1]
    if lowest == 0:  # levels between a smallest and a largest value
        return Row(name, known, tuple(2 * v / largest - 1 for v in found), 0.0)
    return Row(name, known, tuple(v / largest for v in found), smallest / largest)


def figure(rows: Sequence[Row]) -> Figure:
    """The figure of some formats, the first on top."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from qsweep.plots import page

    drawn = Figure(figsize=(page.WIDTH, FRAME + ROW * len(rows)), layout="constrained")
    axes = drawn.subplots()
    _scale(axes, rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [each.label for each in rows], linespacing=1.3)
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.set_xlabel(_axis_label(rows))
    page.lay_out(drawn)  # the width of ticks depends on it
    for i, each in enumerate(rows):
        _ticks(axes, each, float(i))
    if any(each.smallest_normal for each in rows):
        looks = {"normal": NORMAL, "subnormal": SUBNORMAL}
        handles = [Line2D([], [], color=colour, linewidth=2, label=label) for label, colour in looks.items()]
        drawn.legend(handles=handles, loc="outside upper right", ncols=2, handlelength=1)
    return drawn


def _ticks(axes: Axes, row: Row, y: float) -> None:
    """The values of a row: normal numbers and 0 tall, subnormal ones short and in another colour."""
    axes.axhline(y, color="0.85", linewidth=0.6, zorder=0)
    small = [v for v in row.places if 0 < abs(v) < row.smallest_normal]
    large = [v for v in row.places if v == 0 or abs(v) >= row.smallest_normal]
    width = _width(axes, row.places)
    for places, half, colour, label in ((large, TALL, NORMAL, "normal"), (small, SHORT, SUBNORMAL, "subnormal")):
        # one line with gaps: many lines, or a collection of them, take a quarter of a minute for 65,536 values
        across = [x for v in places for x in (v, v, math.nan)]
        up = [y - half, y + half, math.nan] * len(places)
        axes.plot(across, up, color=colour, linewidth=width, solid_capstyle="butt", label=f"_{row.name} {label}")


def _width(axes: Axes, places: Sequence[float]) -> float:
    """Width of a tick in points: half the smallest distance between two, if that is visible."""
    across = [x for x, _ in axes.transData.transform([(v, 0.0) for v in places])]
    gap = min((b - a for a, b in itertools.pairwise(across)), default=math.inf)
    return float(min(max(gap / 2 * 72 / axes.figure.dpi, THIN), THICK))


def _scale(axes: Axes, rows: Sequence[Row]) -> None:
    """A linear axis if it can distinguish the smallest number from 0, else a logarithmic one on either side of 0."""
    magnitudes = [abs(v) for each in rows for v in each.places if v]
    least, largest = min(magnitudes), max(magnitudes)
    lowest = min(v for each in rows for v in each.places)
    if largest / least <= MOST_LINEAR:
        margin = 0.03 * (largest - min(lowest, 0))
        axes.set_xlim(min(lowest, 0) - margin, largest + margin)
        return
    axes.set_xscale("symlog", base=2, linthresh=least, linscale=1)
    axes.set_xlim(-1.5 * largest if lowest < 0 else -least, 1.5 * largest)
    powers = _powers(math.floor(math.log2(least)), math.ceil(math.log2(largest)))
    places = [*(-(2.0**k) for k in reversed(powers) if lowest < 0), 0.0, *(2.0**k for k in powers)]
    axes.set_xticks(places, [_power_label(place) for place in places])
    axes.minorticks_off()


def _powers(least: int, most: int) -> list[int]:
    """Evenly spaced exponents for the labels of an axis, including 0, none too close to the position of 0."""
    step = max(1, math.ceil((most - least) / LABELS))
    return [k for k in range(-step * (-least // step), most + 1, step) if k - least > step / 2]


def _power_label(place: float) -> str:
    if place in (-1.0, 0.0, 1.0):
        return f"{place:.0f}".replace("-", "−")
    return f"${'-' if place < 0 else ''}2^{{{round(math.log2(abs(place)))}}}$"


def _axis_label(rows: Sequence[Row]) -> str:
    scaled = [each.facts.scale is not None for each in rows]
    if all(scaled):
        return "value, in units of the largest one under its scale"
    return "value; of formats with a scale in units of their largest one" if any(scaled) else "value"
