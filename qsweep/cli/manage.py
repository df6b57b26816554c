"""The commands that manage data sets and the store: `data`, `schema` and `store`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qsweep.cli.command import Command, Commands, results_option
from qsweep.cli.terminal import emit, say
from qsweep.errors import UserError


@click.group(cls=Commands)
def data() -> None:
    """List, fetch or add data sets."""


@data.command("list")
def data_list() -> int:
    """List the data sets and their state in the data folder."""
    from qsweep.cli.columns import aligned
    from qsweep.data.catalog import DATASETS
    from qsweep.data.files import data_folder, state

    rows = [["data set", "state", "train", "test", "example", "classes", "description"]]
    for d in DATASETS.values():
        shape = "×".join(map(str, d.shape))
        rows.append([d.name, state(d, data_folder()), str(d.train), str(d.test), shape, str(d.classes), d.title])
    click.echo(f"{aligned(rows)}\n\nin {data_folder()} (set QSWEEP_DATA for another folder)")
    return 0


@data.command("get")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
def data_get(names: tuple[str, ...]) -> int:
    """Download data sets from the first source that answers."""
    from qsweep.data.files import data_folder, ensure

    for dataset in map(_dataset, names):
        ensure(dataset, data_folder(), say)
    return 0


@data.command("add")
@click.argument("name")
@click.argument("directory", type=click.Path(path_type=Path))
def data_add(name: str, directory: Path) -> int:
    """Add a data set from its original files, without a network.

    DIRECTORY holds the files under their original names.
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


@click.command(cls=Command)
def schema() -> int:
    """Print the JSON Schema of specs, for editors."""
    import json

    from qsweep.spec.schema import spec_schema

    emit(json.dumps(spec_schema(), indent=2, ensure_ascii=False))
    return 0


@click.group(cls=Commands)
def store() -> None:
    """Check the store, or delete records and weights."""


@store.command("check")
@results_option
def store_check(results: Path) -> int:
    """Check every record, set damaged ones aside and list conflicts.

    A conflict is two records that differ although their trial and environment are the same.
    """
    from contextlib import closing

    from qsweep.cli import report
    from qsweep.cli.progress import Display
    from qsweep.results.store import Store
    from qsweep.runner import lock

    path = results / "store.db"
    Store.view(path).close()  # fails if there is no store, before the lock makes a file
    with lock.hold(results, "store check", Display().note, wait=True), closing(Store.open(path)) as opened:
        found = opened.check()
    click.echo(f"{found.sound} records are sound")
    for key in found.damaged:
        click.echo(f"{key[:10]}: damaged, set aside; the next run retrains it")
    for key in found.conflicts:
        click.echo(report.conflict(key))
    return 1 if found.damaged or found.conflicts else 0


@store.command("prune")
@click.option("--yes", is_flag=True, help="Delete; without this option, only print what would be deleted.")
@results_option
def store_prune(yes: bool, results: Path) -> int:
    """Delete weights that no sweep needs any more.

    Only the sweeps in the results folder count. Records are kept.
    """
    from qsweep.cli.progress import Display
    from qsweep.results.prune import prune
    from qsweep.runner import lock

    with lock.hold(results, "store prune", Display().note, wait=True):
        deleted, size = prune(results, delete=yes)
    what = f"{size:,} bytes, the weights of {deleted} trials that belong to no sweep"
    click.echo(f"deleted {what}" if yes else f"would delete {what}" + ("; add --yes to delete" if deleted else ""))
    return 0


@store.command("forget")
@click.argument("keys", nargs=-1, metavar="[KEY…]")
@click.option("--sweep", "name", metavar="NAME", help="Forget all trials of the sweep with this folder name.")
@click.option("--yes", is_flag=True, help="Delete; without this option, only print what would be deleted.")
@results_option
def store_forget(keys: tuple[str, ...], name: str | None, yes: bool, results: Path) -> int:
    """Delete the records and weights of trials.

    KEY is a trial's key in the table, or its first characters. The next run retrains these trials.
    """
    from qsweep.cli.progress import Display
    from qsweep.results.forget import forget
    from qsweep.runner import lock

    if not keys and name is None:
        raise UserError("name the trials: `qsweep store forget KEY…`, or `qsweep store forget --sweep NAME`")
    with lock.hold(results, "store forget", Display().note, wait=True):
        found = forget(results, keys, name, delete=yes)
    what = f"{found.records} records of {found.trials} trials, and {found.bytes:,} bytes of weights"
    click.echo(f"deleted {what}" if yes else f"would delete {what}; add --yes to delete")
    for other, count in found.shared.items():
        click.echo(f"{count} of the trials {'were' if yes else 'are'} also in {other}")
    return 0
