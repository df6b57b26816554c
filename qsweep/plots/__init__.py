"""Figures from a sweep's tables: surfaces, heatmaps, lines, scatters, thresholds and histograms, as PNG and PDF.

A figure shows only what the table contains: a trial without a result is marked, never interpolated; the figure says
what is averaged; equal tables produce equal bytes.

`entry` reads what to draw; `rows`, `cells` and `distributions` reduce the tables to the content of one figure; `axes`
computes positions and labels of values; `fonts` chooses fonts; `page` has what all figures share. A kind of plot is
declared in qsweep.spec.plots; the module of its name here, or the one that its declaration names, has its `draw`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsweep.errors import UserError
from qsweep.plots import fonts
from qsweep.plots.cells import Picture, picture
from qsweep.plots.distributions import Distributions, distributions
from qsweep.plots.entry import Entry, Histogram, named
from qsweep.plots.threshold import threshold

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MOST_SHOWN = 20
"""How many characters without a font a message lists."""

__all__ = ["Drawn", "draw"]


@dataclass(frozen=True)
class Drawn:
    """The result of drawing the plots of a spec.

    Attributes:
        figures: the drawn figures by name.
        paths: the files that were written.
        failures: a message for each plot that could not be drawn.
        notes: warnings, such as about characters that no font has.
    """

    figures: Mapping[str, Figure] = field(default_factory=dict)
    paths: tuple[Path, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def draw(
    trials: pd.DataFrame,
    history: pd.DataFrame,
    plots: Sequence[Mapping[str, Any]],
    folder: Path | None,
    title: str,
    histograms: pd.DataFrame | None = None,
) -> Drawn:
    """Draw each entry of a spec's `plots:`, and write it to `folder`, if given, as `<name>.png` (200 dpi) and
    `<name>.pdf`.

    `trials`, `history` and `histograms` are the tables of one sweep (trials.csv, history.csv, and histograms.csv, which
    not every sweep has); `title` is the title of figures whose entry has none. An entry that does not fit the tables or
    exceeds the limits of a figure is reported; the others are drawn.

    Raises:
        UserError: an entry is incomplete.
    """
    pictures: list[Picture | Distributions] = []
    failures: list[str] = []
    entries = named(plots)
    for entry in entries:
        try:
            pictures.append(_shown(trials, history, histograms, entry, title))
        except UserError as error:
            failures.append(str(error))
    if not pictures:
        return Drawn(failures=tuple(failures))
    from qsweep.plots import page  # only here, since importing matplotlib takes half a second

    text = _text(trials, entries, title)
    figures: dict[str, Figure] = {}
    paths: list[Path] = []
    with page.style(text):
        for each in pictures:
            try:
                figures[each.plot.name] = figure = _figure(each)
                page.lay_out_for_good(figure)
                paths += page.save(figure, folder, each.plot.name) if folder else []
            except UserError as error:
                failures.append(str(error))
    return Drawn(figures, tuple(paths), tuple(failures), tuple(_notes(text)))


def _text(trials: pd.DataFrame, entries: Sequence[Entry], title: str) -> str:
    """The characters that figures may show: those in titles and in the columns that place trials."""
    columns = {column for entry in entries for column in entry.columns.values() if column in trials.columns}
    texts = {str(value) for column in columns for value in trials[column].unique()}
    return "".join(sorted({*title, *"".join(str(entry.title or "") for entry in entries), *"".join(texts)}))


def _notes(text: str) -> list[str]:
    lacking = fonts.missing(text)
    shown = "".join(lacking[:MOST_SHOWN]) + "…" * (len(lacking) > MOST_SHOWN)
    return [f"no installed font has {shown}: figures show {fonts.MISSING} in their place"] if lacking else []


def _shown(
    trials: pd.DataFrame, history: pd.DataFrame, histograms: pd.DataFrame | None, entry: Entry, title: str
) -> Picture | Distributions:
    if isinstance(entry, Histogram):
        return distributions(trials, histograms, entry, title)
    if entry.lowest:
        return threshold(trials, history, entry, title)
    return picture(trials, history, entry, title)


def _figure(shown: Picture | Distributions) -> Figure:
    kind = shown.plot.kind
    drawn: Figure = import_module(f"qsweep.plots.{kind.figure or kind.name}").draw(shown)
    return drawn
