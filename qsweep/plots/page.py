"""Shared by all figures: style, layout, colours, legends, files."""

from __future__ import annotations

import functools
import io
import itertools
import math
import os
import textwrap
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib.style
import numpy as np
from matplotlib.cbook import is_math_text
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from qsweep.errors import UserError
from qsweep.plots import fonts
from qsweep.plots.axes import Axis, Place, cut
from qsweep.plots.cells import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI: Final = 200
TEXT: Final = 8.0
TITLE: Final = 9.0
TICKS: Final = 7.5
WIDTH: Final = 7.0
"""Inches across two columns of a paper."""

TALLEST: Final = 10.0
"""Maximum inches of all rows of panels, if they are still legible: figures are printed on a page."""

LEAST: Final = 1.6
"""Minimum inches of a legible row of panels."""

LINE: Final = 0.16
"""Height of a line of text in inches."""

SLANTED: Final = 1.2 * TICKS / math.sin(math.radians(35))
"""Points between slanted labels that don't touch."""

BESIDE_LABELS: Final = 0.8
"""Approximate fraction of a figure's width that labels and legends leave to its panels."""

GAP: Final = 3.0
"""Points between neighbouring labels."""

HANDLE: Final = 0.35
"""Width in inches of the handle of an entry below the panels, with the space around it."""

MAP: Final = "viridis"
MARK: Final = "0.25"
NAMES: Final = {
    "diverged": "diverged",
    "empty": "done, but the value is infinite or missing",
    "lacking": "failed or not run",
    "partly": "some trials without a result",
}
SYMBOLS: Final = {"diverged": "x", "empty": "+", "lacking": "o", "partly": "x"}

STYLE: Final[dict[str, Any]] = {
    "font.family": fonts.FIRST,  # part of matplotlib: the same figure on every machine
    "font.size": TEXT,
    "figure.dpi": DPI,  # text widths depend on the resolution: lay out at the one of the PNG
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "figure.titlesize": TITLE,
    "legend.fontsize": TICKS,
    "legend.title_fontsize": TICKS,
    "legend.frameon": False,
    "xtick.labelsize": TICKS,
    "ytick.labelsize": TICKS,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.4,
    "pdf.fonttype": 42,  # TrueType: editors and journals need text that stays text
    "figure.constrained_layout.h_pad": 0.05,
    "figure.constrained_layout.w_pad": 0.05,
}


class Page(Figure):
    """A figure that notebooks show; without pyplot they would not."""

    def _repr_png_(self) -> bytes:
        return png(self)


def style(text: str = "") -> AbstractContextManager[None]:
    """qsweep's style on matplotlib's defaults, without the user's matplotlibrc, with fonts that can draw `text`."""
    families = fonts.families(text)
    own = {**STYLE, "font.family": families}
    if len(families) > 1:
        own["pdf.fonttype"] = 3  # outlines: PostScript fonts embedded as TrueType don't show in all viewers
    context: AbstractContextManager[None] = matplotlib.style.context(["default", own])
    return context


def shape(panels: int, most: int = 4) -> tuple[int, int]:
    """Rows and columns of panels, with at most `most` columns."""
    columns = {1: 1, 2: 2, 4: 2}.get(panels, 3 if panels <= 9 else most)
    return math.ceil(panels / columns), columns


def row_height(rows: int, height: float, least: float = LEAST) -> float:
    """Inches of a row of panels: `height`, or less if the rows would not fit on a page, but not less than `least`."""
    return min(height, max(TALLEST / rows, least))


def panels(picture: Picture, width: float, height: float, least: float = 0.0) -> tuple[Figure, list[Axes]]:
    """A figure of `width` inches with titles and an empty panel of `height` inches per facet."""
    rows, columns = shape(len(picture.panels))
    across = BESIDE_LABELS * width / columns
    turned = slant(picture.x, across * 72)
    deep = (1.0 if turned.get("rotation") == 90 else 0.6) * _widest(picture.x) / 72 if turned else 0.0
    size = (width, max(rows * height + 0.5, least) + deep)
    return titled(picture.title, [panel.title for panel in picture.panels], size)


