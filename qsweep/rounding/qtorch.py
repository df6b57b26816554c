"""QPyTorch's quantizers bit for bit, for comparing results with those of its users.

Its rules are not those of the formats of the same name (docs/formats.md says where they differ): nearest is to even in
fixed point, away from zero in floating point and toward +∞ in blocks; NaN becomes the largest float; no exponent is
reserved for Inf. Transcribed from its CPU kernels (version 0.3.0), tested on values that they returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from qsweep.formats import Block, Fixed, Float, Format
from qsweep.kernels import qtorch as kernels
from qsweep.kernels.compiled import Integers
from qsweep.rounding.modes import noise_array

SIGN, EXPONENT, FRACTION = -(2**31), 0x7F800000, 0x007FFFFF


class Rows:
    """Rounds rows, each to a QPyTorch format of its own: by kernels on a CPU, else by the tensor operations below."""

    def __init__(self, formats: Sequence[Format]) -> None:
        self._formats = formats

    def elementwise(self, w: Tensor, noise: Tensor | None, first: int) -> None:
        """Fixed and floating point, in place: w (R, n), noise (n,), `first` the index of row 0's format."""
        if w.device.type == "cpu" and isinstance(self._formats[0], Float):
            kernels.to_floating(w.numpy(), noise_array(noise), first, self._floats)
        else:
            w.copy_(elementwise(w, self._formats[first : first + len(w)], noise))

    def blocks(self, w: Tensor, out: Tensor, noise: Tensor | None, width: int, first: int) -> None:
        """Block floating point, `width` values of a row under one exponent, into `out` (R, n) on a CPU."""
        kernels.to_blocks(w.numpy(), out.numpy(), noise_array(noise), first, width, self._bits)

    @cached_property
    def _bits(self) -> Integers:
        return np.array([f.bitwidth for f in self._formats if isinstance(f, Block)])

    @cached_property
    def _floats(self) -> kernels.Floatings:
        floats = [f for f in self._formats if isinstance(f, Float)]
        halves = np.array([1 << (f.exponent - 1) for f in floats])
        return kernels.Floatings(np.array([f.mantissa for f in floats]), halves + 127, 129 - halves)


def elementwise(w: Tensor, formats: Sequence[Format], noise: Tensor | None) -> Tensor:
    """Rows of values rounded to fixed or floating point, each in its own format."""
    if isinstance(formats[0], Fixed):
        return _fixed(w, [f for f in formats if isinstance(f, Fixed)], noise)
    return _float(w, [f for f in formats if isinstance(f, Float)], noise)


def _fixed(w: Tensor, formats: Sequence[Fixed], noise: Tensor | None) -> Tensor:
    """`fixed_point_quantize`: x + r in float32, minus ½ in float64; float32 may round the sum up to the next step."""
    step = _column([2.0**-f.fraction for f in formats], w)
    moved = (w.double() / step).float() + (0.5 if noise is None else noise)
    rounded = ((moved.double() - 0.5).round().float().double() * step).float()
    if formats[0].overflow == "unbounded":
        return rounded
    lowest = _column([f.elements.lowest * f.elements.step for f in formats], w).float()
    highest = _column([f.elements.highest * f.elements.step for f in formats], w).float()
    return torch.where(rounded > highest, highest, torch.where(rounded < lowest, lowest, rounded))


def _float(w: Tensor, formats: Sequence[Float], noise: Tensor | None) -> Tensor:
    """`float_quantize`: no exponent is reserved; for subnormals the smallest normal is added, then subtracted."""
    mantissa = _integers([f.mantissa for f in formats], w)
    top = _integers([(1 << (f.exponent - 1)) + 127 for f in formats], w)
    least = _integers([2 - (1 << (f.exponent - 1)) for f in formats], w)
    bits = w.view(torch.int32)
    sign = bits & SIGN
    shift = (((127 + least) << 23) | sign).view(torch.float32)
    small = _cut((w + shift).view(torch.int32), mantissa, noise).view(torch.float32) - shift
    cut = _cut(bits, mantissa, noise)
    largest = sign | (top << 23) | _kept(mantissa)
    normal = torch.where((cut != 0) & (_exponent(cut) > top), largest, cut).view(torch.float32)
    return torch.where(_exponent(bits) - 127 < least, small, normal)


def block(groups: Tensor, formats: Sequence[Block], noise: Tensor | None) -> Tensor:
    """`block_quantize` of groups (P, G, width): 6 · 2^E is added, so that ties go toward +∞, then subtracted."""
    width = _integers([f.bitwidth for f in formats], groups)
    top = groups.abs().amax(-1, keepdim=True).view(torch.int32) & EXPONENT
    base = top.view(torch.float32) * 6.0
    moved = _cut((groups + base).view(torch.int32), width, noise).view(torch.float32) - base
    bits = moved.view(torch.int32)
    largest = (bits & SIGN) | top | _kept((width - 2).clamp(min=0))
    return torch.where((bits & EXPONENT) > top, largest, bits).view(torch.float32)


def _cut(bits: Tensor, mantissa: Tensor, noise: Tensor | None) -> Tensor:
    """Float32 patterns truncated to `mantissa` bits after adding half of the last bit kept, or a random part of it."""
    mask = (1 << (23 - mantissa)) - 1
    half = torch.where(mantissa < 23, 1 << (22 - mantissa).clamp(min=0), 0)
    added = half if noise is None else (noise * 2.0**24).int() >> (mantissa + 1)
    return (bits + added) & ~mask


def _kept(mantissa: Tensor) -> Tensor:
    """A fraction whose first `mantissa` bits are ones."""
    return FRACTION & ~((1 << (23 - mantissa)) - 1)


def _exponent(bits: Tensor) -> Tensor:
    return (bits >> 23) & 0xFF


def _shape(w: Tensor) -> list[int]:
    return [-1] + [1] * (w.dim() - 1)


def _column(values: Sequence[float], w: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=w.device).view(_shape(w))


def _integers(values: Sequence[int], w: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.int32, device=w.device).view(_shape(w))
