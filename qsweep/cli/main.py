"""The command line: thin over the library. Machine output on stdout, progress and messages on stderr."""

from __future__ import annotations

import errno
import gc
import math
import os
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from qsweep import __version__, files
from qsweep.cli.columns import WIDE
from qsweep.cli.terminal import emit, finish, prepare, say
from qsweep.errors import UserError, cut, did_you_mean
from qsweep.trial.environment import fix_products

if TYPE_CHECKING:
    from qsweep.plots import Drawn
    from qsweep.runner.outlook import Options, Outlook
    from qsweep.spec.plan import Plan

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
CRASH_FILE = "qsweep-crash.txt"

OBJECTS_BETWEEN_COLLECTIONS = 200_000
"""Trials and records are millions of objects that all stay: to look for garbage among them took a fifth of the time."""


class _Seconds(click.FloatRange):
    """A number of seconds above 0; neither NaN nor infinity."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return found


FINITE = _Seconds(min=0, min_open=True)


class Command(click.Command):
    """A command that names the right option for a wrong one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise _unknown_option(error.option_name, self, ctx) from None


def _unknown_option(given: str, command: click.Command, ctx: click.Context) -> click.UsageError:
    options = [name for option in command.get_params(ctx) for name in option.opts if name.startswith("-")]
    near = did_you_mean(given, options, "option")
    if not near and "-S" in options:
        near = _as_parameter(given)
    return click.UsageError(f"unknown option '{cut(given)}'{near}", ctx)


def _as_parameter(option: str) -> str:
    """`--lr 0.1`, where a trial parameter is meant."""
    from qsweep.trial.checks import parameter_named

    name = option.lstrip("-").replace("-", "_")
    near = parameter_named(name)
    return f"; a trial parameter is set by `-S {near}=VALUE`" if near else ""


class Commands(click.Group):
    """Lists commands in the order in which one needs them, and turns errors into exit codes."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise _unknown_option(error.option_name, self, ctx) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            message = f"unknown command '{cut(args[0])}'{did_you_mean(args[0], self.commands, 'command')}"
            raise click.UsageError(message, ctx) from None


def main() -> NoReturn:
    """Run the command line. Exit codes: 0 success, 1 a trial failed or a promise broke, 2 user error, 3 internal."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    os.environ.pop("MPLBACKEND", None)  # notebooks set one that matplotlib refuses outside them; files need none
    prepare()
    fix_products()
    sys.exit(finish(_ended()))


