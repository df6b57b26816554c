"""qsweep as a library: `qsweep.run` and the results that it returns, for scripts and notebooks.

It is in this wing because it shows progress and reports outcomes with the same messages as the commands.
"""

from __future__ import annotations

import base64
import html
import json
import os
import signal
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsweep.cli import report
from qsweep.cli.format_pages import SHOWN
from qsweep.cli.look import at
from qsweep.cli.progress import Display, Silent, is_watched
from qsweep.errors import ArgumentError, UserError
from qsweep.files import as_path
from qsweep.formats import parse
from qsweep.formats.facts import facts
from qsweep.parameter import show
from qsweep.plots.folder import figures_of
from qsweep.results import folder, tables
from qsweep.results.records import STATUSES
from qsweep.runner import sweep
from qsweep.runner.backends import default_workers
from qsweep.runner.checks import read_all
from qsweep.runner.outlook import STACK_LIMIT, Options
from qsweep.spec.find import find
from qsweep.trial.environment import as_in_workers

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CSS_PIXELS = 96
"""Per inch on a screen."""


# --- results ----------------------------------------------------------------------------------------------------------


class Figures(dict[str, "Figure"]):
    """Matplotlib figures by name, which a notebook shows if they are the value of a cell."""

    def _repr_html_(self) -> str:
        from qsweep.plots import page

        return "".join(
            f'<img alt="{html.escape(name)}" width="{figure.get_figwidth() * CSS_PIXELS:.0f}" '
            f'src="data:image/png;base64,{base64.b64encode(page.png(figure)).decode()}">'
            for name, figure in self.items()
        )


