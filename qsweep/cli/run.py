"""The commands that train: `run` and `reproduce`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsweep.cli.command import SECONDS, Command, jobs_option, results_option
from qsweep.cli.look import say_drawn
from qsweep.cli.terminal import say
from qsweep.errors import UserError

if TYPE_CHECKING:
    from qsweep.runner.outlook import Options
    from qsweep.spec.plan import Plan


@click.command(cls=Command)
@click.argument("specs", nargs=-1, required=True, metavar="SPEC…")
@jobs_option
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Device to train on.",
)
@click.option(
    "--backend",
    type=click.Choice(["local", "serial"]),
    default="local",
    show_default=True,
    help="local: train in worker processes; serial: in this one, for debugging.",
)
@click.option(
    "-S",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Override a trial parameter, an axis or the seeds.",
)
@click.option("--name", help="Name of the sweep's folder in the results folder.")
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be trained and how long it would take, and exit.")
@click.option("--force", is_flag=True, help="Retrain known trials and compare the records.")
@click.option("-x", "--exitfirst", is_flag=True, help="Start no new trials after the first failure.")
@click.option(
    "--stack",
    type=click.IntRange(1, 512),
    default=16,
    show_default=True,
    help="Maximum trials per stack.",
)
@click.option("--timeout", type=SECONDS, help="Time limit per trial, in seconds of wall time.")
@click.option("--strict", is_flag=True, help="Refuse to run if something that a spec quantizes would not be rounded.")
@results_option
@click.option("--no-plot", is_flag=True, help="Do not draw figures.")
@click.option("--no-wait", is_flag=True, help="Exit if another qsweep is running in the results folder.")
def run(specs: tuple[str, ...], dry_run: bool, **given: Any) -> int:
    """Train the trials of specs, write tables and draw figures.

    SPEC is a YAML file, or the name of one in ./configs, in this folder, or among those that come with qsweep. All
    specs are checked before the first trial is trained. Nothing is trained twice: run again after an interruption or
    an edit of the grid, and only the missing trials are trained.
    """
    from qsweep.spec.find import find

    options = _options(given)
    if options.name and len(specs) > 1:
        raise UserError("--name names one folder: use it with one spec at a time")
    paths = [find(name) for name in specs]
    return _dry_run(paths, options) if dry_run else _run(paths, options)


def _options(given: dict[str, Any]) -> Options:
    from qsweep.runner.backends import default_workers
    from qsweep.runner.outlook import Options

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
    from qsweep.runner.checks import read_all
    from qsweep.runner.outlook import look

    found = [look(plan, options, say) for plan in read_all(paths, options)]
    for ahead in found:
        for note in ahead.plan.notes:
            say(note)
        click.echo(report.counts(ahead))
        lines = (*report.stack_sizes(ahead), *report.failing(ahead), *report.places(ahead), *ahead.unmet.lines())
        for line in (*lines, *report.short_groups(ahead), *report.data(ahead), *report.time(ahead)):
            click.echo(f"  {line}")
    if not all(data.has_source for ahead in found for data in ahead.lacking):
        return 2  # the exit code of the run itself
    return 1 if any(ahead.failing for ahead in found) else 0


def _run(paths: Sequence[Path], options: Options) -> int:
    """Check all specs, then run them one after the other."""
    from qsweep.runner.checks import check_needs, read_all

    plans = read_all(paths, options)
    if len(plans) > 1:  # a single plan is checked when it runs
        check_needs(plans, options, say)
    return max([_run_one(path, plan, options) for path, plan in zip(paths, plans, strict=True)])


def _run_one(path: Path, plan: Plan, options: Options) -> int:
    from qsweep.cli import report
    from qsweep.cli.progress import Display
    from qsweep.runner import sweep

    with Display() as display:
        result = sweep.run(path, options, display, lambda ahead: report.begin(ahead, display), plan)
    for line in report.outcome(result):
        say(line)
    for line in report.problems(result):
        say(line, style="red")
    say_drawn(result.drawn)
    for written in [result.folder / "trials.csv", *result.drawn.paths]:
        click.echo(written)
    return sweep.exit_code(result)


@click.command(cls=Command)
@click.argument("studies", nargs=-1, metavar="[STUDY…]")
@jobs_option
@results_option
def reproduce(studies: tuple[str, ...], jobs: int | None, results: Path) -> int:
    """Run every grid of the published studies and draw its figures.

    STUDY is the name of a study, or a YAML file. Without STUDY: all studies.
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
