"""Figures from a sweep's tables: surfaces, heatmaps and lines, as PNG and as vector PDF.

A figure shows what the table says and nothing else: a trial without a result is marked, never interpolated; what is
averaged is named in the figure; equal tables give equal bytes.

`entry` reads what to draw, `rows` and `cells` reduce the tables to what one figure shows, `axes` says where a value
stands and how it reads, `page` holds what all figures share; `surface`, `heatmap` and `lines` draw one kind each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsweep.plots.cells import picture
from qsweep.plots.entry import named

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["draw"]


def draw(
    trials: pd.DataFrame, history: pd.DataFrame, plots: Sequence[Mapping[str, Any]], folder: Path, title: str
) -> list[Path]:
    """Draw each entry of a spec's `plots:` into `folder` as `<name>.png` (200 dpi) and `<name>.pdf`; their paths.

    `trials` and `history` are the tables of one sweep (trials.csv, history.csv); `title` stands above figures whose
    entry has none. Nothing is written before all entries are known to fit the tables.

    Raises:
        UserError: an entry is incomplete, names a column that the tables don't have, or asks for more than fits.
    """
    entries = named(plots)
    if not entries:
        return []
    from qsweep.plots import heatmap, lines, page, surface  # matplotlib takes half a second: who doesn't draw is spared

    draw_one = {"heatmap": heatmap.draw, "lines": lines.draw, "surface": surface.draw}
    pictures = [picture(trials, history, entry, title) for entry in entries]
    with page.style():
        return [path for each in pictures for path in page.save(draw_one[each.plot.kind](each), folder, each.plot.name)]
