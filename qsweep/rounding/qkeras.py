"""QKeras's quantizers (0.9.0): their values and their straight-through gradients.

A result is the level itself. QKeras's own forward pass gives x + (level - x), which float32 may round to one bit off
the level. Exponents come from bits, not from a logarithm, and means from a sum in a fixed order, so that results don't
depend on the device; QKeras's differ where log2 |x| is within float32's rounding of k + ½, and in the last bits of a
computed alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from qsweep.formats.qkeras import (
    AUTO,
    Bernoulli,
    QKeras,
    QKerasBinary,
    QKerasTernary,
    QuantizedBits,
    QuantizedPo2,
    QuantizedRelu,
    QuantizedReluPo2,
    StochasticBinary,
    StochasticTernary,
)
from qsweep.rounding.formulas import exponent_of, power

EPSILON = 1e-7
TERNARY_THRESHOLD = 0.33
ROUNDS = 5
"""How many times a computed scale is refitted."""
Draws = Sequence[Tensor]
"""Uniform numbers in [0, 1), `draws` tensors of x's shape; empty when rounding to nearest."""


def quantized(x: Tensor, fmt: QKeras, draws: Draws) -> Tensor:
    """One tensor's channels (C, n) in their format: nearest without draws, stochastic with them."""
    return FORMULAS[type(fmt)](x, fmt, draws)


def codes(x: Tensor, stored: Tensor, fmt: QKeras) -> Tensor:
    """The codes of values of channels (C, n) under the computed alpha of stored ones: integers, or signs."""
    if not isinstance(fmt, QuantizedBits):
        return torch.sign(x)
    largest = stored.abs().amax(-1, keepdim=True)
    highest = 2 ** (fmt.bitwidth - 1) - 1
    scaled: Tensor = x.double() * highest / torch.where(largest == 0, 1.0, largest)
    return scaled.round().clamp(-highest, highest)


# --- fixed point ------------------------------------------------------------------------------------------------------


def _bits(x: Tensor, fmt: QuantizedBits, draws: Draws) -> Tensor:
    unsigned = fmt.bitwidth - fmt.keep_negative
    steps, ends = 2.0**unsigned, 2.0**fmt.integer
    if _computed(fmt.alpha):
        return _bits_computed(x / ends, fmt, steps) * ends
    if unsigned:
        lowest = (-steps + fmt.symmetric) if fmt.keep_negative else 0.0
        level = _integers(x * steps / ends, draws, 1.0).clamp(lowest, steps - 1) * ends / steps
    else:
        level = _sign(x) if fmt.keep_negative else (_sign(x) + 1) / 2
    return level * (1.0 if isinstance(fmt.alpha, str) else fmt.alpha)


def _bits_computed(x: Tensor, fmt: QuantizedBits, steps: float) -> Tensor:
    """Symmetric, ties away from zero, never stochastic."""
    count = 2.0 * (2 ** (fmt.bitwidth - 1) - 1)

    def integers(scale: Tensor) -> Tensor:
        whole = torch.where(scale > 0, (x.abs() / scale + 0.5).floor(), 0.0)
        return torch.sign(x) * whole.clamp(max=count / 2)

    scale = x.abs().amax(-1, keepdim=True) * 2 / count
    if fmt.alpha == "auto":
        level: Tensor = scale * steps * (integers(scale) / steps)
        return level
    scale = _nearest_exponent(scale)
    for _ in range(ROUNDS):
        k = integers(scale)
        scale = _fitted(x, k, fmt.alpha)
    return scale * steps * (k / steps)  # the scale was fitted after the last integers


def _relu(x: Tensor, fmt: QuantizedRelu, draws: Draws) -> Tensor:
    unsigned = fmt.bitwidth - bool(fmt.negative_slope)
    steps, ends = 2.0**unsigned, 2.0**fmt.integer
    p = x * steps / ends
    level = ends * (_integers(p, draws, 0.5) / steps).clamp(0.0, 1 - 1 / steps)
    if not fmt.negative_slope:
        return level
    below = _integers(p * fmt.negative_slope, (), 0.5) * (1 / (fmt.negative_slope * steps))
    return level + ends * fmt.negative_slope * below.clamp(-1.0, 0.0)


def _integers(p: Tensor, draws: Draws, precision: float) -> Tensor:
    """p rounded to integers, ties to even; with draws, stochastically to multiples of the precision."""
    if not draws:
        return p.round()
    scale = torch.tensor(1.0 / precision, dtype=torch.float32, device=p.device)
    scaled = p * scale
    lower = scaled.floor()
    return torch.where(scaled - lower < draws[0], lower, scaled.ceil()) / scale