def _ended() -> int:
    """Run the command that is asked for; its exit code."""
    try:
        return int(cli(standalone_mode=False) or 0)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        say(_usage(error))
        return 2
    except (click.Abort, KeyboardInterrupt):
        say("interrupted; run again to go on")
        return 130
    except UserError as error:
        say(str(error), style="red")
        return 2
    except BrokenPipeError:  # `qsweep table | head`
        return 0
    except OSError as error:
        if error.errno not in UNWRITABLE:
            return crashed()
        say(f"can't write: {error.strerror}", style="red")
        return 2
    except Exception:
        return crashed()


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What is wrong with a disk, or with what stdout leads to: not with us."""


def _usage(error: click.ClickException) -> str:
    """What click says of a mistake in a command line."""
    context = getattr(error, "ctx", None)
    usage = "" if context is None else f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n\n"
    return f"{usage}Error: {error.format_message()}"


def crashed() -> int:
    """An internal error: the traceback goes to a file, and one line says so."""
    text = traceback.format_exc()
    try:
        files.write(Path(CRASH_FILE), text)
        where = f"the traceback is in {CRASH_FILE}: please report it"
    except UserError:
        where = text
    say(f"qsweep {__version__} has a bug: {text.strip().splitlines()[-1]}\n{where}", style="red")
    return 3


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="qsweep")
def cli() -> None:
    """Sweep quantized training: a YAML grid in, a tidy table and figures out, the same bits every time.

    \b
      qsweep run quickstart        a table and a figure, nothing to download
      qsweep run quickstart -n     what that would train, and how long it takes
      qsweep table quickstart      the table in the terminal
    """


def results_option(command: Any) -> Any:
    return click.option(
        "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Results folder."
    )(command)


# --- run --------------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("specs", nargs=-1, required=True, metavar="SPEC…")
@click.option("-j", "--jobs", type=click.IntRange(1, 1024), help="Workers.  [default: one per core]")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where trials train.",
)
@click.option(
    "--backend",
    type=click.Choice(["local", "serial"]),
    default="local",
    show_default=True,
    help="local: worker processes; serial: this process, to debug.",
)
@click.option(
    "-S",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Replace a trial parameter, an axis or the seeds.",
)
@click.option("--name", help="Name of the folder in the results folder.")
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be trained and how long it takes; train nothing.")
@click.option("--force", is_flag=True, help="Retrain known trials, and compare.")
@click.option("-x", "--exitfirst", is_flag=True, help="Start no more trials after the first failure.")
@click.option(
    "--stack", type=click.IntRange(1, 512), default=16, show_default=True, help="Most trials that train together."
)
@click.option("--timeout", type=FINITE, help="Most wall seconds per trial.")
@click.option("--strict", is_flag=True, help="Refuse to run where a role names parts that nothing rounds.")
@results_option
@click.option("--no-plot", is_flag=True, help="Do not draw figures at the end.")
@click.option("--no-wait", is_flag=True, help="Exit if another qsweep runs in the results folder.")
def run(specs: tuple[str, ...], dry_run: bool, **given: Any) -> int:
    """Train the trials of specs, write tables and draw figures.

    SPEC is a YAML file, or the name of one in ./configs, in this folder, or among those that come with qsweep. All
    specs are checked before the first trial is trained. Nothing is trained twice: run again after an interruption, or
    after editing the grid, and only what is missing is trained.
    """
    from qsweep.spec.find import find

    options = _options(given)
    if options.name and len(specs) > 1:
        raise UserError("--name names one folder: run one spec at a time with it")
    paths = [find(name) for name in specs]
    return _dry_run(paths, options) if dry_run else _run(paths, options)


def _options(given: dict[str, Any]) -> Options:
    from qsweep.runner.backends import default_workers
    from qsweep.runner.outlook import Options
    from qsweep.spec.file import NAME

    if given["name"] is not None and not NAME.fullmatch(given["name"]):
        raise UserError(f"--name {given['name']}: up to 64 of A-Z a-z 0-9 . _ - and no dot in front")
    return Options(
        results=given["results"],
        workers=given["jobs"] or default_workers(),
        backend=given["backend"],
        device=given["device"],
        overrides=given["overrides"],
        name=given["name"],
        stack=given["stack"],
        timeout=given["timeout"],
        force=given["force"],
        exit_first=given["exitfirst"],
        plot=not given["no_plot"],
        wait=not given["no_wait"],
        strict=given["strict"],
    )


def _dry_run(paths: Sequence[Path], options: Options) -> int:
    from qsweep.cli import report
    from qsweep.runner import sweep
    from qsweep.runner.outlook import look

    found = [look(plan, options, say) for plan in sweep.read_all(paths, options)]
    for ahead in found:
        for note in ahead.plan.notes:
            say(note)
        click.echo(report.counts(ahead))
        lines = (*report.stack_sizes(ahead), *report.failing(ahead), *report.places(ahead), *report.not_rounded(ahead))
        for line in (*lines, *report.data(ahead), *report.time(ahead)):
            click.echo(f"  {line}")
    if not all(data.has_source for ahead in found for data in ahead.lacking):
        return 2  # as the run would end
    return 1 if any(ahead.failing for ahead in found) else 0


def _run(paths: Sequence[Path], options: Options) -> int:
    """Run specs, one after the other, once all are known to be sound."""
    from qsweep.runner import sweep

    plans = sweep.read_all(paths, options)
    if len(plans) > 1:  # a single one is looked at when it runs
        sweep.check_needs(plans, options, say)
    return max([_run_one(path, plan, options) for path, plan in zip(paths, plans, strict=True)])


def _run_one(path: Path, plan: Plan, options: Options) -> int:
    from qsweep.cli import report
    from qsweep.cli.progress import Display
    from qsweep.runner import sweep

    with Display() as display:
        result = sweep.run(path, options, display, lambda ahead: _begin(ahead, display), plan)
    for line in report.ended(result):
        say(line)
    for line in report.wrong(result):
        say(line, style="red")
    _say_drawn(result.drawn)
    for written in [result.folder / "trials.csv", *result.drawn.paths]:
        click.echo(written)
    return sweep.exit_code(result)


def _begin(ahead: Outlook, display: Any) -> None:
    from qsweep.cli import report

    for line in (report.counts(ahead), *report.failing(ahead), *report.not_rounded(ahead, report.SHOWN)):
        display.note(line)
    if ahead.stacks:
        for line in report.time(ahead) if ahead.time.trials else ():
            display.note(line)
        display.start(ahead.missing, ahead.pace)


# --- looking at results -----------------------------------------------------------------------------------------------


@cli.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH…]")
@results_option
def plot(paths: tuple[Path, ...], results: Path) -> int:
    """Draw the figures of sweeps again.

    PATH is the folder of a sweep or its name, a folder of such folders, or a spec file, whose current `plots` are drawn
    over the table that is there. Without PATH: all sweeps in the results folder.
    """
    from qsweep.runner import sweep

    failed = False
    for target, plots in [pair for path in paths or (results,) for pair in _plottable(path, results)]:
        drawn = sweep.draw(target, plots)
        if not drawn.paths and not drawn.failures:
            say(f"{target}: its spec has no plots")
        _say_drawn(drawn)
        for path in drawn.paths:
            click.echo(path)
        failed = failed or bool(drawn.failures)
    return 2 if failed else 0


def _say_drawn(drawn: Drawn) -> None:
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
    return [(target, None) for target in folder.sweep_folders(_at(path, results) if path != results else path)]


@cli.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH…]")
@click.option("--aggregate", is_flag=True, help="Means over seeds, with their 95 % intervals.")
@click.option("--against", metavar="AXIS=VALUE", help="Differences from the trials with that value, paired by seed.")
@click.option("--lowest", "axis", metavar="AXIS", help="The lowest value of an axis that reaches an accuracy.")
@click.option("--reach", metavar="SHARE", help="With --lowest: 95% of the best without that axis (default), or 0.9.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with all columns and digits.")
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

    PATH is the folder of a sweep or its name, or a folder of such folders. Without PATH: all sweeps in the results
    folder. All columns are in trials.csv there.

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
        raise UserError(f"{both} are tables of their own: ask for one of them at a time")
    if (axis is None and reach is not None) or (axis is not None and as_csv):
        raise UserError("--reach belongs to --lowest AXIS" if axis is None else "--lowest prints no CSV")
    targets = [target for path in paths for target in folder.sweep_folders(_at(path, results))]
    targets = targets if paths else folder.sweep_folders(results)
    if as_csv and len(targets) > 1:
        raise UserError(f"--csv prints one table, and here are {len(targets)}: name one of {_some(targets)}")
    for target in targets:
        text, note = _lowest(target, axis, reach) if axis is not None else _table(target, aggregate, against, as_csv)
        say(f"{target / 'trials.csv'}" + (f": {note}" if note else ""))
        (emit if as_csv else click.echo)(text.removesuffix("\n"))
        if not as_csv and "\n\n" in text:
            say("wider than this terminal, so its columns go on below; `| less -S` or --csv shows them in one table")
    return 0


def _width(piped: int = WIDE) -> int:
    """Of the terminal; what is piped does not depend on one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else piped


