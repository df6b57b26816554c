"""Roles in a net: which parameter plays which, the formats that trials give them, and the noise that rounds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from qsweep.formats import Range, make
from qsweep.models import CORE
from qsweep.streams import Stream


def roles_of(net: nn.Module) -> dict[str, str]:
    """The role of each parameter that has one, by name: weights and biases of dense and convolution layers."""
    return dict(_named_roles(net))


def _named_roles(net: nn.Module) -> Iterator[tuple[str, str]]:
    for place, module in net.named_modules():
        if isinstance(module, CORE):
            for role, _ in module.named_parameters(recurse=False):
                yield f"{place}.{role}" if place else role, role


def formats_of(trials: Sequence[Mapping[str, Any]]) -> dict[str, list[Range]]:
    """The formats of each quantized role, one for each trial of a stack."""
    return {role: [_format(trial, role) for trial in trials] for role in trials[0].get("quantize", {})}


def _format(trial: Mapping[str, Any], role: str) -> Range:
    own = trial["quantize"][role]
    fmt = make(own["format"], own)
    assert isinstance(fmt, Range), own  # noqa: S101  # float32 roles are left out when a trial is resolved
    return fmt


def draw_noise(
    trial: Mapping[str, Any],
    roles: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    stream: Stream,
    step: int,
) -> dict[str, Tensor]:
    """One draw for each parameter that is rounded stochastically: all trials of a stack share it."""
    modes = {role: own["rounding"] for role, own in trial.get("quantize", {}).items()}
    return {
        name: stream.uniform(shapes[name], f"rounding {role}", name, step)
        for name, role in roles.items()
        if modes.get(role) == "stochastic"
    }
