"""Surfaces: the metric as a landscape over two axes, with holes for missing results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.transforms import Bbox
from mpl_toolkits.mplot3d import Axes3D, proj3d
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from qsweep.plots import page
from qsweep.plots.axes import Axis, Place, Reference, plain
from qsweep.plots.cells import Cells, Picture, spread

Point = tuple[float, float, float]

RIBBON: Final = 0.3
"""Half the width of a reference's ribbon, in steps of its axis."""

COLUMNS: Final = 3
"""Maximum number of columns of panels; with more, labels would overlap."""

SIDES: Final = (1.25, 1.15, 0.85)
"""Aspect ratio of the box around the landscape."""

RISES: Final = (0.2, 0.4)
"""Slopes of the axes of x and y on the page."""

ELEVATION: Final = 28
AZIMUTHS: Final = (-120, -60, 60, 120)
HEAD, BAR = 0.3, 0.75
"""Inches for the title of the figure, and for the colour bar."""


@dataclass(frozen=True)
class Face:
    """One face of a landscape: its corners, and the places whose values they show."""

    corners: tuple[Point, ...]
    places: tuple[tuple[Place, Place], ...]

    @property
    def is_reference(self) -> bool:
        """Whether it is part of a reference's ribbon."""
        return any(isinstance(part, Reference) for place in self.places for part in place)


def draw(picture: Picture) -> Figure:
    """The figure of `picture`: a landscape per panel, all seen from where most of their slopes face the viewer."""
    figure, slots = _figure(picture)
    colours = page.colours(picture)
    panels = [spread(panel.cells, picture.x) for panel in picture.panels]
    landscapes = [faces(picture, cells) for cells in panels]
    azimuth = best_azimuth(picture, [face for landscape in landscapes for face in landscape])
    axes = [figure.add_axes(slot.bounds, projection="3d", computed_zorder=False) for slot in slots]
    for each, cells, landscape in zip(axes, panels, landscapes, strict=True):
        _landscape(each, picture, landscape, colours)
        _lone_points(each, picture, cells, {place for face in landscape for place in face.places}, colours)
        _marks(each, picture, cells)
        _frame(each, picture, azimuth)
    _colour_bar(figure, picture, colours)
    page.add_foot(figure, picture)
    _fit(figure, axes, slots)
    return figure


def _figure(picture: Picture) -> tuple[Figure, list[Bbox]]:
    """A figure with titles, and the part of it that each panel may fill."""
    rows, columns = page.shape(len(picture.panels), COLUMNS)
    width = page.WIDTH if columns > 1 else 0.6 * page.WIDTH
    across = (width - BAR) / columns
    up = 0.76 * across
    heading, titles = (
        page.heading(picture.title, width),
        [page.wrapped(panel.title, across) for panel in picture.panels],
    )
    head = HEAD + page.LINE * heading.count("\n")
    over = page.LINE * max(1.4 + title.count("\n") if title else 0 for title in titles)
    height = rows * (up + over) + head + page.foot_height(picture, width)
    figure = page.Page(figsize=(width, height))
    figure.suptitle(heading, y=1 - 0.08 / height, va="top")
    slots = []
    for index, title in enumerate(titles):
        row, column = divmod(index, columns)
        left, top = column * across, height - head - row * (up + over)
        figure.text((left + across / 2) / width, top / height, title, ha="center", va="top")
        slots.append(Bbox.from_bounds(left / width, (top - over - up) / height, across / width, up / height))
    return figure, slots


def _height(picture: Picture, value: float) -> float:
    """The coordinate of a value on the vertical axis, since 3-D axes have no logarithmic scale."""
    return math.log10(value) if picture.is_log else value


def faces(picture: Picture, cells: Cells) -> list[Face]:
    """The faces between neighbours, and ribbons at places off the scale; none touches a place without a value."""
    x, y = picture.x, picture.series
    known = {place: _height(picture, cell.mean) for place, cell in cells.items() if cell.values}
    found = []
    for places, offsets in _quads(x, y):
        if all(place in known for place in places):
            corners = zip(places, offsets, strict=True)
            found.append(Face(tuple((x.at(i) + dx, y.at(j) + dy, known[i, j]) for (i, j), (dx, dy) in corners), places))
    return found


