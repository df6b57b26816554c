"""Optimizers: rows of weights with settings of their own, moved by their gradients.

Written in + − × ÷ alone, square roots in float64: eager float32 `sqrt` is not correctly rounded everywhere, and fused
forms (`add(alpha=)`, lerp, addcmul) round once where these round twice. So the bits of a row depend on that row alone.
On a CPU the same formulas run compiled, from qsweep.kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qsweep.kernels import optimizers as kernels
from qsweep.kernels.compiled import Floats

Optimizer = Mapping[str, Any]
"""The settings of one trial's optimizer, by their names in the spec."""

Columns = Mapping[str, Tensor]
State = Mapping[str, Tensor]
"""An optimizer's memory by name, each like the weights; it starts at 0 and is changed in place."""

COMMON: dict[str, Callable[[Optimizer], float]] = {"lr": lambda o: o["lr"], "decay": lambda o: o["weight_decay"]}
NUMBERS: dict[str, dict[str, Callable[[Optimizer], float]]] = {
    "sgd": {**COMMON, "momentum": lambda o: o["momentum"]},
    "rmsprop": {**COMMON, "kept": lambda o: o["alpha"], "new": lambda o: 1 - o["alpha"], "eps": lambda o: o["eps"]},
    "adam": {
        **COMMON,
        "eps": lambda o: o["eps"],
        "kept_mean": lambda o: o["betas"][0],
        "new_mean": lambda o: 1 - o["betas"][0],
        "kept_square": lambda o: o["betas"][1],
        "new_square": lambda o: 1 - o["betas"][1],
    },
}
"""The numbers that each optimizer computes with, computed in float64, under the names of the kernels' arguments."""

MEMORY: dict[str, tuple[str, ...]] = {"sgd": ("momentum",), "rmsprop": ("square",), "adam": ("mean", "square")}
"""What each optimizer remembers."""


def remembers(optimizer: Optimizer) -> tuple[str, ...]:
    """What an optimizer with these settings remembers: nothing without momentum."""
    return tuple(name for name in MEMORY[optimizer["name"]] if optimizer.get(name, 1))


class Settings:
    """The settings of P trials with one kind of optimizer, as columns (P, 1) that broadcast against rows of weights."""

    def __init__(self, optimizers: Sequence[Optimizer], device: str = "cpu") -> None:
        self.name = optimizers[0]["name"]
        self._optimizers = list(optimizers)
        self._device = device
        self.columns: dict[str, Tensor] = {}
        self.arrays: dict[str, Floats] = {}
        """The same for the kernels, (P,), on a CPU."""
        for name, of in NUMBERS[self.name].items():
            self._set(name, of)
        self.l1: Tensor | None = None
        """The share of the weights' signs in the gradients, (P, 1), where there is one."""
        if any(optimizer.get("l1") for optimizer in optimizers):
            self.l1 = torch.tensor([o.get("l1", 0.0) for o in optimizers], dtype=torch.float32, device=device)[:, None]

    def start(self, step: int) -> None:
        """Set what depends on the step, counted from 1: the share of Adam's averages that is not the initial 0."""
        if self.name == "adam":
            self._set("share_mean", lambda o: 1 - _power(o["betas"][0], step))
            self._set("share_square", lambda o: 1 - _power(o["betas"][1], step))

    def _set(self, name: str, of: Callable[[Optimizer], float]) -> None:
        values = [of(optimizer) for optimizer in self._optimizers]
        self.columns[name] = torch.tensor(values, dtype=torch.float32, device=self._device)[:, None]
        if self._device == "cpu":
            self.arrays[name] = self.columns[name].numpy()[:, 0]


@dataclass(frozen=True)
class Rows:
    """Rows (R, n) of a stack of weights, to be updated: float32, contiguous; `first` is the trial of row 0."""

    weight: Tensor
    gradient: Tensor
    state: State
    first: int = 0


