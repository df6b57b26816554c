"""Inspects the nets of a plan before training: each is built once, in a separate process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from qsweep.errors import Problem, SpecError, unknown
from qsweep.results.records import Record
from qsweep.spec.checks import weight_places
from qsweep.spec.file import Spec
from qsweep.spec.plan import Plan
from qsweep.spec.plots import PLACE
from qsweep.spec.reader import OVERRIDE
from qsweep.training.failures import with_file
from qsweep.training.inspection import Inspection, inspect_net
from qsweep.trial.cost import ends_in_convolution
from qsweep.trial.idle import asked, idle
from qsweep.trial.key import Trial, canonical
from qsweep.trial.measures import NOT_ROUNDED
from qsweep.trial.parameters import LAYERS, STAGES
from qsweep.trial.roles import FLOWS

LIMIT_SECONDS = 120.0
"""Time limit for building a net and running it once."""


@dataclass(frozen=True)
class Nets:
    """The results of inspections, by net and by what is rounded where."""

    found: Mapping[str, Inspection] = field(default_factory=dict)

    def of(self, trial: Trial) -> Inspection | None:
        """The inspection of a trial's net; None if it was not inspected, because the catalog has the answers."""
        return self.found.get(_case_of(trial)) if self.found else None

    def stack(self, trial: Trial) -> bool:
        """Whether a trial's net trains in stacks; False if that is not known yet."""
        known = trial.view.architecture
        own = self.of(trial)
        return known.stacks if known is not None else own is not None and own.stacks

    def failing(self, trial: Trial) -> bool:
        """Whether a trial's net can't be built."""
        own = self.of(trial)
        return own is not None and own.failure is not None


def is_open(trial: Trial) -> bool:
    """Whether a net is a user's own or a library's, so that it must be built to know its properties."""
    return trial.view.architecture is None


def rounds_flows(trial: Trial) -> bool:
    """Whether a trial rounds activations or errors."""
    return bool({*FLOWS} & {*trial.view.quantized_roles})


def may_leave_parts_out(trial: Trial) -> bool:
    """Whether a trial may ask to round parts of its net that nothing rounds."""
    if is_open(trial):
        return bool(trial.view.quantized_roles or trial.view.stages)
    return rounds_flows(trial) and ends_in_convolution(trial.view)


def not_rounded(trials: Iterable[Trial], nets: Nets, records: Mapping[str, Record]) -> dict[str, tuple[str, ...]]:
    """The parts that trials ask to round but nothing rounds, by model, from their nets or their records."""
    found: dict[str, dict[str, None]] = {}
    for trial in trials:
        own, record = nets.of(trial), records.get(trial.key)
        lacking = own.not_rounded if own is not None else record.result.get(NOT_ROUNDED, ()) if record else ()
        found.setdefault(str(trial.columns["model"]), {}).update(dict.fromkeys(lacking))
    return {model: tuple(lacking) for model, lacking in found.items() if lacking}


def check_places(plan: Plan, nets: Nets) -> None:
    """Refuse a histogram of a place that no open model has, if all of them are known.

    Raises:
        SpecError: with each such plot.
    """
    counted = [trial for trial in plan.configurations if trial.view.histogram]
    opened = [nets.of(trial) for trial in counted if is_open(trial)]
    known = [own.parameters for own in opened if own is not None and own.parameters]
    if not opened or len(known) < len(opened):
        return
    there = {name for names in known for name in names}
    there |= {name for trial in counted if not is_open(trial) for name in weight_places(trial.view)}
    plots = [(index, plot[PLACE]) for index, plot in enumerate(plan.spec.plots) if PLACE in plot]
    if wrong := [(index, name) for index, name in plots if name not in there]:
        document, names = plan.spec.document, sorted(there)
        raise SpecError([document.problem(("plots", i, PLACE), unknown("place", name, names)) for i, name in wrong])


