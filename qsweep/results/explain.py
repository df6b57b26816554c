"""Explains in words why a trial learned or did not, from its diagnostic metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qsweep.formats import BITWIDTH, FRACTION, Float, Format, name_of
from qsweep.formats.declared import PER
from qsweep.formats.floats import WIDEST
from qsweep.trial.cost import count_of
from qsweep.trial.measures import CLASSES
from qsweep.trial.reach import ACCURACIES
from qsweep.trial.roles import PLURALS, ROLES
from qsweep.trial.settings import Quantization, Settings

MANY, SOME, FEW = 0.5, 0.05, 0.5
"""The fraction from which stalled updates and zeros are reported, that of clipped values, and that of levels below
which few are used."""
GUESSING = 1.5
"""A net whose accuracy is below this multiple of chance does no better than guessing."""


def reasons(trial: Settings, measures: Mapping[str, Any], diverged: bool = False) -> list[str]:
    """Sentences about what is remarkable in a trial.

    Args:
        measures: the metrics of its last complete epoch, by the names of the table's columns.
        diverged: whether it diverged after that epoch.
    """
    found = [sentence for role in ROLES for sentence in _of_role(role, trial, measures)]
    overflows = list(_overflows(trial)) if diverged else []
    return [*overflows, *found, *_of_classes(trial, measures)]


def _overflows(trial: Settings) -> Iterator[str]:
    """Sentences about the formats in which large values become Inf or NaN. No metric shows such an overflow: the first
    one makes the trial diverge, and the metrics of that epoch are not kept."""
    roles: dict[Float, list[str]] = {}
    for role in ROLES:
        own = _quantization_of(role, trial)
        fmt = own.format if own else None
        if isinstance(fmt, Float) and fmt.exponent < WIDEST and not math.isfinite(fmt.elements.beyond):
            roles.setdefault(fmt, []).append(PLURALS[role])
    for fmt, things in roles.items():
        beyond = "NaN" if math.isnan(fmt.elements.beyond) else "Inf"
        yield (
            f"Values beyond ±{fmt.elements.largest:g} become {beyond} in {name_of(fmt)}, the format of its"
            f" {_listed(things)}, which may be why it diverged: with `saturate: true` they become the largest value."
        )


def _listed(things: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(things[:-1]), things[-1]]))


def _of_role(role: str, trial: Settings, measures: Mapping[str, Any]) -> Iterator[str]:
    own = _quantization_of(role, trial)
    if own is None:
        return
    fmt = own.format
    own_measures = {part: measures.get(f"{role}_{part}") for part in ("stalled", "clipped", "zero", "levels")}
    things, stays = PLURALS[role], role in trial.kept_roles
    if (stalled := own_measures["stalled"]) is not None and stalled >= MANY and not _adds_up_elsewhere(role, trial):
        at_ends = (own_measures["clipped"] or 0) >= stalled / 2 and fmt.has_given_ends and not fmt.is_sign
        yield _stalled_at_ends(stalled, things, fmt) if at_ends else _stalled(stalled, role, own)
    if (clipped := own_measures["clipped"]) is not None and clipped >= SOME and not fmt.is_sign:
        where = f"out of the range of {name_of(fmt)}{' after an update' if stays else ''}"
        yield f"{_percent(clipped)} of its {things} were {where} and were clipped."
    if (zero := own_measures["zero"]) is not None and zero >= MANY:
        yield f"{_percent(zero)} of its {things} are 0." if stays else _lost(zero, role, own)
    if (used := own_measures["levels"]) is not None:
        yield from _few_values(used, role, fmt, trial)


def _few_values(used: int, role: str, fmt: Format, trial: Settings) -> Iterator[str]:
    """A sentence if a role has few distinct values, compared with its format's levels and the size of the net.

    They are counted over all tensors. If each tensor has its own scale, their values are not those of one tensor.
    """
    levels, count = _levels(fmt), count_of(role, trial)
    if levels is None or used >= FEW * min(levels, count if count is not None else levels):
        return
    if count is None and role in ("bias", "norm"):  # they are few; how few is known only from the net
        return
    if fmt.has_given_ends and not trial.names_places and fmt.code is not None:
        yield f"Its {PLURALS[role]} use {used:,} of the {levels:,} values of {name_of(fmt)}."
    else:
        yield f"Its {PLURALS[role]} have {used:,} distinct value{'s' * (used != 1)} in all."


def _levels(fmt: Format) -> int | None:
    """The number of levels that a format with a bitwidth has per tensor; None if channels or groups have scales."""
    bits: int | None = getattr(fmt, BITWIDTH.name, None)
    if bits is None or getattr(fmt, PER.name, PER.default) != PER.default:
        return None
    return fmt.code.levels if fmt.code is not None else 1 << bits


def _quantization_of(role: str, trial: Settings) -> Quantization | None:
    """The format of a role in the net, or else in the first layer that has its own format for it."""
    return next((own for name, own in trial.rounded() if name == role), None)


def _adds_up_elsewhere(role: str, trial: Settings) -> bool:
    """Whether there are master weights, which accumulate updates; their own metrics show what was lost."""
    return role != "master" and any("master" in own for own in trial.everywhere)


def _stalled_at_ends(share: float, things: str, fmt: Format) -> str:
    return (
        f"{_percent(share)} of the updates of its {things} did not change them, mostly because they would leave the"
        f" range of {name_of(fmt)}: a smaller learning rate or a wider range would let them change."
    )


def _stalled(share: float, role: str, own: Quantization) -> str:
    things, bits = PLURALS[role], getattr(own.format, BITWIDTH.name, None)
    if own.rounding.startswith("stochastic"):
        return (
            f"Stochastic rounding left {_percent(share)} of the {things} with an update unchanged, and changed the"
            f" others by at least a step of {name_of(own.format)}: right on average, noisy in each step."
        )
    masters = ["master weights (`quantize.master: float32`)"] if role != "master" else []
    if own.rounding not in ("nearest", "away"):
        remedies = _either(*masters, "stochastic rounding", "rounding to nearest")
        return (
            f"{_percent(share)} of the updates of its {things} were lost to rounding {own.rounding}: {remedies}"
            " would preserve them."
        )
    step = f"half a step of {f'its {bits}-bit {things}' if bits is not None else name_of(own.format)}"
    remedies = _either(*masters, "stochastic rounding", "a larger learning rate", "more bits")
    return (
        f"{_percent(share)} of the updates of its {things} were smaller than {step} and were lost to {own.rounding}"
        f" rounding: {remedies} would preserve them."
    )


MORE = {
    "error": "a larger `loss_scale`",
    "gradient": "a larger `loss_scale`",
    "update": "a larger learning rate",
}
"""How to make the values of a role larger."""


def _lost(share: float, role: str, own: Quantization) -> str:
    things = f"its non-zero {PLURALS[role]}"
    if own.rounding.startswith("stochastic"):
        return (
            f"Stochastic rounding rounded {_percent(share)} of {things} to 0, and the others to at least a whole step."
        )
    finer = "more fraction bits" if hasattr(own.format, FRACTION.name) else "more bits"
    remedies = _either(*([MORE[role]] if role in MORE else []), finer, "stochastic rounding")
    return f"{_percent(share)} of {things} became 0 in {name_of(own.format)}: {remedies} would keep them."


def _either(*remedies: str) -> str:
    return f"{', '.join(remedies[:-1])}{',' if len(remedies) > 2 else ''} or {remedies[-1]}"


def _of_classes(trial: Settings, measures: Mapping[str, Any]) -> Iterator[str]:
    classes = trial.data_set.classes
    predicted = measures.get(CLASSES)
    accuracy = next((measures[name] for name in ACCURACIES if measures.get(name) is not None), None)
    if predicted is not None and predicted < classes:
        yield f"It predicts {predicted} of the {classes} classes."
    if accuracy is not None and accuracy < GUESSING / classes:
        yield "It does no better than guessing."


def _percent(share: float) -> str:
    """A fraction in whole per cent, rounded to 0 or 100 only if it is exactly that."""
    whole = min(max(round(100 * share), 1), 99) if 0 < share < 1 else round(100 * share)
    return f"{whole} %"