def _at(path: Path, results: Path) -> Path:
    """The folder or file that a path means: as it stands, or a name in the results folder.

    Raises:
        UserError: neither is there.
    """
    for found in (path, results / path):
        if found.exists():
            return found
    names = sorted(found.parent.name for found in results.glob("*/trials.csv"))
    there = f" (there are: {', '.join(names)})" if names else ": `qsweep run SPEC` makes them"
    raise UserError(f"no results in {path}{did_you_mean(path.name, names)}{there}")


def _some(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:5])) + (" …" if len(paths) > 5 else "")


def _table(target: Path, aggregate: bool, against: str | None, as_csv: bool) -> tuple[str, str]:
    """A sweep's table as text or CSV, and what to say of it."""
    from qsweep.cli import show
    from qsweep.results.aggregate import csv_text, differences, over_seeds

    if not aggregate and against is None:
        return (show.trials_text(target) if as_csv else show.trials_table(target, _width())), ""
    summary = over_seeds(target) if against is None else differences(target, against)
    if as_csv:
        return csv_text(summary), show.summary_note(summary, WIDE)
    width = _width(show.PAGE)
    return show.summary_table(summary, width), show.summary_note(summary, width)


def _lowest(target: Path, axis: str, reach: str | None) -> tuple[str, str]:
    """The lowest values of an axis as a table, and what they reach."""
    from qsweep.cli import show
    from qsweep.results.lowest import lowest
    from qsweep.trial.reach import DEFAULT_REACH

    answer = lowest(target, axis, reach or DEFAULT_REACH)
    return show.lowest_table(answer, _width()), show.lowest_note(answer)


