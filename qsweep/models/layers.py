"""Custom layers: dropout with given masks, ReLUs in place in both passes, and a max-pool that is fast on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qsweep.kernels import activations as kernels
from qsweep.kernels import pooling
from qsweep.kernels.compiled import Floats
from qsweep.kernels.streams import Stream


class Dropout(nn.Module):
    """Dropout with a given mask, which all trials of a stack share, instead of one from torch's generator.

    `mask` has 0 or 1/(1 - rate) per activation; the step sets it before each forward pass in training.
    """

    def __init__(self, rate: float, shape: tuple[int, ...] = (), applied: bool = True) -> None:
        super().__init__()
        self.rate = rate
        self.shape = shape  # of one example; for a user's net, probing sets it
        self.applied = applied  # by this layer, not by a MaskedReLU
        self.mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0 or not self.applied:
            return x
        if self.mask is None:
            self.shape = tuple(x.shape[1:])
            return x
        return x * self.mask

    def draw(self, stream: Stream, place: str, batch: int, step: int) -> Tensor:
        """The mask of one step: an activation is kept if a uniform number is at least the rate."""
        uniform = stream.uniform((batch, *self.shape), "dropout", place, step)
        return torch.ge(uniform, self.rate, out=uniform).div_(1 - self.rate)


class ReLU(nn.Module):
    """ReLU, in place in both passes, for nets whose layers form a chain, so that no error is shared."""

    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


def relu(x: Tensor) -> Tensor:
    """max(x, 0) in place; its gradient at 0 is 0."""
    if not torch.is_grad_enabled():
        return torch.relu_(x)
    result: Tensor = _ReLU.apply(x, [])
    return result


class _ReLU(torch.autograd.Function):
    """Tensors for the backward pass go into a list: a function with two outputs may not write to a view."""

    @staticmethod
    def forward(x: Tensor, kept: list[Tensor]) -> Tensor:
        kept.append(relu_(x))
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_dirty(inputs[0])
        ctx.kept = inputs[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, None]:
        return back_through_relu(error, *ctx.kept), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, kept: list[Tensor]) -> tuple[Tensor, int | None]:
        dim = in_dims[0]
        return _ReLU.apply(x.movedim(dim, 0) if dim else x, kept), None if dim is None else 0


def relu_(x: Tensor) -> Tensor:
    """max(x, 0) in place. Returns where errors pass backward: one byte per value, with the layout of `x`."""
    if x.device.type != "cpu" or not (x.is_contiguous() or is_channels_last(x)):
        passing = ~(x <= 0)  # NaN passes
        x.relu_()
        return passing
    passing = torch.empty_like(x, dtype=torch.bool)
    kernels.relu(_flat(x), _flat(passing))
    return passing


def back_through_relu(error: Tensor, passing: Tensor) -> Tensor:
    """The error of a ReLU's input, given that of its output, which nothing else uses: in place on a CPU."""
    layout = torch.channels_last if is_channels_last(passing) else torch.contiguous_format
    error = error.contiguous(memory_format=layout)
    if error.device.type != "cpu" or error.stride() != passing.stride():
        return torch.where(passing, error, 0.0)
    kernels.relu_back(_flat(error), _flat(passing))
    return error


class UngatedReLU(nn.Module):
    """max(x, 0) that passes all errors, so that negative values can become positive again."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = _UngatedReLU.apply(x)
        return result


class _UngatedReLU(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.relu(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> Tensor:
        return error


def is_channels_last(x: Tensor) -> bool:
    """Whether images (N, C, H, W) are stored as (N, H, W, C)."""
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _flat(x: Tensor) -> Any:
    """All values of a tensor without gaps, in memory order."""
    return _array(x.permute(0, 2, 3, 1) if is_channels_last(x) else x)


class PaddedConvolution(nn.Conv2d):
    """A convolution with zeros around its input, a number for each side: left, right, top and bottom."""

    def __init__(self, sides: tuple[int, int, int, int], *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.sides = sides

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.sides))


class HalvingPool(nn.MaxPool2d):
    """Max-pooling in 2×2 windows. For channels-last images on a CPU, a faster kernel computes the same bits."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Tensor) -> Tensor:
        on_cpu = x.device.type == "cpu" and is_channels_last(x)
        halved: Tensor = _HalvingPool.apply(x) if on_cpu else super().forward(x)
        return halved


class _HalvingPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        halved = torch.empty(count, height // 2, width // 2, channels)
        ctx.chosen = np.empty(halved.shape, dtype=np.uint8)
        ctx.shape = count, height, width, channels
        pooling.largest(x.detach().permute(0, 2, 3, 1).numpy(), halved.numpy(), ctx.chosen)
        return halved.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> Tensor:
        result = torch.empty(ctx.shape)
        pooling.largest_back(error.permute(0, 2, 3, 1).contiguous().numpy(), ctx.chosen, result.numpy())
        return result.permute(0, 3, 1, 2)


class MaskedReLU(nn.Module):
    """relu(mask · x), which equals mask · relu(x), with the mask of a Dropout that is not applied itself. In place.

    Applied separately, masks and ReLUs take 5 % of a step just for reading and writing the same activations again.
    """

    def __init__(self, dropout: Dropout) -> None:
        super().__init__()
        self._dropout = (dropout,)  # in a tuple, so that it is not registered as a submodule

    def forward(self, x: Tensor) -> Tensor:
        mask = self._dropout[0].mask
        if not self.training or mask is None:
            return relu(x)
        masked: Tensor = _MaskedReLU.apply(x, mask)
        return masked


class _MaskedReLU(torch.autograd.Function):
    """Both passes are in place: the neighbouring layers don't use activations and errors again."""

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
        # No view (which even movedim(0, 0) returns): autograd would copy the whole tensor that is written to.
        dim = in_dims[0]
        return _MaskedReLU.apply(x.movedim(dim, 0) if dim else x, mask), None if dim is None else 0


def _rows(x: Tensor, mask: Tensor) -> Floats | None:
    """Activations of P trials in the shape for the kernels, (P, values of the mask); None if there is no kernel."""
    if x.device.type != "cpu" or not x.is_contiguous():
        return None
    rows: Floats = x.detach().view(-1, mask.numel()).numpy()
    return rows


def _array(mask: Tensor) -> Floats:
    values: Floats = mask.detach().view(-1).numpy()
    return values
