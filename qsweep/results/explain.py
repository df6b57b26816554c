"""Why a trial learned or did not, in words, from what was counted in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qsweep.data.catalog import DATASETS
from qsweep.formats import BITWIDTH, Float, Format, make, name_of
from qsweep.formats.floats import WIDEST
from qsweep.trial.cost import count_of
from qsweep.trial.measures import CLASSES
from qsweep.trial.parameters import LAYERS
from qsweep.trial.quantized import exceptions, kept_roles, rounds
from qsweep.trial.reach import ACCURACIES
from qsweep.trial.roles import PLURALS, ROLES

MANY, SOME, FEW = 0.5, 0.05, 0.5
"""From which share on stalled updates or zeros are worth a word; from which clipped values; and levels below which."""
GUESSING = 1.5
"""Times the accuracy of a guess, up to which a net does no better."""


def reasons(trial: Mapping[str, Any], measures: Mapping[str, Any], diverged: bool = False) -> list[str]:
    """What stands out in a trial, a sentence each.

    Args:
        trial: its settings.
        measures: of its last whole epoch, by the names of the table's columns.
        diverged: whether it diverged after that epoch.
    """
    found = [sentence for role in ROLES for sentence in _of_role(role, trial, measures)]
    overflows = list(_overflows(trial)) if diverged else []
    return [*overflows, *found, *_of_classes(trial, measures)]


def _overflows(trial: Mapping[str, Any]) -> Iterator[str]:
    """The formats of a trial in which large values become Inf or NaN. No count of a role shows such an overflow: the
    first one makes the trial diverge, and the counts of that epoch are not kept."""
    roles: dict[Float, list[str]] = {}
    for role in ROLES:
        own = _format_of(role, trial)
        fmt = make(own["format"], own) if own else None
        if isinstance(fmt, Float) and fmt.exponent < WIDEST and not math.isfinite(fmt.law.beyond):
            roles.setdefault(fmt, []).append(PLURALS[role])
    for fmt, things in roles.items():
        beyond = "NaN" if math.isnan(fmt.law.beyond) else "Inf"
        yield (
            f"A value beyond ±{fmt.law.largest:g} becomes {beyond} in {name_of(fmt)}, the format of its"
            f" {_listed(things)}, which may be why it diverged: `saturate: true` makes it the largest value instead."
        )


def _listed(things: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(things[:-1]), things[-1]]))


def _of_role(role: str, trial: Mapping[str, Any], measures: Mapping[str, Any]) -> Iterator[str]:
    own = _format_of(role, trial)
    if own is None:
        return
    fmt = make(own["format"], own)
    told = {part: measures.get(f"{role}_{part}") for part in ("stalled", "clipped", "zero", "levels")}
    things, stays = PLURALS[role], role in kept_roles(trial)
    if (stalled := told["stalled"]) is not None and stalled >= MANY and not _adds_up_elsewhere(role, trial):
        at_ends = (told["clipped"] or 0) >= stalled / 2 and fmt.has_given_ends and not fmt.is_sign
        yield _stalled_at_ends(stalled, things, own) if at_ends else _stalled(stalled, role, own)
    if (clipped := told["clipped"]) is not None and clipped >= SOME and not fmt.is_sign:
        where = f"beyond the ends of {_name(own)}{' after an update' if stays else ''}"
        yield f"{_percent(clipped)} of its {things} lay {where} and were clipped."
    if (zero := told["zero"]) is not None and zero >= MANY:
        yield f"{_percent(zero)} of its {things} are 0." if stays else _lost(zero, role, own)
    if (used := told["levels"]) is not None:
        yield from _few_values(used, role, own, trial)


def _few_values(used: int, role: str, own: Mapping[str, Any], trial: Mapping[str, Any]) -> Iterator[str]:
    """Whether a role has few different values: of those that its format gives a tensor, and that the net has room for.

    They are counted over all tensors. Where each of these has a scale of its own, their values are not among those of
    one tensor.
    """
    fmt = make(own["format"], own)
    given, there = _levels(fmt, own), count_of(role, trial)
    if given is None or used >= FEW * min(given, there if there is not None else given):
        return
    if there is None and role in ("bias", "norm"):  # they are few, and it takes the net to know how few
        return
    if fmt.has_given_ends and LAYERS not in trial and fmt.code is not None:
        yield f"Its {PLURALS[role]} use {used:,} of the {given:,} values of {name_of(fmt)}."
    else:
        yield f"Its {PLURALS[role]} have {used:,} different value{'s' * (used != 1)} in all."


def _levels(fmt: Format, own: Mapping[str, Any]) -> int | None:
    """How many values a format with a bitwidth gives a tensor; None where channels or groups have scales."""
    if BITWIDTH.name not in {p.name for p in fmt.parameters} or own.get("per", "tensor") != "tensor":
        return None
    return fmt.code.levels if fmt.code is not None else 1 << own["bitwidth"]


def _format_of(role: str, trial: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a role is rounded to in the net, or else at the first layer that has a format of its own for it."""
    everywhere = [trial.get("quantize", {}), *exceptions(trial.get(LAYERS))]
    return next((own[role] for own in everywhere if rounds(own, role)), None)


