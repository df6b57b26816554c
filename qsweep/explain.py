"""Why a trial learned or did not, in words, from what was counted in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qsweep.datasets import DATASETS
from qsweep.formats import BITWIDTH, make, name_of, parameters_of
from qsweep.quantized import kept_roles
from qsweep.reach import ACCURACIES
from qsweep.spec import CLASSES
from qsweep.vocabulary import FLOAT32, ITERATIONS, PLURALS, ROLES

MANY, SOME, FEW = 0.5, 0.05, 0.5
"""From which share on stalled updates or zeros are worth a word; from which clipped values; and levels below which."""
GUESSING = 1.5
"""Times the accuracy of a guess, up to which a net does no better."""


def reasons(trial: Mapping[str, Any], measures: Mapping[str, Any]) -> list[str]:
    """What stands out in a trial, a sentence each.

    Args:
        trial: its settings.
        measures: of its last whole epoch, by the names of the table's columns.
    """
    found = [sentence for role in ROLES for sentence in _of_role(role, trial, measures)]
    return [*found, *_of_classes(trial, measures)]


def _of_role(role: str, trial: Mapping[str, Any], measures: Mapping[str, Any]) -> Iterator[str]:
    own = trial.get("quantize", {}).get(role)
    if own is None or own["format"] == FLOAT32:
        return
    told = {part: measures.get(f"{role}_{part}") for part in ("stalled", "clipped", "zero", "levels")}
    things, stays = PLURALS[role], role in kept_roles(trial)
    if (stalled := told["stalled"]) is not None and stalled >= MANY:
        at_ends = (told["clipped"] or 0) >= stalled / 2
        yield _stalled_at_ends(stalled, things, own) if at_ends else _stalled(stalled, things, own)
    if (clipped := told["clipped"]) is not None and clipped >= SOME:
        where = f"beyond the ends of {_name(own)}{' after an update' if stays else ''}"
        yield f"{_percent(clipped)} of its {things} lay {where} and were clipped."
    if (zero := told["zero"]) is not None and zero >= MANY:
        lost = ITERATIONS.name in trial and not stays  # there zeros are counted of what was none before
        yield (
            _lost(zero, things, own) if lost else f"{_percent(zero)} of its {things} {'are' if stays else 'became'} 0."
        )
    count = _levels(own)
    if (used := told["levels"]) is not None and count and used < FEW * count:
        yield f"Its {things} use {used:,} of the {count:,} values of {_name(own)}."


def _stalled_at_ends(share: float, things: str, own: Mapping[str, Any]) -> str:
    return (
        f"{_percent(share)} of the updates of its {things} left them where they were, mostly beyond the ends of"
        f" {_name(own)}: a smaller learning rate or a wider range would let them move."
    )


def _stalled(share: float, things: str, own: Mapping[str, Any]) -> str:
    if own["rounding"].startswith("stochastic"):
        return (
            f"Stochastic rounding left {_percent(share)} of the {things} that had an update where they were, and moved"
            f" the others by at least a step of {_name(own)}: right on average, noisy in each step."
        )
    if own["rounding"] not in ("nearest", "away"):
        return f"Rounding {own['rounding']} undid {_percent(share)} of the updates of its {things}."
    step = f"half a step of its {own['bitwidth']}-bit {things}" if "bitwidth" in own else f"half a step of {_name(own)}"
    return (
        f"{_percent(share)} of the updates of its {things} were smaller than {step}, and {own['rounding']} rounding"
        " undid them: a larger learning rate, more bits, or stochastic rounding would let them through."
    )


def _lost(share: float, things: str, own: Mapping[str, Any]) -> str:
    step = f"{'half ' if own['rounding'] in ('nearest', 'away') else ''}a step of {_name(own)}"
    if own["rounding"].startswith("stochastic"):
        return f"Stochastic rounding made 0 of {_percent(share)} of its {things}, and a whole step of the others."
    return (
        f"{_percent(share)} of its {things} were smaller than {step} and became 0: a larger learning rate, more"
        " fraction bits, or stochastic rounding would let them through."
    )


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


def _levels(own: Mapping[str, Any]) -> int | None:
    """How many values a format with a bitwidth has, where each tensor has no more than these."""
    shared = own.get("per", "tensor") == "tensor"
    return 1 << own["bitwidth"] if BITWIDTH.name in {p.name for p in parameters_of(own["format"])} and shared else None


def _percent(share: float) -> str:
    """A share as a whole number of per cent, never rounded to all or nothing."""
    whole = min(max(round(100 * share), 1), 99) if 0 < share < 1 else round(100 * share)
    return f"{whole} %"