class Sweep:
    """The results of one sweep, read from the files of its folder.

    Attributes:
        folder: the folder of the files `trials.csv`, `history.csv`, `spec.yaml`, `figures/` and others.
        trials: trials.csv as a pandas DataFrame, one row per grid point in the order of the grid: `key`,
            `status` (`done`, `diverged`, `failed`, `timeout`, `missing`), the axes, `seed`, metrics, `reason`, all
            other parameters. Accuracies are fractions from 0 to 1, losses are per example; empty cells are NaN.
        history: history.csv as a pandas DataFrame, one row per trial, stage and epoch (`key`, `stage`, `epoch`,
            metrics). Reading it raises Error if there is no such file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trials: pd.DataFrame = tables.read_trials(folder)

    @cached_property
    def history(self) -> pd.DataFrame:
        return tables.read_history(self.folder)

    def plot(
        self, plots: Sequence[Mapping[str, Any]] | None = None, *, into: str | os.PathLike[str] | None = None
    ) -> Figures:
        """Draw figures of the sweep.

        Args:
            plots: the figures to draw, as entries under `plots:` in a spec: `[{"kind": "lines", "x": "lr", "y":
                "test_accuracy"}]`. By default those of the sweep's own spec.
            into: a folder to write each figure to as well, as `NAME.png` (200 dpi) and `NAME.pdf`. By default
                nothing is written.

        Returns:
            A dict of matplotlib Figures by name, in the order of `plots`; empty if the spec has none. A notebook
            shows all of them.

        Raises:
            Error: an entry of `plots` is wrong or does not fit the tables, or a file can't be written. The message
                lists every figure that could not be drawn.
        """
        drawn = figures_of(self.folder, plots, None if into is None else as_path("into", into))
        if drawn.failures:
            raise UserError("\n".join(drawn.failures))
        for note in drawn.notes:
            warnings.warn(note, stacklevel=2)
        return Figures(drawn.figures)

    def __repr__(self) -> str:
        counts = self.trials["status"].value_counts()
        statuses = [f"{counts[status]} {status}" for status in STATUSES if status in counts]
        rows = "1 row" if len(self.trials) == 1 else f"{len(self.trials)} rows"
        return f"<Sweep {self.folder}: {', '.join([rows, *statuses])}>"


def load(path: str | os.PathLike[str]) -> Sweep:
    """Load the results in the folder of a sweep. Only files in this folder are read, never the store.

    Args:
        path: the folder, such as `results/first`, or its name in ./results.

    Raises:
        Error: the folder has no results or those of several sweeps, or its trials.csv is damaged.
    """
    found = folder.sweep_folders(at(as_path("path", path), Path("results")))
    if len(found) > 1:
        raise UserError(f"{path} has {len(found)} sweeps: load one of them, such as {found[0]}")
    return Sweep(found[0])


# --- running ----------------------------------------------------------------------------------------------------------


def run(
    spec: str | os.PathLike[str],
    *,
    overrides: Mapping[str, Any] | None = None,
    name: str | None = None,
    results: str | os.PathLike[str] = "results",
    workers: int | None = None,
    stack: int = STACK_LIMIT,
    backend: str = "local",
    device: str = "auto",
    timeout: float | None = None,
    force: bool = False,
    exit_first: bool = False,
    strict: bool = False,
    plot: bool = True,
    wait: bool = True,
    progress: bool | None = None,
) -> Sweep:
    """Train the trials of a spec, write its tables and draw its figures, as `qsweep run` does.

    Known trials are not trained again, and the tables do not depend on workers, stack or backend. A trial that fails
    does not raise an error: its row has the status `failed` or `timeout` and a reason.

    Args:
        spec: a YAML file, or the name of one in ./configs, in this folder, or among those that come with qsweep.
        overrides: trial parameters, axes or `seeds` to replace, by name: `{"lr": [0.5, 0.25], "epochs": 2}`. The sweep
            then has its own folder, as with `-S`.
        name: the name of the folder in the results folder; by default that of the spec.
        results: the results folder.
        workers: number of worker processes, 1 to 1,024; by default one per core.
        stack: maximum number of trials that train together, 1 to 512.
        backend: `local`: worker processes, which need no `if __name__ == "__main__"`; `serial`: this process, to debug.
        device: `auto` (a GPU if there is one), `cpu` or `cuda`.
        timeout: maximum wall time per trial in seconds, above 0; by default unlimited.
        force: retrain known trials and compare the records.
        exit_first: start no new trials after the first failure.
        strict: refuse to run if something that a spec quantizes would not be rounded.
        plot: write the figures of the spec to the sweep's folder.
        wait: wait while another qsweep runs in the results folder, rather than raise Error.
        progress: True: a bar in a terminal or a notebook (which needs ipywidgets), elsewhere an occasional line on
            stderr. False: nothing. By default the bar, or nothing where it can't be shown.

    Returns:
        The sweep's results.

    Raises:
        Error: an option or the spec is wrong (all mistakes in one message), data are not available, or the folder can't
            be written. Finished trials are kept.
        KeyboardInterrupt: Ctrl-C; the first one waits for the stacks that are training, a second does not. The table
            has been written, and finished trials are kept.
    """
    options = Options(
        results=as_path("results", results),
        workers=default_workers() if workers is None else workers,
        backend=backend,
        device=device,
        overrides=_as_texts({} if overrides is None else overrides),
        name=name,
        stack=stack,
        timeout=timeout,
        force=force,
        exit_first=exit_first,
        plot=plot,
        wait=wait,
        strict=strict,
    )
    path = find(os.fspath(as_path("spec", spec)))
    is_shown = is_watched() if progress is None else progress
    with as_in_workers(backend), Display() if is_shown else Silent() as display:
        (plan,) = read_all([path], options)
        result = sweep.run(path, options, display, lambda ahead: report.begin(ahead, display), plan)
        for line in (*report.outcome(result), *report.problems(result), *result.drawn.notes, *result.drawn.failures):
            display.note(line)
    if not is_shown:
        for line in (*map(report.conflict, result.summary.conflicts), *result.drawn.failures):
            warnings.warn(line, stacklevel=2)
    _stop_as(result.summary.stopped_by)
    return Sweep(result.folder)


def _as_texts(overrides: Mapping[str, Any]) -> tuple[str, ...]:
    """Values in the notation of `-S`.

    Raises:
        UserError: a spec can't contain such a value.
    """
    if not isinstance(overrides, Mapping):
        raise ArgumentError(f"overrides: found {show(overrides)}, expected a mapping such as {{'lr': [0.5, 0.25]}}")
    return tuple(f"{name}={_as_text(name, value)}" for name, value in overrides.items())


def _as_text(name: str, value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=lambda array: array.tolist())
    except (TypeError, AttributeError, ValueError):
        expected = "numbers, strings, lists and mappings, as in a spec"
        raise UserError(f"overrides: {name}: found {show(value)}, expected {expected}") from None


def _stop_as(number: signal.Signals | None) -> None:
    """Pass on a signal that ended the run to the caller's program."""
    if number is signal.SIGINT:
        raise KeyboardInterrupt
    if number is not None:
        signal.raise_signal(number)


# --- formats ----------------------------------------------------------------------------------------------------------


def list_formats(*names: str) -> pd.DataFrame:
    """The facts of number formats, one row each: `list_formats("e4m3", "block8 per=16")`.

    Args:
        names: names of formats, as in a spec; by default those that `qsweep formats` lists.

    Returns:
        A DataFrame indexed by name. `bits`: per value, with its part of the scale where the group size is known.
        `levels`: number of distinct finite values. `largest`, `lowest`. `normal`, `subnormal`: the smallest positive
        ones. `step`: the distance of neighbours, if it is constant. `inf`, `nan`: whether they have codes.
        `scale_per`: `tensor`, `channel` or the number of values that share a scale. Numbers are in units of the scale
        if there is one; NaN or None stands for what a format lacks.

    Raises:
        Error: a name is not that of a format.
    """
    import pandas as pd

    known = [facts(parse(each)) for each in names or SHOWN]
    columns = {
        "bits": [own.bits_per_value for own in known],
        **{field: [getattr(own, field) for own in known] for field in FIELDS},
        "inf": [own.has_inf for own in known],
        "nan": [own.nans > 0 for own in known],
        "scale_per": pd.array([None if own.scale is None else own.scale.per for own in known], dtype="object"),
    }
    return pd.DataFrame(columns, index=pd.Index(names or SHOWN, name="format"))


FIELDS = ("levels", "largest", "lowest", "normal", "subnormal", "step")