def _quads(x: Axis, y: Axis) -> Iterator[tuple[tuple[tuple[Place, Place], ...], tuple[tuple[float, float], ...]]]:
    """The places at the four corners of each face, and the offsets of the corners from them."""
    for (a, b), (c, d) in product(pairwise(x.joined), pairwise(y.joined)):
        yield ((a, c), (b, c), (b, d), (a, d)), ((0, 0),) * 4
    w = RIBBON * y.step
    for (a, b), beyond in product(pairwise(x.joined), y.off_scale):
        yield ((a, beyond), (b, beyond), (b, beyond), (a, beyond)), ((0, -w), (0, -w), (0, w), (0, w))
    w = RIBBON * x.step
    for (c, d), beyond in product(pairwise(y.joined), x.off_scale):
        yield ((beyond, c), (beyond, c), (beyond, d), (beyond, d)), ((-w, 0), (w, 0), (w, 0), (-w, 0))


def best_azimuth(picture: Picture, landscape: Sequence[Face]) -> int:
    """The azimuth from which most of the area of the faces is visible."""
    if not landscape:
        return AZIMUTHS[0]
    extents = [high - low for low, high in _limits(picture)]
    corners = np.array([face.corners for face in landscape]) * np.array(SIDES) / np.array(extents)
    normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normals *= np.where(normals[:, 2:] < 0, -1, 1)

    def shown(azimuth: int) -> float:
        a, e = math.radians(azimuth), math.radians(ELEVATION)
        towards = np.array([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])
        return round(float(np.maximum(normals @ towards, 0).sum()), 6)

    return max(AZIMUTHS, key=shown)


def _limits(picture: Picture) -> tuple[tuple[float, float], ...]:
    """The limits of the three axes, which are never equal."""
    low, high = (_height(picture, value) for value in picture.limits)
    return _ends(picture.x), _ends(picture.series), (low, high)


def _ends(axis: Axis) -> tuple[float, float]:
    first, last = axis.at(axis.places[0]), axis.at(axis.places[-1])
    below, above = (RIBBON * axis.step if axis.is_off_scale(end) else 0.0 for end in (axis.places[0], axis.places[-1]))
    return (first - below, last + above) if last > first else (first - 0.5 * axis.step, last + 0.5 * axis.step)


def _landscape(axes: Axes3D, picture: Picture, landscape: Sequence[Face], colours: ScalarMappable) -> None:
    """Draw all faces as one collection, which is painted from the farthest to the nearest."""
    if not landscape:
        return
    means = [math.fsum(z for _, _, z in face.corners) / 4 for face in landscape]
    collection = Poly3DCollection(
        [face.corners for face in landscape],
        facecolors=page.rgba(colours, [10**mean if picture.is_log else mean for mean in means]),
        edgecolors=["black" if face.is_reference else "0.25" for face in landscape],
        linewidths=0.35,
        zorder=2,
        label="done",
    )
    axes.add_collection3d(collection)


def _lone_points(
    axes: Axes3D, picture: Picture, cells: Cells, shown: set[tuple[Place, Place]], colours: ScalarMappable
) -> None:
    """Draw a pin for each value that no face shows because its neighbours have no values."""
    floor = _limits(picture)[2][0]
    for (x, y), cell in cells.items():
        if cell.values and (x, y) not in shown:
            foot, top = (picture.x.at(x), picture.series.at(y)), _height(picture, cell.mean)
            axes.plot([foot[0]] * 2, [foot[1]] * 2, [floor, top], color="0.4", linewidth=0.6, zorder=3)
            (head,) = axes.plot([foot[0]], [foot[1]], [top], marker="o", markersize=4, zorder=3, label="done")
            head.set(color=page.rgba(colours, [cell.mean])[0], markeredgecolor="0.25", markeredgewidth=0.5)


def _marks(axes: Axes3D, picture: Picture, cells: Cells) -> None:
    """Mark missing results: on the floor, or at the value if some trials have one."""
    floor = _limits(picture)[2][0]
    for state in page.NAMES:
        places = {place: cell for place, cell in cells.items() if cell.state == state}
        if places:
            x, y = [picture.x.at(x) for x, _ in places], [picture.series.at(y) for _, y in places]
            z = [_height(picture, cell.mean) if cell.values else floor for cell in places.values()]
            axes.plot(x, y, z, zorder=3 if state == "partly" else 1, **page.mark(state))


