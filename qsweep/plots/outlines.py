"""Outlines in a heatmap: of cells that reach an accuracy, and of cells that the grids of all panels share."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from matplotlib.collections import LineCollection

from qsweep.plots.axes import Place, Reference, word
from qsweep.plots.cells import Cells, Panel, Picture
from qsweep.trial.reach import read_reach

if TYPE_CHECKING:
    from matplotlib.axes import Axes

At = tuple[Place, Place]
"""A cell, by its x and its y."""
REACHED: Final[dict[str, Any]] = {"colors": "white", "linewidths": 1.8}
AROUND: Final[dict[str, Any]] = {"colors": "black", "linewidths": 3.0}
"""Drawn below the white line, which alone would be invisible on yellow."""
SHARED: Final[dict[str, Any]] = {"colors": "black", "linewidths": 1.0, "linestyles": (0, (3, 2))}


@dataclass(frozen=True)
class Outlines:
    """The picture with notes on the outlines, the cells of each panel that reach the accuracy, and the shared cells."""

    picture: Picture
    reached: tuple[set[At], ...]
    shared: set[At]

    def draw(self, axes: Axes, panel: int) -> None:
        """Draw the outlines in one panel."""
        if self.shared:
            axes.add_collection(LineCollection(list(self._around(self.shared)), zorder=3, **SHARED))
        if reached := self.reached[panel]:
            for zorder, look in ((4, AROUND), (5, REACHED)):
                sides = list(self._around(reached))
                axes.add_collection(LineCollection(sides, zorder=zorder, clip_on=False, capstyle="projecting", **look))

    def _around(self, cells: Collection[At]) -> Iterator[list[tuple[float, float]]]:
        """The outer sides of a set of cells."""
        places = [(self.picture.x.values.index(x), self.picture.series.values.index(y)) for x, y in cells]
        for x, y in places:
            for across, up in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                if (x + across, y + up) not in places:
                    middle = x + across / 2, y + up / 2
                    half = abs(up) / 2, abs(across) / 2
                    yield [(middle[0] - half[0], middle[1] - half[1]), (middle[0] + half[0], middle[1] + half[1])]


def outlines(picture: Picture) -> Outlines:
    """The outlines of a heatmap."""
    shared = _shared(picture)
    notes = [picture.notes, "dashed: where the grids overlap" if shared else ""]
    reached: tuple[set[At], ...] = tuple(set() for _ in picture.panels)
    panels = picture.panels
    if picture.plot.reach:
        target, words = _target(picture, picture.plot.reach)
        reached = tuple(_reached(panel.cells, target) for panel in panels)
        if not math.isnan(target):
            pairs = zip(panels, reached, strict=True)
            panels = tuple(Panel(_title(picture, panel.title, own), panel.cells) for panel, own in pairs)
        notes.append(words)
    joined = "; ".join(note for note in notes if note)
    return Outlines(replace(picture, panels=panels, notes=joined), reached, shared)


def _grid(cells: Cells) -> set[At]:
    return {at for at in cells if not any(isinstance(part, Reference) for part in at)}


def _shared(picture: Picture) -> set[At]:
    """The cells that all panels have, if some panels have others too."""
    grids = [_grid(panel.cells) for panel in picture.panels]
    shared = set.intersection(*grids)
    return shared if shared and any(grid != shared for grid in grids) else set()


def _target(picture: Picture, reach: str) -> tuple[float, str]:
    """The accuracy to reach, and a note on it."""
    wanted = read_reach(reach)
    cells = [(at, cell) for panel in picture.panels for at, cell in panel.cells.items()]
    best = max((c.mean for at, c in cells if isinstance(at[1], Reference) and c.state == "done"), default=math.nan)
    target = wanted.target([best]) if wanted.is_share else 100 * wanted.value
    if math.isnan(target):
        return target, f"no trial without {word(picture.plot.series or '')} is done: nothing to take {reach} of"
    names = [picture.series.text(place) for place in picture.series.references]
    share = f", {reach} of {names[0]}'s best" if wanted.is_share and len(names) == 1 else ""
    return target, f"outlined: {target:.1f} % and more{share}"


def _reached(cells: Cells, target: float) -> set[At]:
    return {at for at in _grid(cells) if cells[at].state == "done" and cells[at].mean >= target}


def _title(picture: Picture, title: str, reached: set[At]) -> str:
    """A panel's title with the lowest value that reaches the accuracy, and the first place where it does."""
    column = word(picture.plot.series or "")
    if not reached:
        return f"{title}\nnone reaches it"
    lowest = min(picture.series.values.index(y) for _, y in reached)
    first = min(picture.x.values.index(x) for x, y in reached if picture.series.values.index(y) == lowest)
    y, x = picture.series.values[lowest], picture.x.values[first]
    return f"{title}\nlowest {column}: {picture.series.text(y)}, at {picture.x.text(x)}"
