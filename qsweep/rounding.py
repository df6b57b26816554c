"""Rounding tensors to formats. Pure functions of (values, format, rounding, random bits): no state, no generator.

Only + − × ÷ floor round min max and comparisons are used: these give the same bits eager, compiled, in a stack and
alone. On a CPU the laws of qsweep.kernels run, elsewhere the same laws as tensor operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from qsweep.formats import Float32, Format, Range
from qsweep.kernels import Floats, range_nearest, range_stochastic


@dataclass(frozen=True)
class Ranges:
    """P formats of the family `range` as columns (P, 1) that broadcast against rows of values.

    Tensors also because CUDA divides by a Python number as a product with its reciprocal, which gives other bits.
    """

    steps_per_unit: Tensor
    lowest: Tensor
    highest: Tensor
    zeroless: Tensor
    """1 where 0 is no level, else 0."""

    @cached_property
    def columns(self) -> tuple[Tensor, ...]:
        """All four, in the order of the kernels' arguments."""
        return self.steps_per_unit, self.lowest, self.highest, self.zeroless

    @cached_property
    def arrays(self) -> tuple[Floats, ...]:
        """The columns as arrays (P,) for the kernels."""
        return tuple(column.numpy()[:, 0] for column in self.columns)


def stacked(formats: Sequence[Range], device: str = "cpu") -> Ranges:
    """P formats for values of the shape (P, n), each row in its own."""

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

    return Ranges(
        column([f.steps_per_unit for f in formats]),
        column([f.lowest for f in formats]),
        column([f.highest for f in formats]),
        column([not f.zero for f in formats]),
    )


def quantize(x: Tensor, fmt: Format, rounding: str = "nearest", noise: Tensor | None = None) -> Tensor:
    """The values of `x` rounded into a format.

    Args:
        x: float32, any shape.
        rounding: `nearest` (ties to even) or `stochastic` (to one of the two neighbours, unbiased).
        noise: for `stochastic` alone: uniform numbers in [0, 1), float32, of x's shape.

    Returns:
        A float32 tensor of x's shape; `x` itself if the format is float32. NaN stays NaN, ±Inf becomes the outermost
        level.
    """
    if isinstance(fmt, Float32):
        return x
    if rounding == "stochastic" and noise is None:
        raise ValueError("stochastic rounding needs noise: uniform numbers in [0, 1) of x's shape")
    drawn = noise.reshape(-1) if noise is not None and rounding == "stochastic" else None
    values = x.reshape(1, -1).clone(memory_format=torch.contiguous_format)
    quantize_range(values, stacked([fmt], str(x.device)), drawn)
    return values.view(x.shape)


def quantize_range(w: Tensor, fmt: Ranges, noise: Tensor | None, first: int = 0) -> None:
    """The law of qsweep.formats.Range, in place: nearest without noise, stochastic with it. A result of 0 is +0.

    Args:
        w: rows of values (R, n), float32, contiguous.
        noise: (n,) for all rows.
        first: the format of row 0 among those of `fmt`.
    """
    if w.device.type != "cpu":
        _quantize_eager(w, [column[first : first + len(w)] for column in fmt.columns], noise)
    elif noise is None:
        range_nearest(w.numpy(), first, *fmt.arrays)
    else:
        range_stochastic(w.numpy(), noise.numpy(), first, *fmt.arrays)


def _quantize_eager(w: Tensor, columns: Sequence[Tensor], noise: Tensor | None) -> None:
    per_unit, lowest, highest, zeroless = columns
    x = w * per_unit
    nearest = x.round().add_(0.0)
    r = nearest
    if noise is not None:
        lower = x.floor()
        up = torch.lt(noise, x - lower, out=torch.empty_like(x))
        # A level never moves, even where x = w·S misses its integer by an ulp.
        r = torch.where(nearest / per_unit == w, nearest, lower + up)
    r = r + torch.sign(w) * (r == 0) * zeroless
    torch.div(torch.minimum(torch.maximum(r, lowest), highest), per_unit, out=w)
