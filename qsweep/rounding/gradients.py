"""The straight-through estimator: rounded values ahead, gradients that take no notice of it on the way back.

Source: Bengio, Léonard & Courville, Estimating or Propagating Gradients Through Stochastic Neurons (2013).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class StraightThrough(torch.autograd.Function):
    """Gives `result` in place of x; the gradient of x is that of the result, times a factor where there is one."""

    @staticmethod
    def forward(x: Tensor, result: Tensor, factor: Tensor | None) -> Tensor:
        """Ahead: the rounded values."""
        return result.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        """Keep the factor for the way back."""
        ctx.factor = inputs[2]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Back: the gradient of the rounded values."""
        gradient = gradients[0]
        return gradient if ctx.factor is None else gradient * ctx.factor, None, None
