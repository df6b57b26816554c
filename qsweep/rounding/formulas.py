"""The rounding rules of formats as tensor operations: they run where there is no kernel, and are the kernels' oracle.

Only + − × ÷ floor round min max, comparisons and bit patterns: the same bits on every device. All in float64 but
`to_range`, in float32 as its source defines it. `w` has the values of P trials as rows, settings are columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qsweep.kernels import rounding as kernels
from qsweep.rounding.modes import Mode, rounded

NEAREST = Mode("nearest")
FARTHEST = 160
"""No exponent of a float32 divided by a scale is larger, except 1024 for Inf."""


def to_range(
    w: Tensor, noise: Tensor | None, mode: Mode, per_unit: Tensor, lowest: Tensor, highest: Tensor, zeroless: Tensor
) -> Tensor:
    """The rounding rule of qsweep.formats.Range; a result of 0 is +0."""
    x = w * per_unit
    nearest = x.round() + 0.0
    r = nearest
    if mode != NEAREST:
        r = torch.where(nearest / per_unit == w, nearest, rounded(x, noise, mode) + 0.0)
    r = r + torch.sign(w) * (r == 0) * zeroless
    return torch.minimum(torch.maximum(r, lowest), highest) / per_unit


def to_grid(
    w: Tensor, noise: Tensor | None, mode: Mode, scale: Tensor, lowest: Tensor, highest: Tensor, overflow: str
) -> Tensor:
    """The rounding rule of qsweep.formats.Grid under a scale, a power of two or not."""
    lowest = lowest_under(scale, lowest, highest)
    t = w.double() / scale
    near = t.round() + 0.0
    r = near if mode == NEAREST else torch.where(on_it(near, scale, w), near, rounded(t, noise, mode) + 0.0)
    if overflow == "saturate":
        r = torch.minimum(torch.maximum(r, lowest), highest)
    elif overflow == "wrap":
        count = highest - lowest + 1.0
        rest = r - (r / count).floor() * count
        r = torch.where(rest > highest, rest - count, rest)
    return (r * scale).float()


def lowest_under(scale: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """The lowest integer whose value float32 has: -128 of MX's int8 under 2^127 would be -2^128."""
    return torch.where(lowest * scale <= -kernels.TOO_LARGE, -highest, lowest)


def on_it(element: Tensor, scale: Tensor, w: Tensor) -> Tensor:
    """Whether a value already is the nearest element, to float32's precision: then it never moves."""
    return (element * scale).float() == w


def to_floating(
    w: Tensor,
    noise: Tensor | None,
    mode: Mode,
    scale: Tensor,
    mantissa: Tensor,
    least: Tensor,
    largest: Tensor,
    beyond: Tensor,
    smallest: Tensor,
    encode: Tensor | None = None,
) -> Tensor:
    """The rounding rule of qsweep.formats.Floating under a scale; `smallest` is what 0 becomes, or 0.

    Args:
        encode: a factor: values are multiplied by it in float32, then clipped to the largest element, instead of being
            divided by the scale.
    """
    numbers = mantissa, least, largest, beyond, smallest
    t = w.double() / scale if encode is None else torch.clamp((w * encode).double(), -largest, largest)
    near = _float_of(t, noise, NEAREST, *numbers)
    q = near if mode == NEAREST else torch.where(on_it(near, scale, w), near, _float_of(t, noise, mode, *numbers))
    return (q * scale).float()


def _float_of(
    t: Tensor,
    noise: Tensor | None,
    mode: Mode,
    mantissa: Tensor,
    least: Tensor,
    largest: Tensor,
    beyond: Tensor,
    smallest: Tensor,
) -> Tensor:
    exponent = torch.minimum(torch.maximum(exponent_of(t), least), torch.full_like(least, FARTHEST))
    q = rounded(t * power(mantissa - exponent), noise, mode).abs() * power(exponent - mantissa)
    inward = torch.full_like(t, mode.name == "zero", dtype=torch.bool)
    if mode.name in ("up", "down"):
        inward = (t < 0) if mode.name == "up" else (t > 0)
    over = torch.where(inward & ~t.isinf(), largest, beyond)
    q = torch.where(q > largest, over, q)
    q = torch.where(q == 0, smallest, q)
    return torch.where((smallest > 0) & (t == 0), q, torch.copysign(q, t))


def exponent_of(t: Tensor) -> Tensor:
    """e of 2^e ≤ |t| < 2^(e+1) for float64 numbers that are normal, from the bits: int64."""
    return ((t.contiguous().view(torch.int64) >> 52) & 0x7FF) - 1023


def power(exponent: Tensor) -> Tensor:
    """2^exponent, float64, for int64 exponents of normal numbers."""
    return ((exponent + 1023) << 52).view(torch.float64)


def to_span(w: Tensor, noise: Tensor | None, mode: Mode, low: Tensor, high: Tensor, count: Tensor) -> Tensor:
    """The rounding rule of qsweep.formats.Uniform from `low` to `high`; `count` steps between them."""

    def level(k: Tensor) -> Tensor:
        return ((low * (count - k) + high * k) / count).float()

    width = torch.where(high == low, 1.0, high - low)
    exact = torch.minimum(((w.double() - low) * count / width).clamp(min=0.0), count)
    near = level(exact.round())
    moved = near if mode == NEAREST else torch.where(near == w, w, level(rounded(exact, noise, mode)))
    return torch.where(low == high, w, moved)


def to_sign(w: Tensor, noise: Tensor | None, mode: Mode, scale: Tensor) -> Tensor:
    """The rounding rule of qsweep.formats.Binary: -s or s."""
    t = w.double() / scale
    if mode.draws or mode.name in ("up", "down"):
        k = 2 * rounded((t.clamp(-1.0, 1.0) + 1) / 2, noise, mode) - 1
    else:
        k = torch.where(t >= 0, 1.0, torch.where(t < 0, -1.0, t))
    return torch.where(scale == 0, torch.zeros_like(w), (k * scale).float())


def to_three(w: Tensor, scale: Tensor, threshold: Tensor) -> Tensor:
    """The rounding rule of qsweep.formats.Ternary by its threshold: -s, 0 or s."""
    x = w.double()
    k = torch.where(x > threshold, 1.0, torch.where(x < -threshold, -1.0, x * 0.0 + 0.0))
    return (k * scale).float()
