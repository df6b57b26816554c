"""Roles in a net: which parameter plays which, the formats that trials give them, and the noise that rounds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from qsweep.formats import Format, make
from qsweep.models import CORE
from qsweep.rounding import Stack
from qsweep.streams import Stream


def roles_of(net: nn.Module) -> dict[str, str]:
    """The role of each parameter that has one, by name: weights and biases of dense and convolution layers."""
    return dict(_named_roles(net))


def _named_roles(net: nn.Module) -> Iterator[tuple[str, str]]:
    for place, module in net.named_modules():
        if isinstance(module, CORE):
            for role, _ in module.named_parameters(recurse=False):
                yield f"{place}.{role}" if place else role, role


def stacks_of(trials: Sequence[Mapping[str, Any]], device: str) -> dict[str, Stack]:
    """The formats and the rounding of each quantized role, one format for each trial of a stack."""
    return {role: _stack(role, trials, device) for role in trials[0].get("quantize", {})}


def _stack(role: str, trials: Sequence[Mapping[str, Any]], device: str) -> Stack:
    own = [trial["quantize"][role] for trial in trials]
    formats: list[Format] = [make(settings["format"], settings) for settings in own]
    return Stack(formats, own[0]["rounding"], device)


def contraction_axis(shape: tuple[int, ...]) -> int:
    """The axis of a weight (outputs, inputs, …) along which its product sums; a bias has but one."""
    return min(1, len(shape) - 1)


def draw_noise(
    stacks: Mapping[str, Stack],
    roles: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    stream: Stream,
    step: int,
) -> dict[str, Tensor]:
    """One draw for each parameter that is rounded stochastically: all trials of a stack share it."""
    draws = {role: stack.draws for role, stack in stacks.items()}
    return {
        name: stream.uniform(noise_shape(shapes[name], draws[role]), f"rounding {role}", name, step)
        for name, role in roles.items()
        if draws.get(role)
    }


def noise_shape(shape: tuple[int, ...], draws: int) -> tuple[int, ...]:
    """Of a parameter's noise: several draws a value stand in front."""
    return shape if draws == 1 else (draws, *shape)
