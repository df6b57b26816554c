"""Layers of our own: dropout whose masks are given, alone and in one pass with the ReLU that follows it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qsweep.kernels import activations as kernels
from qsweep.kernels.compiled import Floats
from qsweep.streams import Stream


class Dropout(nn.Module):
    """Dropout whose mask is given, not drawn: the same mask serves every trial of a stack, and no generator is called.

    `mask` holds 0 or 1/(1 - rate) for each activation; the step sets it before each forward pass in training.
    """

    def __init__(self, rate: float, shape: tuple[int, ...] = (), applied: bool = True) -> None:
        super().__init__()
        self.rate = rate
        self.shape = shape  # of one example; of a user's net it is learnt when the net is probed
        self.applied = applied  # here, not by a MaskedReLU
        self.mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0 or not self.applied:
            return x
        if self.mask is None:
            self.shape = tuple(x.shape[1:])
            return x
        return x * self.mask

    def draw(self, stream: Stream, place: str, batch: int, step: int) -> Tensor:
        """The mask of one step: kept where a uniform number is at least the rate."""
        uniform = stream.uniform((batch, *self.shape), "dropout", place, step)
        return torch.ge(uniform, self.rate, out=uniform).div_(1 - self.rate)


class MaskedReLU(nn.Module):
    """relu(mask · x), which is mask · relu(x), with the mask of a Dropout that leaves it to this layer. In place.

    Of a step, masks and ReLUs one by one take 5 % for reading and writing the same activations again.
    """

    def __init__(self, dropout: Dropout) -> None:
        super().__init__()
        self._dropout = (dropout,)  # in a tuple: it is a module of the net, but no part of this one

    def forward(self, x: Tensor) -> Tensor:
        mask = self._dropout[0].mask
        if not self.training or mask is None:
            return torch.relu_(x)
        masked: Tensor = _MaskedReLU.apply(x, mask)
        return masked


class _MaskedReLU(torch.autograd.Function):
    """Both passes in place: what flows in either way comes from a layer that keeps no other use for it."""

    @staticmethod
    def forward(x: Tensor, mask: Tensor) -> Tensor:
        if (rows := _rows(x, mask)) is not None:
            kernels.masked_relu(rows, _array(mask))
            return x
        return x.mul_(mask).relu_()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.mark_dirty(inputs[0])
        ctx.save_for_backward(output, inputs[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, None]:
        output, mask = ctx.saved_tensors
        error = error.contiguous()
        if (rows := _rows(error, mask)) is not None and (outputs := _rows(output, mask)) is not None:
            kernels.masked_relu_back(rows, outputs, _array(mask))
            return error, None
        return torch.where(output <= 0, 0.0, error * mask), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, mask: Tensor) -> tuple[Tensor, int | None]:
        # As it is: of a view, which even movedim(0, 0) gives, autograd would copy the whole that is written to.
        dim = in_dims[0]
        return _MaskedReLU.apply(x.movedim(dim, 0) if dim else x, mask), None if dim is None else 0


def _rows(x: Tensor, mask: Tensor) -> Floats | None:
    """Activations of P trials as the kernels take them, (P, values of the mask); None where there is no kernel."""
    if x.device.type != "cpu" or not x.is_contiguous():
        return None
    rows: Floats = x.detach().view(-1, mask.numel()).numpy()
    return rows


def _array(mask: Tensor) -> Floats:
    values: Floats = mask.view(-1).numpy()
    return values