def idle_roles(trials: Iterable[Trial], nets: Nets) -> dict[str, tuple[str, ...]]:
    """Roles that have no effect, and parts that no stage finds, in any trial that asks for them; by model.

    `momentum` is looked at by optimizer: one that keeps nothing stands as `mlp with sgd`.
    """
    effects: dict[tuple[str, str], set[bool]] = {}
    for trial in trials:
        own = nets.of(trial)
        if is_open(trial) and (own is None or not own.places):
            continue  # not known
        model = str(trial.columns["model"])
        by_optimizer = f"{model} with {trial.columns['optimizer']}"
        roles = [(by_optimizer if what == "momentum" else model, what) for what in asked(trial.view)]
        if all(True in effects.get(role, ()) for role in roles):
            continue  # all of them have an effect in some trial: most trials of a grid have the same roles
        lacking = {*idle(trial.view), *(own.idle if own is not None else ())}
        for by, what in roles:
            effects.setdefault((by, what), set()).add(what not in lacking)
    found: dict[str, list[str]] = {}
    for (by, what), seen in effects.items():
        if seen == {False}:
            found.setdefault(by, []).append(what)
    return {by: tuple(own) for by, own in found.items()}


def to_inspect(wanted: Iterable[Trial]) -> list[Trial]:
    """The trials whose nets must be built to know whether and how they can run."""
    asks = [(trial, trial.view.names_places or trial.view.names_axis) for trial in wanted]
    return [trial for trial, of_places in asks if of_places or is_open(trial) or may_leave_parts_out(trial)]


def inspect(trials: Iterable[Trial], spec: Spec, say: Callable[[str], None], limit: float = LIMIT_SECONDS) -> Nets:
    """Inspect the nets of trials. A user's own net that can't be built raises no error: its trials fail with a reason.

    Args:
        limit: wall seconds per net.

    Raises:
        SpecError: a library does not have a net, or not for such images, or a trial names a place that its net lacks,
            or an axis that its values lack.
    """
    nets: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        nets.setdefault(_net_of(trial), {}).setdefault(_case_of(trial), trial)
    found: dict[str, Inspection] = {}
    for cases in nets.values():
        settings = [trial.view for trial in cases.values()]
        seen = inspect_net(settings, spec.texts, limit)
        found |= {case: _named(trial, own) for (case, trial), own in zip(cases.items(), seen, strict=True)}
        _check([(trial, found[case]) for case, trial in cases.items()], spec, say, limit)
    return Nets(found)


def _named(trial: Trial, own: Inspection) -> Inspection:
    """An inspection whose failure names the trial's file."""
    return own if own.failure is None else replace(own, failure=with_file(own.failure, file_of(trial)))


def file_of(trial: Trial) -> str:
    """The user's file that a trial's net comes from, as the spec names it; never the folders of a full path."""
    file = PurePath(str(trial.columns["model"]).rpartition(":")[0])
    return file.name if file.is_absolute() else str(file)


def _check(inspected: list[tuple[Trial, Inspection]], spec: Spec, say: Callable[[str], None], limit: float) -> None:
    first, own = inspected[0]
    if own.failure is not None and not first.view.source:
        raise SpecError([_problem(spec, "model", str(own.failure["reason"]))])
    if not own.is_known:
        say(f"{first.columns['model']} was not built within {limit:g} s: problems will show only when it trains")
    if misfits := [line.partition(": ") for _, one in inspected for line in one.misfit.splitlines()]:
        raise SpecError([_problem(spec, path, message) for path, _, message in misfits])


def _problem(spec: Spec, path: str, message: str) -> Problem:
    """A mistake in a parameter, at the place in the spec, or the -S, that sets it."""
    for name in spec.overrides:
        if f"{path}.".startswith(f"{name}."):
            return spec.document.problem((OVERRIDE, name, *path.split(".")), message)
    found = spec.document.problem(spec.document.nearest(path, message), message)
    return replace(found, path=path)


def _net_of(trial: Trial) -> str:
    return canonical([trial.view.model, trial.view.data.name])


def _case_of(trial: Trial) -> str:
    """A net and all settings that decide which parts are rounded."""
    settings, view = trial.settings, trial.view
    rounded = {role: own.at for role, own in view.quantize.items() if own.rounds}
    is_grouped = view.names_axis or view.has_groups
    formats = [settings.get("quantize"), settings.get(STAGES)] if is_grouped else None
    return canonical([_net_of(trial), rounded, settings.get(LAYERS), sorted(view.compressed_parts), formats])
