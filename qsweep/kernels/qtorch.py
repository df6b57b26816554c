"""QPyTorch's rounding, bit for bit (qsweep.rounding.qtorch has it as tensor operations)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from qsweep.kernels.compiled import Floats, Integers, compiled, copy, float_of_pattern, pattern_of

SIGN, EXPONENT, FRACTION = np.int32(-(2**31)), np.int32(0x7F800000), np.int32(0x007FFFFF)
DRAWS = np.float32(2.0**24)
"""How many values a random number can have."""


class Floatings(NamedTuple):
    """Floating-point formats of P trials as arrays (P,) of int64, or of one trial as numbers, int32.

    Attributes:
        mantissa: bits.
        top, least: the ends of the exponents, biased by 127.
    """

    mantissa: Any
    top: Any
    least: Any


@compiled
def to_blocks(w: Floats, out: Floats, noise: Floats, first: int, width: int, bits: Integers) -> None:
    """Block floating point: each `width` values of a row (R, n) under one exponent, into `out`, which may be `w`.

    Args:
        noise: (n,), or empty to round to nearest.
        first: the trial of row 0.
        bits: of each trial's format, sign included, (P,).
    """
    in_place = out.ctypes.data == w.ctypes.data
    for p in range(w.shape[0]):
        mantissa = np.int32(bits[first + p])
        kept = _kept(max(mantissa - np.int32(2), np.int32(0)))
        for start in range(0, w.shape[1], width):
            row, drawn = out[p, start : start + width], noise[start : start + width]
            if not in_place:
                copy(w[p, start : start + width], row)
            top = _largest_exponent(row.view(np.int32))
            _block(row, drawn, mantissa, top, kept)


@njit(inline="always")
def _largest_exponent(patterns: Any) -> np.int32:
    """The exponent of the largest magnitude, in its place among the bits."""
    largest = np.int32(0)
    for i in range(len(patterns)):
        exponent = patterns[i] & EXPONENT
        largest = exponent if exponent > largest else largest
    return largest


@njit(inline="always")
def _block(row: Floats, noise: Floats, mantissa: np.int32, top: np.int32, kept: np.int32) -> None:
    base = float_of_pattern(top) * np.float32(6)
    nearest = len(noise) == 0
    if nearest:
        for i in range(len(row)):
            moved = float_of_pattern(_cut(pattern_of(row[i] + base), mantissa, noise, i, True)) - base
            row[i] = _within(moved, top, kept)
    else:
        for i in range(len(row)):
            moved = float_of_pattern(_cut(pattern_of(row[i] + base), mantissa, noise, i, False)) - base
            row[i] = _within(moved, top, kept)


@njit(inline="always")
def _within(moved: np.float32, top: np.int32, kept: np.int32) -> Any:
    """The largest magnitude instead of values with a larger exponent."""
    found = pattern_of(moved)
    return float_of_pattern((found & SIGN) | top | kept if (found & EXPONENT) > top else found)


@compiled
def to_floating(w: Floats, noise: Floats, first: int, floats: Floatings) -> None:
    """Floating point without Inf and NaN, in place; arguments as in `to_blocks`."""
    for p in range(w.shape[0]):
        own = first + p
        one = Floatings(np.int32(floats.mantissa[own]), np.int32(floats.top[own]), np.int32(floats.least[own]))
        if len(noise) == 0:
            _floating(w[p], noise, one, True)
        else:
            _floating(w[p], noise, one, False)


@njit(inline="always")
def _floating(row: Floats, noise: Floats, one: Floatings, nearest: bool) -> None:
    mantissa, top, least = one
    kept = _kept(mantissa)
    for i in range(len(row)):
        bits = pattern_of(row[i])
        sign = bits & SIGN
        shift = float_of_pattern((least << np.int32(23)) | sign)
        small = pattern_of(float_of_pattern(_cut(pattern_of(row[i] + shift), mantissa, noise, i, nearest)) - shift)
        cut = _cut(bits, mantissa, noise, i, nearest)
        largest = sign | (top << np.int32(23)) | kept
        normal = largest if (cut != 0) & (_exponent(cut) > top) else cut
        row[i] = float_of_pattern(small if _exponent(bits) < least else normal)


@njit(inline="always")
def _cut(bits: np.int32, mantissa: np.int32, noise: Floats, i: int, nearest: bool) -> Any:
    """A float32 pattern truncated to `mantissa` bits after adding half of the last bit kept, or a random part of it."""
    mask = (np.int32(1) << (np.int32(23) - mantissa)) - np.int32(1)
    if nearest:
        added = np.int32(1) << (np.int32(22) - mantissa) if mantissa < 23 else np.int32(0)
    else:
        added = np.int32(noise[i] * DRAWS) >> (mantissa + np.int32(1))
    return np.int32(bits + added) & ~mask


@njit(inline="always")
def _kept(mantissa: np.int32) -> Any:
    """A fraction whose first `mantissa` bits are ones."""
    return FRACTION & ~((np.int32(1) << (np.int32(23) - mantissa)) - np.int32(1))


@njit(inline="always")
def _exponent(bits: np.int32) -> Any:
    return (bits >> np.int32(23)) & np.int32(0xFF)
