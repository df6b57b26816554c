"""Figures from a sweep's tables: surfaces, heatmaps, lines, scatters, thresholds and histograms, as PNG and as PDF.

A figure shows what the table says and nothing else: a trial without a result is marked, never interpolated; what is
averaged is named in the figure; equal tables give equal bytes.

`entry` reads what to draw, `rows`, `cells` and `distributions` reduce the tables to what one figure shows, `axes` says
where a value stands and how it reads, `page` holds what all figures share; `surface`, `heatmap`, `lines`
(scatters too) and `histogram` draw them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsweep.plots.cells import Picture, picture
from qsweep.plots.distributions import Distributions, distributions
from qsweep.plots.entry import OVER_X, THRESHOLD, Entry, Histogram, named
from qsweep.plots.threshold import threshold

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["draw"]


def draw(
    trials: pd.DataFrame,
    history: pd.DataFrame,
    plots: Sequence[Mapping[str, Any]],
    folder: Path,
    title: str,
    histograms: pd.DataFrame | None = None,
) -> list[Path]:
    """Draw each entry of a spec's `plots:` into `folder` as `<name>.png` (200 dpi) and `<name>.pdf`; their paths.

    `trials`, `history` and `histograms` are the tables of one sweep (trials.csv, history.csv, histograms.csv, which not
    every sweep has); `title` stands above figures whose entry has none. Nothing is written before all entries are known
    to fit the tables.

    Raises:
        UserError: an entry is incomplete, names a column that the tables don't have, or asks for more than fits.
    """
    entries = named(plots)
    if not entries:
        return []
    pictures = [_shown(trials, history, histograms, entry, title) for entry in entries]
    from qsweep.plots import page  # matplotlib takes half a second: who doesn't draw is spared

    with page.style():
        return [path for each in pictures for path in page.save(_figure(each), folder, each.plot.name)]


def _shown(
    trials: pd.DataFrame, history: pd.DataFrame, histograms: pd.DataFrame | None, entry: Entry, title: str
) -> Picture | Distributions:
    if isinstance(entry, Histogram):
        return distributions(trials, histograms, entry, title)
    if entry.kind == THRESHOLD:
        return threshold(trials, history, entry, title)
    return picture(trials, history, entry, title)


def _figure(shown: Picture | Distributions) -> Figure:
    from qsweep.plots import heatmap, histogram, lines, surface

    if isinstance(shown, Distributions):
        return histogram.draw(shown)
    drawers = {"heatmap": heatmap.draw, "surface": surface.draw, **dict.fromkeys((*OVER_X, THRESHOLD), lines.draw)}
    return drawers[shown.plot.kind](shown)