def _frame(axes: Axes3D, picture: Picture, azimuth: int) -> None:
    """Limits, ticks, labels and the view."""
    x, y, z = _limits(picture)
    axes.set(xlim=x, ylim=y, zlim=z, xlabel=picture.x.label, ylabel=picture.series.label, zlabel=picture.label)
    axes.view_init(ELEVATION, azimuth)
    axes.set_box_aspect(SIDES)
    outwards = ("right", "left") if azimuth in (-60, 120) else ("left", "right")
    longest = int(_length(axes) / page.TICKS)  # 3-D axes can't rotate long labels
    drawn_axes = (axes.xaxis, axes.yaxis)
    for axis, drawn, side, rise in zip((picture.x, picture.series), drawn_axes, outwards, RISES, strict=True):
        low, high = _ends(axis)
        points = _length(axes) / (high - low)
        is_named = axis.scale == "category"
        values = page.every(axis, rise * points) if is_named else page.thinned(axis, axis.at, points)
        shown = [*values, *axis.references]
        texts = [axis.text(place, longest) for place in shown]
        drawn.set_ticks([axis.at(place) for place in shown], labels=texts, ha=side)
        drawn.labelpad = max(map(page.text_width, texts)) / 3 - 2
    ticks = _height_ticks(picture)
    texts = [f"$10^{{{math.log10(tick):.0f}}}$" if picture.is_log else plain(tick) for tick in ticks]
    axes.set_zticks([_height(picture, tick) for tick in ticks], texts)
    axes.zaxis.labelpad = 0
    axes.zaxis.set_rotate_label(False)
    axes.zaxis.label.set_rotation(90)
    _lighten(axes)


def _length(axes: Axes3D) -> float:
    """The approximate length of an axis of x or y on the page in points; labels take the same space at any size."""
    return max(0.75 * page.room(axes, horizontal=True) - 56, 7 * page.TICKS)


def _height_ticks(picture: Picture) -> list[float]:
    low, high = picture.limits
    locator = LogLocator() if picture.is_log else MaxNLocator(5)
    return [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]


def _lighten(axes: Axes3D) -> None:
    """Make the landscape stand out: no walls, faint lines, labels close to their axis."""
    axes.patch.set_visible(False)
    axes.tick_params(pad=-2)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis.line.set_linewidth(0.6)
        axis._axinfo["grid"].update(color="0.88", linewidth=0.4)  # there is no public API for this


def _colour_bar(figure: Figure, picture: Picture, colours: ScalarMappable) -> None:
    width, height = figure.get_size_inches()
    length = min(1.8, 0.6 * height)
    bar = figure.add_axes((1 - (BAR - 0.1) / width, (height - length) / 2 / height, 0.11 / width, length / height))
    figure.colorbar(colours, cax=bar, label=picture.label)


def _fit(figure: Figure, axes: Sequence[Axes3D], slots: Sequence[Bbox]) -> None:
    """Make each panel fill its slot, including labels: matplotlib's layouts leave wide margins around 3-D axes."""
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    for _ in range(4):  # text keeps its size, so one pass is not enough
        figure.draw_without_rendering()
        drawn, slot, box = _drawn(figure, axes[0], renderer), slots[0], axes[0].get_position(original=True)
        scale = min(slot.width / drawn.width, slot.height / drawn.height)
        left = (slot.x0 + slot.x1) / 2 + (box.x0 - (drawn.x0 + drawn.x1) / 2) * scale
        bottom = (slot.y0 + slot.y1) / 2 + (box.y0 - (drawn.y0 + drawn.y1) / 2) * scale
        for each, own in zip(axes, slots, strict=True):
            shift = own.x0 - slot.x0, own.y0 - slot.y0
            each.set_position((left + shift[0], bottom + shift[1], box.width * scale, box.height * scale))


def _drawn(figure: Figure, axes: Axes3D, renderer: RendererAgg) -> Bbox:
    """The part of its figure that a panel fills, from the labels to the far corners of its box."""
    projection = axes.get_proj()
    limits = (axes.get_xlim(), axes.get_ylim(), axes.get_zlim())
    corners = [proj3d.proj_transform(*corner, projection)[:2] for corner in product(*limits)]
    box = Bbox.null()
    box.update_from_data_xy(axes.transData.transform(corners), ignore=True)
    labels = [axis.get_tightbbox(renderer) for axis in (axes.xaxis, axes.yaxis, axes.zaxis)]
    return Bbox.union([box, *labels]).transformed(figure.transFigure.inverted())