def _adds_up_elsewhere(role: str, trial: Mapping[str, Any]) -> bool:
    """Whether updates that change no stored value stay in master weights, whose own counts tell what was lost."""
    return role != "master" and any("master" in own for own in (trial["quantize"], *exceptions(trial.get(LAYERS))))


def _stalled_at_ends(share: float, things: str, own: Mapping[str, Any]) -> str:
    return (
        f"{_percent(share)} of the updates of its {things} left them where they were, mostly beyond the ends of"
        f" {_name(own)}: a smaller learning rate or a wider range would let them move."
    )


def _stalled(share: float, role: str, own: Mapping[str, Any]) -> str:
    things = PLURALS[role]
    if own["rounding"].startswith("stochastic"):
        return (
            f"Stochastic rounding left {_percent(share)} of the {things} that had an update where they were, and moved"
            f" the others by at least a step of {_name(own)}: right on average, noisy in each step."
        )
    masters = ["master weights (`quantize.master: float32`)"] if role != "master" else []
    if own["rounding"] not in ("nearest", "away"):
        remedies = _either(*masters, "stochastic rounding", "rounding to nearest")
        return (
            f"{_percent(share)} of the updates of its {things} were lost to rounding {own['rounding']}: {remedies}"
            " would let them through."
        )
    step = f"half a step of its {own['bitwidth']}-bit {things}" if "bitwidth" in own else f"half a step of {_name(own)}"
    remedies = _either(*masters, "stochastic rounding", "a larger learning rate", "more bits")
    return (
        f"{_percent(share)} of the updates of its {things} were smaller than {step} and were lost to {own['rounding']}"
        f" rounding: {remedies} would let them through."
    )


MORE = {
    "error": "a larger `loss_scale`",
    "gradient": "a larger `loss_scale`",
    "update": "a larger learning rate",
}
"""What makes the values of a role larger."""


def _lost(share: float, role: str, own: Mapping[str, Any]) -> str:
    things = f"those of its {PLURALS[role]} that were not 0"
    if own["rounding"].startswith("stochastic"):
        return f"Stochastic rounding made 0 of {_percent(share)} of {things}, and at least a whole step of the others."
    finer = "more fraction bits" if "fraction" in own else "more bits"
    remedies = _either(*([MORE[role]] if role in MORE else []), finer, "stochastic rounding")
    return f"{_percent(share)} of {things} became 0 in {_name(own)}: {remedies} would keep them."


def _either(*remedies: str) -> str:
    return f"{', '.join(remedies[:-1])}{',' if len(remedies) > 2 else ''} or {remedies[-1]}"


def _of_classes(trial: Mapping[str, Any], measures: Mapping[str, Any]) -> Iterator[str]:
    classes = DATASETS[trial["data"]["name"]].classes
    predicted = measures.get(CLASSES)
    accuracy = next((measures[name] for name in ACCURACIES if measures.get(name) is not None), None)
    if predicted is not None and predicted < classes:
        yield f"It predicts {predicted} of the {classes} classes."
    if accuracy is not None and accuracy < GUESSING / classes:
        yield "It does no better than guessing."


def _name(own: Mapping[str, Any]) -> str:
    return name_of(make(own["format"], own))


def _percent(share: float) -> str:
    """A share as a whole number of per cent, never rounded to all or nothing."""
    whole = min(max(round(100 * share), 1), 99) if 0 < share < 1 else round(100 * share)
    return f"{whole} %"
