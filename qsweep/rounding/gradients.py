"""The straight-through estimator: rounded values in the forward pass, gradients as if not rounded in the backward pass.

Source: Bengio, Léonard & Courville, Estimating or Propagating Gradients Through Stochastic Neurons (2013).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class StraightThrough(torch.autograd.Function):
    """Returns `result` for x; the gradient of x is that of the result, times the factor if there is one."""

    @staticmethod
    def forward(x: Tensor, result: Tensor, factor: Tensor | None) -> Tensor:
        """The rounded values."""
        return result.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        """Save the factor for the backward pass."""
        ctx.factor = inputs[2]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the rounded values, times the factor."""
        gradient = gradients[0]
        return gradient if ctx.factor is None else gradient * ctx.factor, None, None
