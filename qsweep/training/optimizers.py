"""Optimizers: from gradients to the updates that are subtracted, for rows of weights with settings of their own.

Written in + − × ÷ alone, square roots in float64: eager float32 `sqrt` is not correctly rounded everywhere, and fused
forms (`add(alpha=)`, lerp, addcmul) round once where these round twice. So the bits of a row depend on that row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

State = Mapping[str, Tensor]
"""An optimizer's memory by name, each like the weights; it starts at 0 and is changed in place."""


class Settings:
    """The optimizer settings of P trials as columns (P, 1), so that they broadcast against rows of weights."""

    def __init__(self, optimizers: Sequence[Mapping[str, Any]], device: str = "cpu") -> None:
        self._optimizers = list(optimizers)
        self._device = device
        self._columns: dict[str, Tensor] = {}

    def column(self, name: str, of: Callable[[Mapping[str, Any]], float]) -> Tensor:
        """A number of each trial; computed once, in float64, under this name."""
        if name not in self._columns:
            values = [of(settings) for settings in self._optimizers]
            self._columns[name] = torch.tensor(values, dtype=torch.float32, device=self._device)[:, None]
        return self._columns[name]

    def uses(self, name: str) -> bool:
        """Whether this setting is not 0: the same for all trials of a stack."""
        return bool(self._optimizers[0][name])


@dataclass(frozen=True)
class Rows:
    """A block of weights to update: rows of a stack and their settings, at a step counted from 1."""

    weight: Tensor
    gradient: Tensor
    state: State
    settings: Settings
    rows: slice
    step: int

    def setting(self, name: str) -> Tensor:
        """A setting of these rows, by its name in the spec."""
        return self.column(name, lambda s: s[name])

    def column(self, name: str, of: Callable[[Mapping[str, Any]], float]) -> Tensor:
        """A number computed from the settings of these rows."""
        return self.settings.column(name, of)[self.rows]


def sgd(b: Rows) -> Tensor:
    """Gradient descent; momentum as PyTorch has it: v = μ·v + g, without dampening."""
    direction = _decayed_gradient(b)
    if b.settings.uses("momentum"):
        direction = b.state["momentum"].mul_(b.setting("momentum")).add_(direction)
    return direction * b.setting("lr")


def rmsprop(b: Rows) -> Tensor:
    """RMSprop (Tieleman & Hinton 2012): s = α·s + (1 - α)·g², the direction is g / (√s + ε)."""
    gradient = _decayed_gradient(b)
    kept, new = b.setting("alpha"), b.column("1 - alpha", lambda s: 1 - s["alpha"])
    square = b.state["square"].mul_(kept).add_((gradient * gradient).mul_(new))
    return gradient / _sqrt(square).add_(b.setting("eps")) * b.setting("lr")


def adam(b: Rows) -> Tensor:
    """Adam (Kingma & Ba 2015) with bias correction; weight decay is added to the gradient."""
    gradient = _decayed_gradient(b)
    mean = _corrected(b, "mean", gradient, 0)
    square = _corrected(b, "square", gradient * gradient, 1)
    return mean.div_(_sqrt(square).add_(b.setting("eps"))).mul_(b.setting("lr"))


UPDATES: dict[str, Callable[[Rows], Tensor]] = {"sgd": sgd, "rmsprop": rmsprop, "adam": adam}
MEMORY: dict[str, tuple[str, ...]] = {"sgd": ("momentum",), "rmsprop": ("square",), "adam": ("mean", "square")}
"""What each optimizer remembers."""


def remembers(optimizer: Mapping[str, Any]) -> tuple[str, ...]:
    """What an optimizer with these settings remembers: nothing without momentum."""
    return tuple(name for name in MEMORY[optimizer["name"]] if optimizer.get(name, 1))


def _decayed_gradient(b: Rows) -> Tensor:
    return b.gradient + b.weight * b.setting("weight_decay") if b.settings.uses("weight_decay") else b.gradient


def _corrected(b: Rows, name: str, value: Tensor, which: int) -> Tensor:
    """A running average, divided by the share of it that is not the initial 0."""
    kept = b.column(f"beta {which}", lambda s: s["betas"][which])
    new = b.column(f"1 - beta {which}", lambda s: 1 - s["betas"][which])
    average = b.state[name].mul_(kept).add_(value * new)
    return average / b.column(f"correction {which} {b.step}", lambda s: 1 - _power(s["betas"][which], b.step))


def _sqrt(x: Tensor) -> Tensor:
    return x.double().sqrt_().float()


def _power(base: float, exponent: int) -> float:
    """base^exponent by repeated squaring: `pow` of the C library is not the same everywhere."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