def titled(title: str, panels: Sequence[str], size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure of a size in inches, with an empty panel per title."""
    rows, columns = shape(len(panels))
    figure = Page(figsize=size, layout="constrained")
    figure.suptitle(heading(title, size[0]))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    flat = list(grid.flat)
    for spare in flat[len(panels) :]:
        spare.remove()
    for axes, panel in zip(flat, panels, strict=False):
        lines = (wrapped(line, BESIDE_LABELS * size[0] / columns) for line in panel.split("\n"))
        axes.set_title("\n".join(lines))
    return figure, flat[: len(panels)]


def heading(title: str, width: float) -> str:
    """The title of a figure that is `width` inches wide, without interpreting it as mathematics."""
    return wrapped(cut(title, len(title)), width, TITLE)


def wrapped(text: str, width: float, size: float = TEXT) -> str:
    """`text` in lines of `width` inches; longer words are broken, mathematics never."""
    longest = max(int(width * 72 / text_width("x", size)), 10)
    parts = [[word] if "$" in word else textwrap.wrap(word, longest) for word in text.split()]
    lines: list[str] = []
    for part in itertools.chain.from_iterable(parts):
        joined = f"{lines[-1]} {part}" if lines else part
        if lines and text_width(joined, size) <= max(width * 72, text_width("x" * 10, size)):
            lines[-1] = joined
        else:
            lines.append(part)
    return "\n".join(lines)


def outer_labels(figure: Figure, axes: Sequence[Axes], x: str, y: str) -> None:
    """Label x below the last panel of each column, and y left of the first panel of each row."""
    rows, columns = shape(len(axes))
    across, up = (BESIDE_LABELS * figure.get_size_inches() / (columns, rows)).tolist()
    for i, each in enumerate(axes):
        if i + columns >= len(axes):
            each.set_xlabel(wrapped(x, across))
            each.tick_params(labelbottom=True)
        if i % columns == 0:
            each.set_ylabel(wrapped(y, up))


def colours(picture: Picture) -> ScalarMappable:
    """The colours of the metric's values, the same in all panels."""
    low, high = picture.limits
    norm = LogNorm(low, high) if picture.is_log else Normalize(low, high)
    return ScalarMappable(norm, MAP)


def rgba(colours: ScalarMappable, values: Sequence[float]) -> list[tuple[float, ...]]:
    """The colours of some values."""
    return [tuple(map(float, colour)) for colour in colours.to_rgba(np.array(values, dtype=float))]


def room(axes: Axes, horizontal: bool) -> float:
    """The length of one side of a panel in points, after the layout of its figure."""
    box = axes.get_window_extent()
    return float(box.width if horizontal else box.height) * 72 / axes.figure.dpi


@functools.cache
def text_width(text: str, size: float = TICKS) -> float:
    """The width in points of the longest line of a label; cached, since mathematics takes milliseconds."""
    font = FontProperties(family=fonts.families(text), size=size)
    measure = text_to_path.get_text_width_height_descent
    return max(float(measure(line, font, ismath=is_math_text(line))[0]) for line in text.split("\n"))


def fitting(axis: Axis, at: Callable[[Place], float], points: float) -> list[Place]:
    """The places whose labels fit side by side if a step of `at` is `points` wide; categories are thinned only if
    upright labels would touch."""
    values = thinned(axis, at, points)
    if axis.scale == "category":
        return [*values, *axis.references]
    return _not_touching(axis, [*axis.references, *values], at, points)


def thinned(axis: Axis, at: Callable[[Place], float], points: float) -> list[Place]:
    """The values whose labels don't touch if a step of `at` is `points` wide; those of categories are upright."""
    if axis.scale == "category":
        return every(axis, points)
    if not axis.is_even:  # every second or third value might be crowded in one place
        ends_first = dict.fromkeys([axis.values[0], axis.values[-1], *axis.values])
        return sorted(_not_touching(axis, ends_first, at, points), key=at)
    widest = max(TICKS, *(text_width(axis.text(value)) for value in axis.values))
    length = (at(axis.values[-1]) - at(axis.values[0])) * points
    most = 1 + int(length / (widest + GAP))
    ticks = next((ticks for n in range(most, 1, -1) if _all_fit(axis, ticks := axis.ticks(n), at, points)), None)
    return ticks or _not_touching(axis, axis.ticks(2), at, points)


def every(axis: Axis, points: float) -> list[Place]:
    """All categories, which are `points` apart, or every second, third … if lines of text would touch."""
    return list(axis.values[:: max(1, math.ceil(0.8 * TICKS / points))])  # few letters are as high as their line


def _all_fit(axis: Axis, places: Sequence[Place], at: Callable[[Place], float], points: float) -> bool:
    return len(_not_touching(axis, places, at, points)) == len(places)


def _not_touching(axis: Axis, places: Iterable[Place], at: Callable[[Place], float], points: float) -> list[Place]:
    """The places, in order, whose labels don't touch that of a kept earlier one."""
    kept: list[Place] = []
    for place in places:
        widths = {other: (text_width(axis.text(place)) + text_width(axis.text(other))) / 2 + GAP for other in kept}
        if all(width < abs(at(place) - at(other)) * points for other, width in widths.items()):
            kept.append(place)
    return kept


def slant(axis: Axis, points: float) -> dict[str, Any]:
    """The rotation of labels that can't be thinned out and don't fit side by side into `points`."""
    fits = (_widest(axis) + GAP) * len(axis.places) < points
    fixed = axis.scale == "category" or len(axis.references) > 1
    if fits or not fixed:
        return {}
    if axis.scale == "category" and points < SLANTED * len(axis.places):
        return {"rotation": 90, "ha": "right", "va": "center", "rotation_mode": "anchor"}
    return {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}


def _widest(axis: Axis) -> float:
    return max(text_width(axis.text(place)) for place in axis.places)


def mark(state: str, colour: str = MARK) -> dict[str, Any]:
    """The look of a mark for trials without a result."""
    size = 2.5 if state == "partly" else 4
    return {
        "linestyle": "none",
        "marker": SYMBOLS[state],
        "markersize": size,
        "markeredgewidth": 0.8,
        "markeredgecolor": colour,
        "markerfacecolor": "none",
        "label": NAMES[state],
    }


def foot(picture: Picture, width: float) -> tuple[list[Line2D], int]:
    """The legend of marks and the notes below all panels, and the number of columns that fit into `width` inches."""
    entries = [Line2D([], [], **mark(state)) for state in NAMES if state in picture.states]
    if picture.notes:
        entries.append(Line2D([], [], linestyle="none", label=wrapped(picture.notes, width - HANDLE, TICKS)))
    side_by_side = sum(text_width(str(entry.get_label())) / 72 + HANDLE for entry in entries) < width
    return entries, len(entries) if side_by_side else 1


def foot_height(picture: Picture, width: float) -> float:
    """Height of the marks and notes in inches."""
    entries, columns = foot(picture, width)
    lines = sum(1 + str(entry.get_label()).count("\n") for entry in entries)
    return 0.05 + LINE * (lines if columns == 1 else 1) + 0.1 if entries else 0.05


def add_foot(figure: Figure, picture: Picture) -> None:
    """Put marks and notes below all panels."""
    entries, columns = foot(picture, figure.get_figwidth())
    if entries:
        figure.legend(handles=entries, loc="outside lower center", ncols=columns, handlelength=1, columnspacing=1.5)


def lay_out(figure: Figure) -> None:
    """Compute the sizes of panels, on which ticks and numbers depend."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)


def lay_out_for_good(figure: Figure) -> None:
    """Compute the sizes of panels for the last time, so that saving does not repeat it, perhaps in another style."""
    lay_out(figure)
    figure.set_layout_engine("none")


def png(figure: Figure) -> bytes:
    """The figure as a PNG file of 200 dpi."""
    return _bytes(figure, format="png", dpi=DPI)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write the figure as PNG and PDF, each atomically; return their paths."""
    return write(figure, [folder / f"{name}.png", folder / f"{name}.pdf"])


def write(figure: Figure, paths: Sequence[Path]) -> list[Path]:
    """Write the figure to files, as PNG or PDF according to their suffixes."""
    lay_out_for_good(figure)
    options: dict[str, dict[str, Any]] = {
        ".png": {"format": "png", "dpi": DPI},
        ".pdf": {"format": "pdf", "metadata": {"CreationDate": None}},
    }
    files = {path: _bytes(figure, **options[path.suffix.lower()]) for path in paths}
    for path, content in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, content)
        except OSError as error:
            raise UserError(f"can't write {path}: {error.strerror or error}") from None
    return list(files)


def _bytes(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, **options)
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
