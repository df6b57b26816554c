"""Inspecting a net before it trains, by building it once and running it on blank examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsweep.errors import UserError
from qsweep.training import apart
from qsweep.training.apart import OutOfTimeError
from qsweep.training.failures import failure_of, outcome_of_nothing
from qsweep.training.process import check_imports, one_thread, prepare, seeded
from qsweep.trial.settings import Settings

if TYPE_CHECKING:
    from qsweep.training.places import Places


@dataclass(frozen=True)
class Inspection:
    """What is known of a trial after building its net once and running it on blank examples.

    Attributes:
        failure: status, reason and log, as in a record, if the net cannot be built or run. The rest has no meaning
            then.
        is_known: whether the net was built within the time limit.
        stacks: whether trials of this net train in stacks.
        places: the names of its places.
        parameters: the names of its parameters that have a role.
        rounding: those of them whose outputs or errors the trial rounds.
        misfit: what the trial needs and this net lacks: a place of `layers`, an axis of a format; "" for nothing.
        not_rounded: what the trial's roles name but nothing rounds.
        idle: what the trial asks to quantize but the net does not have.
        short_groups: the weights that have fewer values than a group of their format, in words.
    """

    failure: Mapping[str, Any] | None = None
    is_known: bool = True
    stacks: bool = False
    places: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    rounding: tuple[str, ...] = ()
    misfit: str = ""
    not_rounded: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    short_groups: tuple[str, ...] = ()


def inspect_net(trials: Sequence[Settings], sources: Mapping[str, str], limit: float) -> list[Inspection]:
    """Build the net that trials share once, in a separate process, and inspect it for each of them.

    Args:
        limit: wall seconds.
    """
    try:
        found: list[Inspection] = apart.call(_inspect, trials, sources, prepare=prepare, limit=limit)
    except apart.LostError as error:
        return [Inspection(failure=outcome_of_nothing("failed", f"building the net failed: {error}"))] * len(trials)
    except OutOfTimeError:
        return [Inspection(is_known=False)] * len(trials)
    return found


def _inspect(trials: Sequence[Settings], sources: Mapping[str, str]) -> list[Inspection]:
    from qsweep.models.build import build, stacks
    from qsweep.training.places import places_of

    shared = trials[0]
    data = shared.data_set
    try:
        with one_thread(), seeded(shared.seed):
            net = build(shared.model, sources, data.shape, data.classes)
            is_stacking = stacks(shared.model, net, data.shape, data.classes)
            places = places_of(net, data.shape)
            check_imports(shared)
    except Exception as error:  # any error of a user's model, and whatever torch says of shapes
        failure = failure_of("failed", error, "")
        reason = failure["reason"] if shared.source else _refusal(shared, error)
        return [Inspection(failure={**failure, "reason": reason})] * len(trials)
    return [_inspection(settings, is_stacking, places) for settings in trials]


def _inspection(settings: Settings, is_stacking: bool, places: Places) -> Inspection:
    try:
        places.layers(settings)
        places.check_axes(settings)
    except UserError as error:
        return Inspection(stacks=is_stacking, places=places.names, misfit=str(error))
    return Inspection(
        stacks=is_stacking,
        places=places.names,
        parameters=tuple(places.parameters),
        rounding=places.rounding(settings),
        not_rounded=places.not_rounded(settings),
        idle=places.idle(settings),
        short_groups=places.short_groups(settings),
    )


def _refusal(settings: Settings, error: Exception) -> str:
    """Why a net that is not a user's cannot train on a data set."""
    if isinstance(error, UserError):
        return str(error)
    data = settings.data_set
    size = "×".join(map(str, data.shape))
    cause = (str(error) or type(error).__name__).splitlines()[0]
    return f"{settings.model['name']} does not take {data.name}'s images of {size}: {cause}"