@cli.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH…]")
@results_option
def status(paths: tuple[Path, ...], results: Path) -> int:
    """Print how many trials have which status, and what is running."""
    from qsweep.cli.show import status_lines
    from qsweep.runner import lock

    for path in [_at(path, results) for path in paths] or [results]:
        for line in status_lines(path, _width()):
            click.echo(line)
        root = path if (path / "store.db").is_file() else path.parent
        if (root / "store.db").is_file():
            who = lock.holder(root)
            click.echo(f"{who} is running" if who else "nothing is running")
    return 0


@cli.command()
@click.argument("key")
@results_option
def why(key: str, results: Path) -> int:
    """Explain a trial: settings, epochs, what rounding did to it.

    KEY is the trial's key in the table, or its first characters.
    """
    from qsweep.cli.show import explanation

    click.echo(explanation(results / "store.db", key, _width()))
    return 0


@cli.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option(
    "--plot",
    "file",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=Path("formats.png"),
    metavar="[FILE]",
    help="Draw every value of the formats into FILE, a .png or .pdf, instead.  [default: formats.png]",
)
def formats(names: tuple[str, ...], file: Path | None) -> int:
    """List the number formats, or describe those named.

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


@cli.command()
@click.argument("key")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@results_option
def export(key: str, file: Path, results: Path) -> int:
    """Write the weights of a trial into a .safetensors file.

    KEY is the trial's key in the table, or its first characters. What was compressed is packed: codes of a few bits
    and the levels that they stand for. In Python, a dict of arrays by name, bit for bit:

    \b
      from qsweep.formats.packing import from_file
      weights = from_file(open("model.safetensors", "rb").read())
    """
    from qsweep.runner.export import export as write

    size = write(results, key, file, say)
    say(f"{size:,} bytes")
    click.echo(file)
    return 0


# --- studies ----------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("studies", nargs=-1, metavar="[STUDY…]")
@click.option("-j", "--jobs", type=click.IntRange(1, 1024), help="Workers.  [default: one per core]")
@results_option
def reproduce(studies: tuple[str, ...], jobs: int | None, results: Path) -> int:
    """Run and draw every grid of the published studies.

    STUDY is the name of a study, or a YAML file. Without STUDY: all of them.
    """
    from qsweep.runner.backends import default_workers
    from qsweep.runner.outlook import Options
    from qsweep.spec.find import find
    from qsweep.spec.study import all_studies, read_study

    options = Options(results=results, workers=jobs or default_workers())
    found = [read_study(path) for path in [find(name, "sweeps") for name in studies] or all_studies()]
    code = 0
    for study in found:
        say(f"{study.title} ({study.document})")
        code = max(code, _run([Path(config) for config in study.configs], options))
    return code


# --- data -------------------------------------------------------------------------------------------------------------


@cli.group(cls=Commands)
def data() -> None:
    """Data sets: which are here, and how to get or add one."""


@data.command("list")
def data_list() -> int:
    """List the data sets and whether they are here."""
    from qsweep.cli.show import data_table

    click.echo(data_table())
    return 0


@data.command("get")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
def data_get(names: tuple[str, ...]) -> int:
    """Fetch data sets, from the first source that answers."""
    from qsweep.data.files import data_folder, ensure

    for dataset in map(_dataset, names):
        ensure(dataset, data_folder(), say)
    return 0


@data.command("add")
@click.argument("name")
@click.argument("directory", type=click.Path(path_type=Path))
def data_add(name: str, directory: Path) -> int:
    """Add a data set from its original files, without a network.

    DIRECTORY holds the files as their publishers name them.
    """
    from qsweep.data.files import add, data_folder

    add(_dataset(name), directory, data_folder())
    say(f"{name}: ready in {data_folder()}")
    return 0


def _dataset(name: str) -> Any:
    from qsweep.data.catalog import DATASETS
    from qsweep.errors import unknown

    if name not in DATASETS:
        raise UserError(unknown("data set", name, tuple(DATASETS)))
    return DATASETS[name]


# --- the language and the store ---------------------------------------------------------------------------------------


@cli.command()
def schema() -> int:
    """Print the JSON Schema of specs, for editors."""
    import json

    from qsweep.spec.schema import spec_schema

    emit(json.dumps(spec_schema(), indent=2, ensure_ascii=False))
    return 0


@cli.group(cls=Commands)
def store() -> None:
    """The store of all records."""


@store.command("check")
@results_option
def store_check(results: Path) -> int:
    """Read every record and set damaged ones aside.

    Records of one trial and environment that differ are listed.
    """
    from contextlib import closing

    from qsweep.cli import report
    from qsweep.cli.progress import Display
    from qsweep.results.store import Store
    from qsweep.runner import lock

    path = results / "store.db"
    Store.view(path).close()  # where there is no store, there is nothing to lock
    with lock.hold(results, "store check", Display().note, wait=True), closing(Store.open(path)) as opened:
        found = opened.check()
    click.echo(f"{found.sound} records are sound")
    for key in found.damaged:
        click.echo(f"{key[:10]}: damaged, set aside; the next run trains it again")
    for key in found.conflicts:
        click.echo(report.conflict(key))
    return 1 if found.damaged or found.conflicts else 0


@store.command("prune")
@click.option("--yes", is_flag=True, help="Delete them; without it, only print what that would delete.")
@results_option
def store_prune(yes: bool, results: Path) -> int:
    """Delete weights that no sweep needs any more.

    The sweeps are those in the results folder. Records stay.
    """
    from qsweep.cli.progress import Display
    from qsweep.runner import lock, sweep

    with lock.hold(results, "store prune", Display().note, wait=True):
        deleted, size = sweep.prune(results, delete=yes)
    what = f"{size:,} bytes, the weights of {deleted} trials that no sweep has now"
    click.echo(f"deleted {what}" if yes else f"would delete {what}" + (": add --yes" if deleted else ""))
    return 0


@store.command("forget")
@click.argument("keys", nargs=-1, metavar="[KEY…]")
@click.option("--sweep", "name", metavar="NAME", help="All trials of a sweep, by the name of its folder.")
@click.option("--yes", is_flag=True, help="Delete them; without it, only print what that would delete.")
@results_option
def store_forget(keys: tuple[str, ...], name: str | None, yes: bool, results: Path) -> int:
    """Delete records and weights of trials.

    KEY is a trial's key in the table, or its first characters. The next run trains these trials again.
    """
    from qsweep.cli.progress import Display
    from qsweep.results.forget import forget
    from qsweep.runner import lock

    if not keys and name is None:
        raise UserError("name the trials: `qsweep store forget KEY…`, or `qsweep store forget --sweep NAME`")
    with lock.hold(results, "store forget", Display().note, wait=True):
        found = forget(results, keys, name, delete=yes)
    what = f"{found.records} records of {found.trials} trials, and {found.bytes:,} bytes of weights"
    click.echo(f"deleted {what}" if yes else f"would delete {what}: add --yes")
    for other, count in found.shared.items():
        click.echo(f"{count} of the trials {'were' if yes else 'are'} in {other} too")
    return 0
