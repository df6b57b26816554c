"""Rounding tensors to formats. Pure functions of (values, format, rounding, random bits): no state, no generator.

Only + − × ÷ floor round min max and comparisons are used: these give the same bits eager, compiled, in a stack and
alone. Comparisons give 0.0 or 1.0 rather than booleans: eager kernels read booleans ten times slower.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qsweep.formats import Float32, Format, Range


def quantize(x: Tensor, fmt: Format, rounding: str = "nearest", noise: Tensor | None = None) -> Tensor:
    """The values of `x` rounded into a format.

    Args:
        x: float32, any shape.
        rounding: `nearest` (ties to even) or `stochastic` (to one of the two neighbours, unbiased).
        noise: for `stochastic` alone: uniform numbers in [0, 1), float32, of x's shape.

    Returns:
        A float32 tensor of x's shape; `x` itself if the format is float32. NaN stays NaN, ±Inf becomes the outermost level.
    """
    if isinstance(fmt, Float32):
        return x
    return _quantize_range(x, fmt, noise if rounding == "stochastic" else None)


def _quantize_range(w: Tensor, fmt: Range, noise: Tensor | None) -> Tensor:
    """The law of qsweep.formats.Range, step by step."""
    x = w * fmt.steps_per_unit
    r = x.round() if noise is None else _round_stochastic(x, noise)
    if noise is not None and not fmt.levels_are_fixed_points:
        r = _keep_levels(r, w, x, fmt)
    if not fmt.zero:
        r += torch.sign(w).mul_(torch.eq(r, 0, out=torch.empty_like(r)))
    return r.clamp_(fmt.lowest, fmt.highest).div_(_steps_per_unit(w, fmt))


def _round_stochastic(x: Tensor, noise: Tensor) -> Tensor:
    """floor(x) + (u < x - floor(x)): an integer never moves, as it would under floor(x + u)."""
    lower = x.floor()
    above = x - lower
    return lower.add_(torch.lt(noise, above, out=above))


def _keep_levels(r: Tensor, w: Tensor, x: Tensor, fmt: Range) -> Tensor:
    """Undo a move of values that are levels already, where x = w·S can miss their integer by an ulp."""
    nearest = x.round()
    return torch.where(nearest / _steps_per_unit(w, fmt) == w, nearest, r)


def _steps_per_unit(like: Tensor, fmt: Range) -> Tensor:
    """As a tensor: CUDA divides by a Python number as a product with its reciprocal, which gives other bits."""
    return like.new_full((), fmt.steps_per_unit)
