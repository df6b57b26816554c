"""The three products of a linear or convolution layer (forward, grad_input, grad_weight), each with operands rounded in
groups along the axis that it sums over. An error is a grad_output. Gradients pass straight through rounding (Bengio et
al. 2013)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from qsweep.models.layers import PaddedConvolution
from qsweep.models.shapes import Sides
from qsweep.training.gates import Gate, no_view, stacked, trials_in_front


@dataclass(frozen=True)
class Linear:
    """The products of a linear layer, for tensors of all trials: x (P, …, in), w (P, out, in), errors (P, …, out)."""

    def forward(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        y = torch.matmul(x, w.transpose(1, 2))  # (P, B, in) @ (P, in, out)
        return y if bias is None else y + bias[:, None]

    def grad_input(self, error: Tensor, w: Tensor, shape: Sequence[int]) -> Tensor:
        return torch.matmul(error, w)  # (P, B, out) @ (P, out, in)

    def grad_weight(self, error: Tensor, x: Tensor, shape: Sequence[int]) -> Tensor:
        return torch.matmul(error.transpose(1, 2), x)  # (P, out, B) @ (P, B, in)

    def grad_bias(self, error: Tensor) -> Tensor:
        return error.sum(1)


ONLY_ZEROS = "`at: operands` takes convolutions that pad a number of zeros, not padding by name"


def _each(value: int | Sequence[int], dims: int) -> list[int]:
    """One number per dimension."""
    own = [value] if isinstance(value, int) else list(value)
    return own * dims if len(own) == 1 else own


@dataclass(frozen=True)
class Convolution:
    """The products of a convolution of one trial: x (1, batch, in, …), w (1, out, in, …)."""

    stride: Any
    padding: Any
    dilation: Any
    groups: int
    sides: Sides = (0, 0, 0, 0)
    """Additional zero padding of x."""

    @classmethod
    def of(cls, place: str, layer: Any) -> Convolution:
        """The convolution of a layer.

        Raises:
            ValueError: it pads by name, or with other values than zeros.
        """
        if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
            raise ValueError(f"{place}: {ONLY_ZEROS}")
        sides = layer.sides if isinstance(layer, PaddedConvolution) else cls.sides
        return cls(layer.stride, layer.padding, layer.dilation, layer.groups, sides)

    @classmethod
    def called(cls, place: str, given: Mapping[str, Any]) -> Convolution:
        """The convolution of a call of `F.conv1d`, `F.conv2d` or `F.conv3d`.

        Raises:
            ValueError: it pads by name.
        """
        if isinstance(given.get("padding"), str):
            raise ValueError(f"{place}: {ONLY_ZEROS}")
        dims = given["weight"].dim() - 2
        stride, padding, dilation = (
            _each(given.get(name, usual), dims) for name, usual in (("stride", 1), ("padding", 0), ("dilation", 1))
        )
        return cls(stride, padding, dilation, given.get("groups", 1))

    def forward(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        b = None if bias is None else bias[0]
        dims = len(self.stride)
        zero = [0] * dims
        y = torch.convolution(
            self._padded(x[0]), w[0], b, self.stride, self.padding, self.dilation, False, zero, self.groups
        )
        return y[None]

    def grad_input(self, error: Tensor, w: Tensor, shape: Sequence[int]) -> Tensor:
        padded = self._padded(error.new_empty(1).expand(shape[1:]))
        gradient = self._back(error, padded, w[0], 0)
        return F.pad(gradient, [-zeros for zeros in self.sides]) if any(self.sides) else gradient

    def grad_weight(self, error: Tensor, x: Tensor, shape: Sequence[int]) -> Tensor:
        return self._back(error, self._padded(x[0]), error.new_empty(1).expand(shape[1:]), 1)

    def _padded(self, x: Tensor) -> Tensor:
        return F.pad(x, self.sides) if any(self.sides) else x

    def _back(self, error: Tensor, x: Tensor, w: Tensor, which: int) -> Tensor:
        zero = [0] * len(self.stride)
        mask = [which == 0, which == 1, False]
        found = torch.ops.aten.convolution_backward(
            error[0], x, w, None, self.stride, self.padding, self.dilation, False, zero, self.groups, mask
        )
        gradient: Tensor = found[which]
        return gradient[None]

    def grad_bias(self, error: Tensor) -> Tensor:
        return error.sum((1, *range(3, error.dim())))


Operation = Linear | Convolution
BATCH, FEATURES = 0, 1
OUTPUTS, INPUTS = 0, 1
"""The axes of operands (batch, features …) and weights (outputs, inputs …) along which products sum."""


class Product(torch.autograd.Function):
    """A layer's three products, each with its own rounded operands."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, bias: Tensor | None, gate: Gate, op: Operation, is_stacked: bool) -> Tensor:
        values, weights = trials_in_front(x, is_stacked), trials_in_front(w, is_stacked)
        biases = None if bias is None else trials_in_front(bias, is_stacked)
        flat = _two_axes(values, op)
        operand = gate.through("activation", flat, FEATURES, "forward")
        y = op.forward(operand, gate.through("weight", weights, INPUTS, "forward"), biases)
        shape = (*values.shape[:-1], y.shape[-1]) if isinstance(op, Linear) else tuple(y.shape)
        return no_view(y, shape if is_stacked else shape[1:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, bias, ctx.gate, ctx.op, ctx.is_stacked = inputs
        ctx.has_bias = bias is not None
        ctx.save_for_backward(x, w)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Any, ...]:
        gate, op = ctx.gate, ctx.op
        x, w, error = (trials_in_front(t, ctx.is_stacked) for t in (*ctx.saved_tensors, error))
        flat, errors = _two_axes(x, op), _two_axes(error, op)
        grad_x = grad_bias = None
        if ctx.needs_input_grad[0]:
            weights = gate.through("weight", w, OUTPUTS, "input")
            grad_x = op.grad_input(gate.through("error", errors, FEATURES, "input"), weights, flat.shape).view(x.shape)
        operand = gate.through("activation", flat, BATCH, "weight")
        grad_w = op.grad_weight(gate.through("error", errors, BATCH, "weight"), operand, w.shape)
        if ctx.has_bias:
            grad_bias = op.grad_bias(errors)
        found = (grad_x, grad_w, grad_bias)
        return *(t if t is None or ctx.is_stacked else t[0] for t in found), None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, w: Tensor, bias: Tensor | None, gate: Gate, op: Operation, is_stacked: bool
    ) -> tuple[Tensor, int]:
        own = (None if t is None else stacked(info, t, dim) for t, dim in zip((x, w, bias), in_dims[:3], strict=True))
        return Product.apply(*own, gate, op, True), 0


def _two_axes(x: Tensor, op: Operation) -> Tensor:
    """The operand of a linear layer as (P, examples, features); tokens count as examples."""
    return x.flatten(1, -2) if isinstance(op, Linear) else x
