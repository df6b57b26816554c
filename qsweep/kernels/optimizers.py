"""The formula of each optimizer, and the kernels that take a step with it.

A formula is written once, in + − × ÷ and `sqrt`, and runs both compiled, on one float32 after the other, and on
whole tensors where no kernel runs. It never uses fused forms (torch's `add(alpha=)`, lerp, addcmul), which round once
where these operations round twice. So both compute the same bits, and the bits of a row depend on that row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.extending import overload, register_jitable

from qsweep.kernels.compiled import ZERO, Floats, compiled

Number = Any
"""One float32 in a kernel; outside, a tensor: rows (R, n), or a column (R, 1) with a number for each row."""
Numbers = tuple[Number, ...]


@dataclass(frozen=True)
class Formula:
    """How one optimizer turns gradients into directions.

    Attributes:
        direction: (gradient, memory, numbers) → (direction, memory). The gradient includes weight decay; the direction
            is multiplied by the learning rate afterwards. The memory is in the order of the optimizer's declaration, 0
            before the first step.
        numbers: (the optimizer's settings, step) → what `direction` computes with, in float64, rounded once to float32.
            Steps count from 1.
    """

    direction: Callable[[Number, Numbers, Numbers], tuple[Number, Numbers]]
    numbers: Callable[[Mapping[str, Any], int], tuple[float, ...]]


def sqrt(x: Any) -> Any:
    """The square root of a tensor, correctly rounded: eager float32 `sqrt` is not on all devices."""
    return x.double().sqrt().float()


@overload(sqrt, strict=False)  # strict: also annotations would have to agree
def _compiled_sqrt(x: Any) -> Any:
    return lambda x: np.sqrt(x)


def power(base: float, exponent: int) -> float:
    """base^exponent by repeated squaring: the C library's `pow` varies between platforms."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


# --- the formulas -----------------------------------------------------------------------------------------------------


@register_jitable
def sgd(gradient: Number, memory: Numbers, numbers: Numbers) -> tuple[Number, Numbers]:
    """Gradient descent; momentum as in PyTorch: v = μ·v + g, without dampening. Nothing is kept if μ is 0."""
    if len(memory) == 0:
        return gradient, memory
    velocity = memory[0] * numbers[0] + gradient
    return velocity, (velocity,)


def sgd_numbers(settings: Mapping[str, Any], step: int) -> tuple[float, ...]:
    """μ."""
    return (settings["momentum"],)


@register_jitable
def rmsprop(gradient: Number, memory: Numbers, numbers: Numbers) -> tuple[Number, Numbers]:
    """RMSprop (Tieleman & Hinton 2012): s = α·s + (1 - α)·g², the direction is g / (√s + ε)."""
    kept, new, eps = numbers
    square = memory[0] * kept + (gradient * gradient) * new
    return gradient / (sqrt(square) + eps), (square,)


def rmsprop_numbers(settings: Mapping[str, Any], step: int) -> tuple[float, ...]:
    """α, 1 - α, ε."""
    return settings["alpha"], 1 - settings["alpha"], settings["eps"]


@register_jitable
def adam(gradient: Number, memory: Numbers, numbers: Numbers) -> tuple[Number, Numbers]:
    """Adam (Kingma & Ba 2015) with bias correction; weight decay is added to the gradient."""
    kept_mean, new_mean, share_mean, kept_square, new_square, share_square, eps = numbers
    mean = memory[0] * kept_mean + gradient * new_mean
    square = memory[1] * kept_square + (gradient * gradient) * new_square
    return mean / share_mean / (sqrt(square / share_square) + eps), (mean, square)


def adam_numbers(settings: Mapping[str, Any], step: int) -> tuple[float, ...]:
    """β, 1 - β and 1 - β^step, the share of an average that is not its initial 0, for both averages; then ε."""
    one, two = settings["betas"]
    return one, 1 - one, 1 - power(one, step), two, 1 - two, 1 - power(two, step), settings["eps"]


FORMULAS = {
    "sgd": Formula(sgd, sgd_numbers),
    "rmsprop": Formula(rmsprop, rmsprop_numbers),
    "adam": Formula(adam, adam_numbers),
}
"""The formula of each optimizer that qsweep.trial.optimizers declares."""


# --- their kernels ----------------------------------------------------------------------------------------------------


class Hyperparameters(NamedTuple):
    """The numbers that kernels compute with, of P trials: float32 (P,).

    Attributes:
        lr, decay: learning rates and weight decay.
        numbers: those of the formula (`Formula.numbers`), an array each.
    """

    lr: Floats
    decay: Floats
    numbers: tuple[Floats, ...]


def kernel_of(formula: Formula) -> Callable[..., None]:
    """The kernel of a formula. It is compiled once for each number of tensors that the optimizer remembers."""
    direction = formula.direction

    @compiled
    def step(
        w: Floats, g: Floats, memory: tuple[Floats, ...], first: int, own: Hyperparameters, subtract: bool
    ) -> None:
        """Take a step with weights `w`, or replace the gradients with the updates.

        Args:
            w, g, memory: rows (R, n) of weights, gradients and the optimizer's memory, contiguous.
            first: the trial of row 0.
        """
        for p in range(w.shape[0]):
            lr, decay, numbers = own.lr[first + p], own.decay[first + p], _at(own.numbers, first + p)
            for i in range(w.shape[1]):
                along, kept = direction(_decayed(w[p, i], g[p, i], decay), _at(memory, (p, i)), numbers)
                _put(memory, (p, i), kept)
                if subtract:
                    w[p, i] = w[p, i] - along * lr
                else:
                    g[p, i] = along * lr

    return step  # type: ignore[no-any-return]


@njit(inline="always")
def _decayed(w: np.float32, g: np.float32, decay: np.float32) -> np.float32:
    return g + w * decay if decay != ZERO else g


# For tuples with as many arrays as an optimizer has: numba unrolls recursion over a tuple, but not a loop over one.


def _at(arrays: Any, where: Any) -> Any: ...
def _put(arrays: Any, where: Any, values: Any) -> None: ...


@overload(_at, strict=False)
def _compiled_at(arrays: Any, where: Any) -> Any:
    if len(arrays) == 0:
        return lambda arrays, where: ()
    return lambda arrays, where: (arrays[0][where], *_at(arrays[1:], where))


@overload(_put, strict=False)
def _compiled_put(arrays: Any, where: Any, values: Any) -> Any:
    if len(arrays) == 0:
        return lambda arrays, where, values: None

    def put(arrays: Any, where: Any, values: Any) -> None:
        arrays[0][where] = values[0]
        _put(arrays[1:], where, values[1:])

    return put
