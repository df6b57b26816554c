"""Draws the figures of a sweep's folder from its tables and the plots of its spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qsweep.plots import Drawn, draw
from qsweep.results import folder, tables


def draw_folder(target: Path, plots: Sequence[Mapping[str, Any]] | None = None) -> Drawn:
    """Draw a sweep folder's figures from its tables and the plots of its spec (or other plots), and write them there.

    Raises:
        UserError: the folder has no tables, or a plot is incomplete.
    """
    return figures_of(target, plots, target / "figures")


def figures_of(target: Path, plots: Sequence[Mapping[str, Any]] | None, into: Path | None) -> Drawn:
    """Draw a sweep folder's figures from its tables and the plots of its spec (or other plots).

    Args:
        into: the folder to write PNG and PDF files to; None to write nothing.

    Raises:
        UserError: the folder has no tables, or a plot is incomplete.
    """
    spec = folder.read_spec(target)
    wanted = spec.get("plots", []) if plots is None else plots
    if not wanted:
        return Drawn()
    trials, histograms, timings = (
        read_table(target) for read_table in (tables.read_trials, tables.read_histograms, tables.read_timings)
    )
    # some published tables lack their large history, and only plots over epochs need it
    history = tables.read_history(target) if _are_over_epochs(wanted) else trials.iloc[:0]
    seconds = dict(zip(timings["key"], timings["seconds"], strict=True))
    timed = trials.assign(seconds=trials["key"].map(seconds))
    title = str(spec.get("title") or target.name)
    return draw(timed, history, wanted, into, title, histograms)


def _are_over_epochs(plots: Sequence[Mapping[str, Any]]) -> bool:
    return isinstance(plots, list | tuple) and any(isinstance(p, Mapping) and p.get("x") == "epoch" for p in plots)
