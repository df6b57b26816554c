"""Steps of optimizers: rows of weights with settings of their own, moved by their gradients.

The formulas stand in qsweep.kernels.optimizers. On a CPU they run compiled, on other devices by tensor operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qsweep.kernels.optimizers import FORMULAS, Hyperparameters, kernel_of
from qsweep.trial.optimizers import OPTIMIZERS

State = Mapping[str, Tensor]
"""An optimizer's memory by name, each like the weights; it starts at 0 and is changed in place."""

KERNELS = {name: kernel_of(FORMULAS[name]) for name in OPTIMIZERS}
"""Each optimizer's kernel. So an optimizer without a formula is found when this module is imported, before any run."""


class Settings:
    """The settings of P trials with one kind of optimizer, for one step."""

    def __init__(self, optimizers: Sequence[Mapping[str, Any]], device: str = "cpu") -> None:
        self.name = optimizers[0]["name"]
        self._optimizers = list(optimizers)
        self._device = device
        self.lr = self._column("lr")
        """(P, 1), to broadcast against rows of weights."""
        self.decay = self._column("weight_decay")
        """The same of weight decay."""
        self.l1 = self._column("l1") if any(optimizer.get("l1") for optimizer in optimizers) else None
        """The same of the L1 penalty, where there is one."""
        self._numbers: list[tuple[float, ...]] = []
        self.start(1)

    def start(self, step: int) -> None:
        """Set what depends on the step, counted from 1."""
        numbers = [FORMULAS[self.name].numbers(optimizer, step) for optimizer in self._optimizers]
        if numbers == self._numbers:
            return
        self._numbers = numbers
        with np.errstate(over="ignore"):  # what is beyond float32 is Inf
            table = np.array(numbers, dtype=np.float32).T.copy()  # a tensor of a list takes five times as long
        self.numbers = torch.from_numpy(table)[:, :, None].to(self._device)
        """What the formula computes with, (N, P, 1): columns like the others."""
        if self._device == "cpu":
            self.arrays = Hyperparameters(self.lr.numpy()[:, 0], self.decay.numpy()[:, 0], tuple(table))
            """Learning rate, weight decay and these numbers for the kernels."""

    def _column(self, name: str) -> Tensor:
        values = [optimizer.get(name, 0.0) for optimizer in self._optimizers]
        return torch.tensor(values, dtype=torch.float32, device=self._device)[:, None]


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
    if rows.weight.device.type != "cpu":
        update_eager(rows, settings, subtract)
        return
    _add_signs(rows, settings)
    memory = tuple(remembered.numpy() for remembered in rows.state.values())
    weight, gradient = rows.weight.numpy(), rows.gradient.numpy()
    KERNELS[settings.name](weight, gradient, memory, rows.first, settings.arrays, subtract)


def update_eager(rows: Rows, settings: Settings, subtract: bool = True) -> None:
    """The same step by tensor operations, on any device."""
    _add_signs(rows, settings)
    part = slice(rows.first, rows.first + len(rows.weight))
    decay = settings.decay[part]
    # Decay of 0 is left out, not added: -0.0 + 0.0 is +0.0, and 0 · Inf is NaN.
    gradient = torch.where(decay != 0, rows.gradient + rows.weight * decay, rows.gradient)
    memory, numbers = tuple(rows.state.values()), tuple(settings.numbers[:, part])
    direction, kept = FORMULAS[settings.name].direction(gradient, memory, numbers)
    for remembered, value in zip(rows.state.values(), kept, strict=True):
        remembered.copy_(value)
    change = direction * settings.lr[part]
    if subtract:
        rows.weight.sub_(change)
    else:
        rows.gradient.copy_(change)


def _add_signs(rows: Rows, settings: Settings) -> None:
    """The gradient of l1 · Σ|w|, 0 where w is 0, goes into the gradient; where l1 is 0, not a bit of it changes."""
    if settings.l1 is None:
        return
    l1 = settings.l1[rows.first : rows.first + len(rows.weight)]
    signs = ((rows.weight > 0).float() - (rows.weight < 0).float()) * l1
    rows.gradient.copy_(torch.where(l1 != 0, rows.gradient + signs, rows.gradient))
