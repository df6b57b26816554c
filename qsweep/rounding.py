"""Rounding tensors to formats. Pure functions of (values, format, rounding, random bits): no state, no generator.

Only + − × ÷ floor round min max and comparisons are used: these give the same bits eager, compiled, in a stack and
alone. Comparisons give 0.0 or 1.0 rather than booleans: eager kernels read booleans ten times slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qsweep.formats import Float32, Format, Range


@dataclass(frozen=True)
class Ranges:
    """`Range` formats as tensors that broadcast against values: (1,) for one format, (P, 1) for a stack of P rows.

    Tensors also because CUDA divides by a Python number as a product with its reciprocal, which gives other bits.
    """

    formats: tuple[Range, ...]
    steps_per_unit: Tensor
    lowest: Tensor
    highest: Tensor
    zeroless: Tensor
    """1 where 0 is no level, else 0."""

    def rows(self, rows: slice) -> Ranges:
        """The formats of some rows."""
        columns = (c[rows] for c in (self.steps_per_unit, self.lowest, self.highest, self.zeroless))
        return Ranges(self.formats[rows], *columns)

    @property
    def any_zeroless(self) -> bool:
        """Whether some row has no level at 0."""
        return not all(fmt.zero for fmt in self.formats)

    @property
    def all_fixed_points(self) -> bool:
        """Whether all levels of all rows come back from x = w·S as integers."""
        return all(fmt.levels_are_fixed_points for fmt in self.formats)


def stacked(formats: Sequence[Range], device: str = "cpu") -> Ranges:
    """P formats for values of the shape (P, n), each row in its own."""

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

    return Ranges(
        tuple(formats),
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
    row = noise.reshape(1, -1) if noise is not None and rounding == "stochastic" else None
    return quantize_range(x.reshape(1, -1), stacked([fmt], str(x.device)), row).view(x.shape)


def quantize_range(w: Tensor, fmt: Ranges, noise: Tensor | None, out: Tensor | None = None) -> Tensor:
    """The law of qsweep.formats.Range for rows of values: nearest without noise, stochastic with it. 0 is always +0."""
    x = w * fmt.steps_per_unit
    r = x.round().add_(0.0) if noise is None else _round_stochastic(x, noise)
    if noise is not None and not fmt.all_fixed_points:
        r = _keep_levels(r, w, x, fmt)
    if fmt.any_zeroless:
        r += torch.sign(w).mul_(torch.eq(r, 0, out=x)).mul_(fmt.zeroless)
    return torch.div(_clipped(r, fmt), fmt.steps_per_unit, out=out)


def _clipped(r: Tensor, fmt: Ranges) -> Tensor:
    """Within the levels, in place; NaN stays. `clamp` is fastest with numbers, and ten times slower with tensors."""
    if len(fmt.formats) == 1:
        return r.clamp_(fmt.formats[0].lowest, fmt.formats[0].highest)
    return torch.minimum(torch.maximum(r, fmt.lowest, out=r), fmt.highest, out=r)


def _round_stochastic(x: Tensor, noise: Tensor) -> Tensor:
    """floor(x) + (u < x - floor(x)): an integer never moves, as it would under floor(x + u)."""
    lower = x.floor()
    above = x - lower
    return lower.add_(torch.lt(noise, above, out=above))


def _keep_levels(r: Tensor, w: Tensor, x: Tensor, fmt: Ranges) -> Tensor:
    """Undo a move of values that are levels already, where x = w·S can miss their integer by an ulp."""
    nearest = x.round().add_(0.0)
    return torch.where(nearest / fmt.steps_per_unit == w, nearest, r)
