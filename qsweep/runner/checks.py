"""Checks before training: valid specs, separate folders, nets that can be built, available data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from qsweep.data.files import data_folder, ensure
from qsweep.errors import Problem, SpecError, UserError
from qsweep.results import folder
from qsweep.runner.inspection import check_places, inspect, to_inspect
from qsweep.runner.outlook import Options, data_of, folder_name, plan_of, refuse_if_strict, to_run
from qsweep.spec.find import packaged
from qsweep.spec.plan import Plan
from qsweep.trial.key import Trial


def read_all(paths: Sequence[Path], options: Options) -> list[Plan]:
    """Read the plans of several specs.

    Raises:
        SpecError: specs are wrong; it lists the mistakes of all of them.
        UserError: two specs would write the same folder, or a folder belongs to another spec.
    """
    plans: list[Plan] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            plans.append(plan_of(path, options))
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)
    _check_folders(paths, plans, options)
    return plans


def check_needs(plans: Sequence[Plan], options: Options, say: Callable[[str], None]) -> None:
    """Build the nets of several plans and get their data, so that none of them runs unless all can.

    Raises:
        UserError: a library does not have a net, a trial names a place that its net lacks, a strict run has parts
            that nothing rounds, or a data set is not available.
    """
    for plan in plans:
        trials = to_run(plan, options)
        nets = inspect(to_inspect(trials), plan.spec, say)
        check_places(plan, nets)
        refuse_if_strict(plan, nets, {}, options)
        get_data(plan, trials, say)


def get_data(plan: Plan, trials: Sequence[Trial], say: Callable[[str], None]) -> None:
    """Download the missing data sets that trials of a plan need, and store the user's own.

    Raises:
        UserError: one of them is not available.
    """
    own = {data.name: data.decode for data in plan.spec.data.values()}
    for dataset in data_of(plan, trials):
        ensure(dataset, data_folder(), say, own.get(dataset.name))


def _check_folders(paths: Sequence[Path], plans: Sequence[Plan], options: Options) -> None:
    seen: dict[str, Path] = {}
    for path, plan in zip(paths, plans, strict=True):
        name = folder_name(plan, options)
        if (other := seen.setdefault(name, path)) != path:
            raise UserError(f"{other} and {path} would both write {options.results / name}: rename one of them")
        folder.claim(options.results / name, owner_of(path, options.results / name), plan)


def owner_of(path: Path, target: Path) -> str:
    """The name with which a spec file claims the folder of a sweep."""
    return folder.owner_of(target, path, packaged("configs"), target.parent.parent)
