"""Roles in a net: which parameter plays which, and how a trial quantizes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from qsweep.formats import Format, make
from qsweep.models import CORE
from qsweep.rounding import quantize
from qsweep.streams import Stream


@dataclass(frozen=True)
class Rule:
    """How one trial quantizes one role."""

    fmt: Format
    rounding: str

    def __call__(self, values: Tensor, noise: Tensor | None) -> Tensor:
        return quantize(values, self.fmt, self.rounding, noise)


def rules(settings: Mapping[str, Any]) -> dict[str, Rule]:
    """The rule of each role that a trial quantizes."""
    roles = settings.get("quantize", {})
    return {role: Rule(make(own["format"], own), own["rounding"]) for role, own in roles.items()}


def roles_of(net: nn.Module) -> dict[str, str]:
    """The role of each parameter that has one, by name: weights and biases of dense and convolution layers."""
    return dict(_named_roles(net))


def _named_roles(net: nn.Module) -> Iterator[tuple[str, str]]:
    for place, module in net.named_modules():
        if isinstance(module, CORE):
            for role, _ in module.named_parameters(recurse=False):
                yield f"{place}.{role}" if place else role, role


def draw_noise(
    roles: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    rule_of: Mapping[str, Rule],
    stream: Stream,
    step: int,
) -> dict[str, Tensor]:
    """One draw for each parameter that is rounded stochastically: all trials of a stack share it."""
    return {
        name: stream.uniform(shapes[name], f"rounding {role}", name, step)
        for name, role in roles.items()
        if role in rule_of and rule_of[role].rounding == "stochastic"
    }
