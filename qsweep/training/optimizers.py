"""Steps of optimizers: rows of weights, each with its own optimizer, updated by their gradients.

The formulas are in qsweep.kernels.optimizers. On a CPU they run compiled, on other devices by tensor operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qsweep.kernels.optimizers import FORMULAS, Formula, Hyperparameters, kernel_of
from qsweep.trial.optimizers import OPTIMIZERS, Optimizer
from qsweep.trial.settings import OptimizerSettings

State = Mapping[str, Tensor]
"""An optimizer's state by name, tensors like the weights; it starts at 0 and is updated in place."""


def formula_of(optimizer: Optimizer) -> Formula:
    """The formula of a declared optimizer.

    Raises:
        LookupError: there is none, or it does not fit the declaration.
    """
    name, formula = optimizer.name, FORMULAS.get(optimizer.name)
    if formula is None:
        raise LookupError(f"optimizer '{name}' is declared, but has no formula in qsweep.kernels.optimizers.FORMULAS")
    try:
        numbers = formula.numbers({p.name: p.default for p in optimizer.parameters}, 1)
    except KeyError as error:
        raise LookupError(f"the formula of optimizer '{name}' reads {error}, which it does not declare") from None
    ones = torch.ones(1)
    _, kept = formula.direction(ones, (ones,) * len(optimizer.memory), tuple(ones * number for number in numbers))
    if len(kept) != len(optimizer.memory):
        declared = ", ".join(optimizer.memory) or "none"
        raise LookupError(f"the formula of optimizer '{name}' keeps {len(kept)} tensors, its declaration: {declared}")
    return formula


KERNELS = {optimizer.name: kernel_of(formula_of(optimizer)) for optimizer in OPTIMIZERS.values()}
"""Each optimizer's kernel. An optimizer without a matching formula is an error when this module is imported."""


class OptimizerStack:
    """The optimizers of P trials, all of one kind, for one step."""

    def __init__(self, optimizers: Sequence[OptimizerSettings], device: str = "cpu") -> None:
        self.name = optimizers[0].name
        self._optimizers = list(optimizers)
        self._device = device
        self.lr = self._column([o.lr for o in optimizers])
        """(P, 1), to broadcast against rows of weights."""
        self.decay = self._column([o.weight_decay for o in optimizers])
        """Weight decay, (P, 1)."""
        self.l1 = self._column([o.l1 for o in optimizers]) if any(o.l1 for o in optimizers) else None
        """The L1 penalty, (P, 1), if there is one."""
        self._numbers: list[tuple[float, ...]] = []
        self.start(1)

    def start(self, step: int) -> None:
        """Set what depends on the step, counted from 1."""
        numbers = [FORMULAS[self.name].numbers(optimizer.own, step) for optimizer in self._optimizers]
        if numbers == self._numbers:
            return
        self._numbers = numbers
        with np.errstate(over="ignore"):  # numbers out of range of float32 become Inf
            table = np.array(numbers, dtype=np.float32).T.copy()  # converting a list to a tensor: five times as long
        self.numbers = torch.from_numpy(table)[:, :, None].to(self._device)
        """The formula's numbers, (N, P, 1): columns like the others."""
        if self._device == "cpu":
            self.arrays = Hyperparameters(self.lr.numpy()[:, 0], self.decay.numpy()[:, 0], tuple(table))
            """Learning rate, weight decay and these numbers for the kernels."""

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device)[:, None]


@dataclass(frozen=True)
class Rows:
    """Rows (R, n) of a stack of weights, to be updated: float32, contiguous; `first` is the trial of row 0."""

    weight: Tensor
    gradient: Tensor
    state: State
    first: int = 0


def update(rows: Rows, own: OptimizerStack, subtract: bool = True) -> None:
    """Take one step with these weights, in place. All trials have the same kinds of state.

    Args:
        subtract: if False, the weights do not change, and the update replaces the gradient.
    """
    if rows.weight.device.type != "cpu":
        update_eager(rows, own, subtract)
        return
    _add_signs(rows, own)
    memory = tuple(remembered.numpy() for remembered in rows.state.values())
    weight, gradient = rows.weight.numpy(), rows.gradient.numpy()
    KERNELS[own.name](weight, gradient, memory, rows.first, own.arrays, subtract)


def update_eager(rows: Rows, own: OptimizerStack, subtract: bool = True) -> None:
    """The same step by tensor operations, on any device."""
    _add_signs(rows, own)
    part = slice(rows.first, rows.first + len(rows.weight))
    decay = own.decay[part]
    # Decay of 0 is left out, not added: -0.0 + 0.0 is +0.0, and 0 · Inf is NaN.
    gradient = torch.where(decay != 0, rows.gradient + rows.weight * decay, rows.gradient)
    memory, numbers = tuple(rows.state.values()), tuple(own.numbers[:, part])
    direction, kept = FORMULAS[own.name].direction(gradient, memory, numbers)
    for remembered, value in zip(rows.state.values(), kept, strict=True):
        remembered.copy_(value)
    change = direction * own.lr[part]
    if subtract:
        rows.weight.sub_(change)
    else:
        rows.gradient.copy_(change)


def _add_signs(rows: Rows, own: OptimizerStack) -> None:
    """Add the gradient of l1 · Σ|w|, 0 where w is 0, to the gradient; where l1 is 0, no bit of it changes."""
    if own.l1 is None:
        return
    l1 = own.l1[rows.first : rows.first + len(rows.weight)]
    signs = ((rows.weight > 0).float() - (rows.weight < 0).float()) * l1
    rows.gradient.copy_(torch.where(l1 != 0, rows.gradient + signs, rows.gradient))