# --- powers of two ----------------------------------------------------------------------------------------------------


def _po2(x: Tensor, fmt: QuantizedPo2, draws: Draws) -> Tensor:
    return _sign(x) * _power(x.abs(), fmt, fmt.bitwidth - 1, draws)


def _relu_po2(x: Tensor, fmt: QuantizedReluPo2, draws: Draws) -> Tensor:
    return _power(x.clamp(min=0.0), fmt, fmt.bitwidth, draws)


def _power(magnitude: Tensor, fmt: QuantizedPo2 | QuantizedReluPo2, bits: int, draws: Draws) -> Tensor:
    largest = math.inf if isinstance(fmt.max_value, str) else fmt.max_value
    exponents = bits - (largest > 1)
    lowest, highest = -(2**exponents), 2**exponents - 1
    capped = magnitude.clamp(EPSILON, largest)
    factor = 1
    if fmt.quadratic_approximation:
        capped, factor, highest = capped.double().sqrt().float(), 2, 2 * (highest // 2)
    exponent = _stochastic_exponent(capped, draws[0]) if draws else _exponent(capped)
    exponent = factor * exponent.clamp(lowest, highest)
    return power(torch.where(magnitude < torch.tensor(EPSILON), lowest, exponent)).float()


def _exponent(x: Tensor) -> Tensor:
    """log2 x rounded to an integer: up above √2 · 2^e."""
    below = exponent_of(x.double())
    return below + (x.double() > math.sqrt(2.0) * power(below))


def _stochastic_exponent(x: Tensor, draw: Tensor) -> Tensor:
    """The exponent of one of the two powers of two around x, so that it is x on average; 2^e may become 2^(e+1)."""
    below = exponent_of(x.double())
    low = power(below).float()
    return below + (x >= draw * low + low)


def _nearest_exponent(x: Tensor) -> Tensor:
    """A scale as a power of two."""
    return power(_exponent(x + EPSILON)).float()


# --- signs ------------------------------------------------------------------------------------------------------------


def _binary(x: Tensor, fmt: QKerasBinary, draws: Draws) -> Tensor:
    if draws:
        double = 2.0 * x.abs().amax(-1, keepdim=True).clamp(max=1.0)
        x = torch.where(double > 0, double * _integers(x / double, draws, 0.125), x)
    sign = torch.sign(x)
    if draws:
        sign = torch.where(sign == 0, 2.0 * draws[1].round() - 1.0, sign)
    sign = sign + (1.0 - sign.abs())
    level = (sign + 1.0) / 2 if fmt.use_01 else sign
    return _alpha(fmt.alpha, x, level) * level


def _ternary(x: Tensor, fmt: QKerasTernary, draws: Draws) -> Tensor:
    if _computed(fmt.alpha):
        return _ternary_fitted(x, fmt.alpha, draws)[0]
    threshold = TERNARY_THRESHOLD if isinstance(fmt.threshold, str) else fmt.threshold
    chosen = x.abs() >= torch.tensor(threshold, dtype=torch.float32)
    return chosen * torch.sign(x) * (1.0 if isinstance(fmt.alpha, str) else fmt.alpha)


def _ternary_fitted(x: Tensor, alpha: float | str, draws: Draws) -> tuple[Tensor, Tensor]:
    """Levels, and the scale of each channel, fitted with the threshold at half the scale."""
    scale = 2.0 * x.abs().amax(-1, keepdim=True) / 3.0
    if alpha == "auto_po2":
        scale = _nearest_exponent(scale)
    chosen = torch.zeros_like(x)
    for turn in range(ROUNDS):
        ratio = torch.where(scale > 0, x / scale, 0.0)
        near = scale * (_integers(ratio, draws[turn : turn + 1], 1.0 / 3.0) if draws else ratio.round())
        chosen = (near.abs() >= scale / 2) * torch.sign(x)
        scale = _fitted(x, chosen, alpha)
    return scale * chosen, scale


def _stochastic_binary(x: Tensor, fmt: StochasticBinary, draws: Draws) -> Tensor:
    if not draws:
        return _binary(x, QKerasBinary(alpha=fmt.alpha), ())
    return _alpha(fmt.alpha, x, _sign(x)) * _stochastic_sign(6.0 * x, _spread(x, fmt.alpha), draws[0])


def _bernoulli(x: Tensor, fmt: Bernoulli, draws: Draws) -> Tensor:
    sign = _stochastic_sign(6.0 * x, _spread(x, fmt.alpha), draws[0]) if draws else _sign(x)
    return _alpha(fmt.alpha, x, (_sign(x) + 1.0) / 2) * ((sign + 1.0) / 2)


def _stochastic_ternary(x: Tensor, fmt: StochasticTernary, draws: Draws) -> Tensor:
    if not draws:
        return _ternary(x, QKerasTernary(alpha=fmt.alpha), ())
    spread = _deviation(x) + EPSILON
    scale = 2.0 * x.abs().amax(-1, keepdim=True) / 3.0
    if fmt.alpha == "auto_po2":
        scale = _nearest_exponent(scale)
    for _ in range(ROUNDS):
        scale = _fitted(x, (x.abs() >= scale / 2) * torch.sign(x), fmt.alpha)
    normal, edge = x / spread, scale / (2.0 * spread)
    one = torch.ones_like(spread)
    signs = [
        _stochastic_sign(8.0 * (normal + side * edge), one, draw) for side, draw in zip((-1, 1), draws, strict=False)
    ]
    return scale * ((signs[0] + signs[1]) / 2)


def _stochastic_sign(x: Tensor, spread: Tensor, draw: Tensor) -> Tensor:
    """1 with probability sigmoid(x / spread), else -1."""
    return torch.where(torch.sigmoid((x / spread).double()) >= draw, 1.0, -1.0).float()


def _spread(x: Tensor, alpha: float | str) -> Tensor:
    return _deviation(x) + EPSILON if _computed(alpha) else torch.ones_like(x[..., :1])


# --- parts ------------------------------------------------------------------------------------------------------------


def _computed(alpha: float | str) -> bool:
    return alpha in AUTO


def _sign(x: Tensor) -> Tensor:
    """The sign, 0 being positive; NaN stays."""
    return torch.where(x >= 0, 1.0, torch.where(x < 0, -1.0, x))


def _alpha(alpha: float | str, x: Tensor, level: Tensor) -> Tensor:
    if _computed(alpha):
        return _fitted(x, level, alpha)
    return torch.ones_like(x[..., :1]) * (1.0 if isinstance(alpha, str) else alpha)


def _fitted(x: Tensor, level: Tensor, alpha: float | str) -> Tensor:
    """The least-squares scale of each channel; `auto_po2`: as a power of two."""
    scale = _mean(x * level) / (_mean(level * level) + EPSILON)
    return _nearest_exponent(scale) if alpha == "auto_po2" else scale


def _deviation(x: Tensor) -> Tensor:
    away = x - _mean(x)
    return _mean(away * away).double().sqrt().float()


def _mean(x: Tensor) -> Tensor:
    """The mean of each channel, summed in float64 by halves: the same order on any device, in a stack and alone."""
    total, count = x.double(), x.shape[-1]
    while total.shape[-1] > 1:
        half = (total.shape[-1] + 1) // 2
        upper = total[..., half:]
        total = torch.cat([total[..., : upper.shape[-1]] + upper, total[..., upper.shape[-1] : half]], -1)
    return (total / count).float()


FORMULAS: dict[type, Callable[[Tensor, Any, Draws], Tensor]] = {
    QuantizedBits: _bits,
    QuantizedRelu: _relu,
    QuantizedPo2: _po2,
    QuantizedReluPo2: _relu_po2,
    QKerasBinary: _binary,
    QKerasTernary: _ternary,
    StochasticBinary: _stochastic_binary,
    StochasticTernary: _stochastic_ternary,
    Bernoulli: _bernoulli,
}


# --- gradients --------------------------------------------------------------------------------------------------------


def gradient_factor(x: Tensor, fmt: QKeras) -> Tensor | None:
    """What the gradient is multiplied by; None for the identity.

    quantized_relu: that of the clipped ReLU. quantized_relu_po2: 1 above 0, up to max_value. A sign without alpha: the
    derivative of tanh. All others: the identity, even where they clip.
    """
    match fmt:
        case QuantizedRelu():
            top = 2.0**fmt.integer - 2.0 ** (fmt.integer - fmt.bitwidth + bool(fmt.negative_slope))
            return (x <= top) * torch.where(x > 0, 1.0, fmt.negative_slope)
        case QuantizedReluPo2():
            inside = x > 0
            return (inside if isinstance(fmt.max_value, str) else inside & (x <= fmt.max_value)).float()
        case QKerasBinary() | QKerasTernary() | StochasticBinary() if fmt.alpha == "none":
            slope = torch.tanh(x)
            return 1.0 - slope * slope
    return None
