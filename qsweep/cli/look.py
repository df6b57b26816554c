"""The commands that show results: `plot`, `table`, `status`, `why`, `export`; `formats` and `energy`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsweep.cli.columns import WIDE
from qsweep.cli.command import Command, results_option
from qsweep.cli.terminal import emit, say
from qsweep.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from qsweep.plots import Drawn
    from qsweep.trial.energy.process import Memory

MEMORIES = ("sram", "dram", "registers")


@click.command(cls=Command)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH…]")
@results_option
def plot(paths: tuple[Path, ...], results: Path) -> int:
    """Redraw the figures of sweeps.

    PATH is the folder or the name of a sweep, a folder of such folders, or a spec file: its current `plots` are drawn
    from the existing table. Without PATH: all sweeps in the results folder.
    """
    from qsweep.plots.folder import draw_folder

    failed = False
    for target, plots in [pair for path in paths or (results,) for pair in _plottable(path, results)]:
        drawn = draw_folder(target, plots)
        if not drawn.paths and not drawn.failures:
            say(f"{target}: its spec has no plots")
        say_drawn(drawn)
        for path in drawn.paths:
            click.echo(path)
        failed = failed or bool(drawn.failures)
    return 2 if failed else 0


def say_drawn(drawn: Drawn) -> None:
    for note in drawn.notes:
        say(note)
    for failure in drawn.failures:
        say(failure, style="red")


def _plottable(path: Path, results: Path) -> list[tuple[Path, Sequence[Any] | None]]:
    from qsweep.results import folder
    from qsweep.spec.file import read

    if path.suffix in (".yaml", ".yml"):
        spec = read(path)
        return [(folder.sweep_folders(results / spec.folder)[0], spec.plots)]
    return [(target, None) for target in folder.sweep_folders(at(path, results) if path != results else path)]


@click.command(cls=Command)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH…]")
@click.option("--aggregate", is_flag=True, help="Print means over seeds with 95 % confidence intervals.")
@click.option("--against", metavar="AXIS=VALUE", help="Print differences from the trials with a value, paired by seed.")
@click.option("--lowest", "axis", metavar="AXIS", help="Print the lowest value of an axis that reaches an accuracy.")
@click.option(
    "--reach",
    metavar="ACCURACY",
    help="With --lowest: the accuracy to reach, a number (0.9) or a share of the best trial without the axis."
    "  [default: 95%]",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with all columns and digits.")
@results_option
def table(
    paths: tuple[Path, ...],
    aggregate: bool,
    against: str | None,
    axis: str | None,
    reach: str | None,
    as_csv: bool,
    results: Path,
) -> int:
    """Print the tables of sweeps: axes, status and metrics.

    PATH is the folder or the name of a sweep, or a folder of such folders. Without PATH: all sweeps in the results
    folder. The file trials.csv in the folder of a sweep has all columns.

    \b
      qsweep table mine --aggregate                 means over seeds
      qsweep table mine --against rounding=nearest  differences from nearest
      qsweep table mine --against bitwidth=         differences from float32
      qsweep table mine --lowest bitwidth           the fewest bits that train
    """
    from qsweep.results import folder

    asked = {"--aggregate": aggregate, "--against": against is not None, "--lowest": axis is not None}
    if sum(asked.values()) > 1:
        both = " and ".join(name for name, is_asked in asked.items() if is_asked)
        raise UserError(f"{both} can't be combined: use one of them at a time")
    if (axis is None and reach is not None) or (axis is not None and as_csv):
        raise UserError("--reach belongs to --lowest AXIS" if axis is None else "--lowest has no CSV output")
    targets = [target for path in paths for target in folder.sweep_folders(at(path, results))]
    targets = targets if paths else folder.sweep_folders(results)
    if as_csv and len(targets) > 1:
        raise UserError(f"--csv prints one table, and there are {len(targets)}: name one of {_some(targets)}")
    for target in targets:
        text, note = _lowest(target, axis, reach) if axis is not None else _table(target, aggregate, against, as_csv)
        say(f"{target / 'trials.csv'}" + (f": {note}" if note else ""))
        (emit if as_csv else click.echo)(text.removesuffix("\n"))
        if not as_csv and "\n\n" in text:
            say("the table is wider than this terminal, so it is split; `| less -S` or --csv shows it in one piece")
    return 0


def _width(piped: int = WIDE) -> int:
    """The width of the terminal, or `piped` if stdout is not one: piped output must not depend on a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else piped


def at(path: Path, results: Path) -> Path:
    """The folder or file at a path, or else of this name in the results folder; of a file of a sweep, its folder.

    Raises:
        UserError: neither exists.
    """
    for found in (path, results / path):
        if found.exists():
            return found.parent if (found.parent / "trials.csv").is_file() and found.is_file() else found
    names = sorted(found.parent.name for found in results.glob("*/trials.csv"))
    there = f" (there are: {', '.join(names)})" if names else ": create some with `qsweep run SPEC`"
    raise UserError(f"no results in {path}{did_you_mean(path.name, names)}{there}")


def _some(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:5])) + (" …" if len(paths) > 5 else "")


