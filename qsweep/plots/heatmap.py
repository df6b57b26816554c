"""Heatmaps: a cell per pair of places, with its number if there is room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from qsweep.plots import page
from qsweep.plots.axes import Axis, Place, Reference
from qsweep.plots.cells import Cells, Picture
from qsweep.plots.outlines import outlines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

GAP: Final = 0.35
"""Gap between the last value and the references, in cells."""

TITLE: Final = 0.8
"""Height of a panel's title and labels in inches."""

LABEL: Final = 0.75
"""Share of the colour bar's height, of that of the whole figure, that its label may take."""
NUMBERS: Final = 6.0
INKS: Final = ("black", "white")
LOOKS: Final = {
    "diverged": {"facecolor": "0.9", "edgecolor": "0.65", "hatch": "/////"},
    "empty": {"facecolor": "0.9", "edgecolor": "0.65"},
    "lacking": {"facecolor": "white", "edgecolor": "0.65"},
}


def draw(picture: Picture) -> Figure:
    """The figure of `picture`: cells of equal size, whatever the distance of their values; references after a gap."""
    outlined = outlines(picture)
    picture = outlined.picture
    rows, columns = page.shape(len(picture.panels))
    wide = columns > 1 or len(picture.x.places) > 10
    height = min(max(0.22 * len(picture.series.places) + 0.8, page.LEAST), page.WIDTH)
    height = page.row_height(rows, height, _least_height(picture))
    figure, axes = page.panels(picture, page.WIDTH if wide else 0.6 * page.WIDTH, height)
    colours = page.colours(picture)
    for i, (each, panel) in enumerate(zip(axes, picture.panels, strict=True)):
        _cells(each, picture, panel.cells, colours)
        outlined.draw(each, i)
    page.outer_labels(figure, axes, picture.x.label, picture.series.label)
    shrink = min(1.0, page.WIDTH / figure.get_figheight())
    label = page.wrapped(picture.label, LABEL * shrink * figure.get_figheight())
    figure.colorbar(colours, ax=axes, label=label, shrink=shrink, aspect=25, pad=0.02)
    page.add_foot(figure, picture)
    page.lay_out(figure)
    _ticks(axes, picture)
    for each, panel in zip(axes, picture.panels, strict=True):
        _numbers(each, picture, panel.cells, colours)
    return figure


def _least_height(picture: Picture) -> float:
    """Height in inches of a panel in which names fit above each other, and numbers fit into the cells."""
    return min(max(page.LEAST, 1.2 * page.TICKS / 72 * len(picture.series.places) + TITLE), page.WIDTH)


def at(axis: Axis, place: Place) -> float:
    """The coordinate of the centre of a place's cells."""
    return axis.places.index(place) + (GAP if isinstance(place, Reference) and axis.values else 0.0)


def _box(picture: Picture, place: tuple[Place, Place]) -> tuple[float, float, float]:
    """Left edge, lower edge and width of a cell; a reference that reads neither parameter spans its whole row."""
    x, series = place
    bottom = at(picture.series, series) - 0.5
    if isinstance(x, Reference) and isinstance(series, Reference):
        return -0.5, bottom, float(len(picture.x.values))
    return at(picture.x, x) - 0.5, bottom, 1.0


def _cells(axes: Axes, picture: Picture, cells: Cells, colours: ScalarMappable) -> None:
    known = {place: cell for place, cell in cells.items() if cell.values}
    faces = page.rgba(colours, [cell.mean for cell in known.values()])
    _boxes(axes, [_box(picture, place) for place in known], "done", {"facecolor": faces, "edgecolor": "white"})
    for state, looks in LOOKS.items():
        boxes = [_box(picture, place) for place, cell in cells.items() if cell.state == state]
        _boxes(axes, boxes, state, looks)
        _marks(axes, boxes, state, page.MARK)
    for ink in INKS:  # the mark is in the corner, beside the number
        inked = [place for place, face in zip(known, faces, strict=True) if _ink(face) == ink]
        partly = [_box(picture, place) for place in inked if cells[place].state == "partly"]
        _marks(axes, partly, "partly", ink, (0.85, 0.8))
    axes.set_xlim(-0.5, at(picture.x, picture.x.places[-1]) + 0.5)
    axes.set_ylim(-0.5, at(picture.series, picture.series.places[-1]) + 0.5)
    axes.spines[:].set_visible(False)


Boxes = Sequence[tuple[float, float, float]]


def _boxes(axes: Axes, boxes: Boxes, state: str, looks: Mapping[str, Any]) -> None:
    if boxes:
        patches = [Rectangle((left, bottom), width, 1) for left, bottom, width in boxes]
        axes.add_collection(PatchCollection(patches, label=state, linewidth=0.4, zorder=1, **looks))


def _marks(axes: Axes, boxes: Boxes, state: str, colour: str, middle: tuple[float, float] = (0.5, 0.5)) -> None:
    if boxes:
        across = [left + middle[0] * width for left, _, width in boxes]
        axes.plot(across, [bottom + middle[1] for _, bottom, _ in boxes], **page.mark(state, colour))


def _ticks(axes: Sequence[Axes], picture: Picture) -> None:
    """Draw the labels that fit; those of categories are slanted if necessary."""
    x, y = picture.x, picture.series
    across, up = (page.room(axes[0], horizontal) for horizontal in (True, False))
    x_shown = page.fitting(x, lambda place: at(x, place), across / (at(x, x.places[-1]) + 1))
    step = up / (at(y, y.places[-1]) + 1)
    y_shown = [*(page.every(y, step) if y.scale == "category" else y.ticks(int(up / page.TICKS))), *y.references]
    turn = page.slant(x, across)
    for i, each in enumerate(axes):
        each.set_xticks([at(x, place) for place in x_shown], [x.text(place) for place in x_shown], **turn)
        each.set_yticks([at(y, place) for place in y_shown], [y.text(place) for place in y_shown])
        each.tick_params(left=i % page.shape(len(axes))[1] == 0)


def _numbers(axes: Axes, picture: Picture, cells: Cells, colours: ScalarMappable) -> None:
    """Write each cell's value in it, if the cells are large enough."""
    across = page.room(axes, horizontal=True) / (axes.get_xlim()[1] + 0.5)
    up = page.room(axes, horizontal=False) / (axes.get_ylim()[1] + 0.5)
    spec = _number_format(picture, across)
    if up < NUMBERS + 2 or spec is None:
        return
    for place, cell in cells.items():
        if cell.values:
            left, bottom, width = _box(picture, place)
            text = axes.text(left + width / 2, bottom + 0.47, f"{cell.mean:{spec}}", fontsize=NUMBERS)
            text.set(ha="center", va="center", color=_ink(page.rgba(colours, [cell.mean])[0]))


def _ink(face: Sequence[float]) -> str:
    """Black or white, whichever has the greater contrast (WCAG 2.1) with this colour."""
    red, green, blue = (channel**2.2 for channel in face[:3])
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "white"


def _number_format(picture: Picture, across: float) -> str | None:
    """The number format that fits into cells `across` points wide; None if none fits."""
    means = [cell.mean for cell in picture.cells if cell.values]
    fractions = (".2f", ".1f") if any(mean % 1 for mean in means) else (".0f",)
    specs = (".1f", ".0f") if picture.is_share else fractions
    for spec in specs:
        gap = 0.0 if spec == specs[-1] else page.GAP  # numbers side by side are better than none
        if all(page.text_width(f"{mean:{spec}}", NUMBERS) + gap < across for mean in means):
            return spec
    return None