def update(rows: Rows, settings: Settings, subtract: bool = True) -> None:
    """Take one step with these weights, in place. Which optimizers remember what is the same for all trials.

    Args:
        subtract: where not, the weights stay, and the update replaces the gradient.
    """
    if rows.weight.device.type == "cpu":
        _add_signs(rows, settings)
        COMPILED[settings.name](rows, settings.arrays, subtract)
    else:
        update_eager(rows, settings, subtract)


def _add_signs(rows: Rows, settings: Settings) -> None:
    """The gradient of l1 · Σ|w|, 0 where w is 0, goes into the gradient; where l1 is 0, not a bit of it changes."""
    if settings.l1 is None:
        return
    l1 = settings.l1[rows.first : rows.first + len(rows.weight)]
    signs = ((rows.weight > 0).float() - (rows.weight < 0).float()) * l1
    rows.gradient.copy_(torch.where(l1 != 0, rows.gradient + signs, rows.gradient))


def update_eager(rows: Rows, settings: Settings, subtract: bool = True) -> None:
    """The same step by tensor operations, on any device."""
    _add_signs(rows, settings)
    part = slice(rows.first, rows.first + len(rows.weight))
    columns = {name: column[part] for name, column in settings.columns.items()}
    decay = columns["decay"]
    # Decay of 0 is left out, not added: -0.0 + 0.0 is +0.0, and 0 · Inf is NaN.
    gradient = torch.where(decay != 0, rows.gradient + rows.weight * decay, rows.gradient)
    change = UPDATES[settings.name](gradient, rows.state, columns)
    if subtract:
        rows.weight.sub_(change)
    else:
        rows.gradient.copy_(change)


# --- the formulas -----------------------------------------------------------------------------------------------------


def sgd(gradient: Tensor, state: State, s: Columns) -> Tensor:
    """Gradient descent; momentum as PyTorch has it: v = μ·v + g, without dampening."""
    if "momentum" in state:
        gradient = state["momentum"].mul_(s["momentum"]).add_(gradient)
    return gradient * s["lr"]


def rmsprop(gradient: Tensor, state: State, s: Columns) -> Tensor:
    """RMSprop (Tieleman & Hinton 2012): s = α·s + (1 - α)·g², the direction is g / (√s + ε)."""
    square = state["square"].mul_(s["kept"]).add_(gradient * gradient * s["new"])
    return gradient / (_sqrt(square) + s["eps"]) * s["lr"]


def adam(gradient: Tensor, state: State, s: Columns) -> Tensor:
    """Adam (Kingma & Ba 2015) with bias correction; weight decay is added to the gradient."""
    mean = state["mean"].mul_(s["kept_mean"]).add_(gradient * s["new_mean"])
    square = state["square"].mul_(s["kept_square"]).add_(gradient * gradient * s["new_square"])
    return mean / s["share_mean"] / (_sqrt(square / s["share_square"]) + s["eps"]) * s["lr"]


UPDATES: dict[str, Callable[[Tensor, State, Columns], Tensor]] = {"sgd": sgd, "rmsprop": rmsprop, "adam": adam}
"""Each optimizer's update, to be subtracted, from the decayed gradient."""


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


# --- the same, compiled -----------------------------------------------------------------------------------------------


def _sgd_compiled(rows: Rows, numbers: dict[str, Floats], subtract: bool) -> None:
    if "momentum" in rows.state:
        _run(kernels.sgd_momentum, rows, numbers, subtract, "momentum")
    else:
        _run(kernels.sgd, rows, {name: numbers[name] for name in COMMON}, subtract)


def _run(kernel: Callable[..., None], rows: Rows, numbers: Mapping[str, Floats], subtract: bool, *memory: str) -> None:
    states = (rows.state[name].numpy() for name in memory)
    kernel(rows.weight.numpy(), rows.gradient.numpy(), *states, rows.first, subtract, **numbers)


COMPILED: dict[str, Callable[[Rows, dict[str, Floats], bool], None]] = {
    "sgd": _sgd_compiled,
    "rmsprop": lambda rows, numbers, subtract: _run(kernels.rmsprop, rows, numbers, subtract, "square"),
    "adam": lambda rows, numbers, subtract: _run(kernels.adam, rows, numbers, subtract, "mean", "square"),
}