def _table(target: Path, aggregate: bool, against: str | None, as_csv: bool) -> tuple[str, str]:
    """A sweep's table as text or CSV, and a note on how to read it."""
    from qsweep.cli.table import PAGE, summary_note, summary_table, trials_table, trials_text
    from qsweep.results.aggregate import csv_text, differences, over_seeds

    if not aggregate and against is None:
        return (trials_text(target) if as_csv else trials_table(target, _width())), ""
    summary = over_seeds(target) if against is None else differences(target, against)
    if as_csv:
        return csv_text(summary), summary_note(summary, WIDE)
    width = _width(PAGE)
    return summary_table(summary, width), summary_note(summary, width)


def _lowest(target: Path, axis: str, reach: str | None) -> tuple[str, str]:
    """The lowest values of an axis as a table, and a note on how to read it."""
    from qsweep.cli.table import lowest_note, lowest_table
    from qsweep.results.lowest import lowest
    from qsweep.trial.reach import DEFAULT_REACH

    answer = lowest(target, axis, reach or DEFAULT_REACH)
    return lowest_table(answer, _width()), lowest_note(answer)


@click.command(cls=Command)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH…]")
@results_option
def status(paths: tuple[Path, ...], results: Path) -> int:
    """Print the number of trials by status, and what is running.

    PATH is the folder or the name of a sweep, or a results folder. Without PATH: all sweeps in the results folder.
    """
    from qsweep.cli.status import status_lines
    from qsweep.runner import lock

    for path in [at(path, results) for path in paths] or [results]:
        for line in status_lines(path, _width()):
            click.echo(line)
        root = path if (path / "store.db").is_file() else path.parent
        if (root / "store.db").is_file():
            who = lock.holder(root)
            click.echo(f"{who} is running" if who else "nothing is running")
    return 0


@click.command(cls=Command)
@click.argument("key")
@results_option
def why(key: str, results: Path) -> int:
    """Explain a trial: settings, epochs and effects of rounding.

    KEY is the trial's key in the table, or its first characters.
    """
    from qsweep.cli.why import explanation

    click.echo(explanation(results / "store.db", key, _width()))
    return 0


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option(
    "--plot",
    "file",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=Path("formats.png"),
    metavar="[FILE]",
    help="Draw all values of the formats to FILE, a .png or .pdf, instead.  [default: formats.png]",
)
def formats(names: tuple[str, ...], file: Path | None) -> int:
    """List the number formats, or describe the named ones.

    \b
      qsweep formats                   bits, levels, largest, smallest, Inf, NaN
      qsweep formats float             the rounding rule of a family
      qsweep formats e4m3              every value, with its code in bits
      qsweep formats "block8 per=16"   a format with parameters
      qsweep formats e4m3 e5m2 --plot  both on one number line
    """
    from qsweep.cli.format_pages import check_quoted, format_list, format_page

    check_quoted(names)
    if file is not None:
        from qsweep.plots import values

        click.echo(values.draw(names, file))
    else:
        click.echo("\n\n".join(map(format_page, names)) if names else format_list())
    return 0


@click.command(cls=Command)
@click.argument("key")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@results_option
def export(key: str, file: Path, results: Path) -> int:
    """Write the weights of a trial to a .safetensors file.

    KEY is the trial's key in the table, or its first characters. Compressed weights are packed: codes of a few bits,
    and a table of the levels that they encode. To read the file in Python, as a dict of arrays by name, bit for bit:

    \b
      weights = qsweep.load_weights("model.safetensors")
    """
    from qsweep.runner.export import export as write

    size = write(results, key, file, say)
    say(f"{size:,} bytes")
    click.echo(file)
    return 0


@click.command(cls=Command)
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("-S", "overrides", multiple=True, metavar="NAME=VALUE", help="Set a parameter or an axis, as in `run`.")
@click.option(
    "--process", default="horowitz", show_default=True, metavar="NAME", help="A process by name, or a YAML file."
)
@click.option(
    "--weights-on", type=click.Choice(MEMORIES), default="sram", show_default=True, help="The memory of parameters."
)
@click.option(
    "--activations-on",
    type=click.Choice(MEMORIES),
    default="sram",
    show_default=True,
    help="The memory of activations.",
)
@click.option("--min-sram", type=click.IntRange(0), default=0, metavar="BITS", help="The smallest SRAM that is built.")
@click.option("--dram-io", "is_loaded", is_flag=True, help="Read inputs from DRAM, and write outputs to it.")
@click.option("--qtools", "as_qtools", is_flag=True, help="By the formulas of QKeras's qtools, errors included.")
@click.option("--layers", "by_layer", is_flag=True, help="List each layer.")
def energy(
    spec: Path,
    overrides: tuple[str, ...],
    process: str,
    weights_on: Memory,
    activations_on: Memory,
    min_sram: int,
    is_loaded: bool,
    as_qtools: bool,
    by_layer: bool,
) -> int:
    """Estimate the energy that one example costs in inference. Nothing is trained.

    One line per configuration of the spec, in nanojoules, with the same net in float32, and in 8 bits with 32-bit
    accumulators, for comparison.
    """
    from qsweep.cli.energy import energy_lines
    from qsweep.spec.file import read
    from qsweep.spec.find import find
    from qsweep.spec.plan import expand
    from qsweep.trial.energy.model import Machine
    from qsweep.trial.energy.process import read_process

    path = find(str(spec), "configs")
    plan = expand(read(path, overrides))
    machine = Machine(read_process(process, path.parent), weights_on, activations_on, min_sram, is_loaded)
    emit("\n".join(energy_lines(plan, machine, as_qtools, by_layer)))
    return 0
