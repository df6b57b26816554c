"""Optimizers: from a gradient to the update that is subtracted, one tensor of one trial at a time.

Written in + − × ÷ alone, square roots in float64: eager float32 `sqrt` is not correctly rounded everywhere, and fused
forms (`add(alpha=)`, lerp, addcmul) round once where these round twice. So the bits depend on the trial alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]
"""An optimizer's memory for one tensor of one trial."""

Update = Callable[[Tensor, Tensor, State, Mapping[str, Any], int], Tensor]
"""(weight, gradient, state, settings, step from 1) → learning rate × direction. Changes the state in place."""


def sgd(weight: Tensor, gradient: Tensor, state: State, settings: Mapping[str, Any], step: int) -> Tensor:
    """Gradient descent; momentum as PyTorch has it: v = μ·v + g, without dampening."""
    gradient = _decayed(weight, gradient, settings)
    if settings["momentum"]:
        gradient = _remembered(state, "momentum", gradient).mul_(settings["momentum"]).add_(gradient)
    return gradient * settings["lr"]


def rmsprop(weight: Tensor, gradient: Tensor, state: State, settings: Mapping[str, Any], step: int) -> Tensor:
    """RMSprop (Tieleman & Hinton 2012): s = α·s + (1 - α)·g², the direction is g / (√s + ε)."""
    gradient = _decayed(weight, gradient, settings)
    square = _average(state, "square", gradient * gradient, settings["alpha"])
    return gradient / (_sqrt(square) + settings["eps"]) * settings["lr"]


def adam(weight: Tensor, gradient: Tensor, state: State, settings: Mapping[str, Any], step: int) -> Tensor:
    """Adam (Kingma & Ba 2015) with bias correction; weight decay is added to the gradient."""
    gradient = _decayed(weight, gradient, settings)
    first, second = settings["betas"]
    mean = _average(state, "mean", gradient, first) / (1 - _power(first, step))
    square = _average(state, "square", gradient * gradient, second) / (1 - _power(second, step))
    return mean / (_sqrt(square) + settings["eps"]) * settings["lr"]


UPDATES: dict[str, Update] = {"sgd": sgd, "rmsprop": rmsprop, "adam": adam}


def _decayed(weight: Tensor, gradient: Tensor, settings: Mapping[str, Any]) -> Tensor:
    decay = settings["weight_decay"]
    return gradient + weight * decay if decay else gradient


def _remembered(state: State, name: str, like: Tensor) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(like)
    return state[name]


def _average(state: State, name: str, value: Tensor, keep: float) -> Tensor:
    return _remembered(state, name, value).mul_(keep).add_(value * (1 - keep))


def _sqrt(x: Tensor) -> Tensor:
    return x.double().sqrt().float()


def _power(base: float, exponent: int) -> float:
    """base^exponent by repeated squaring: `pow` of the C library is not the same everywhere."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
