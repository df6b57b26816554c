"""Rounding: to the range of document 000, to integers and to floating point under scales, and the scales of blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from qsweep.kernels.compiled import (
    ONE,
    ZERO,
    Doubles,
    Floats,
    Integers,
    bits_of,
    compiled,
    copy,
    float_of_bits,
    float_of_pattern,
    pattern_of,
)

FARTHEST = 160
"""No exponent of a float32 under a scale is larger; Inf would have 1024."""
INFINITE = np.int32(0x7F800000)
"""The bits of an infinite float32."""
TOO_LARGE = 2.0**128
"""The first power of two that float32 lacks."""
SIGN = np.int64(-(2**63))
"""The sign of a float64 among its bits."""
LEAST = 2.0**-126
"""The least float32 that is no subnormal."""
CHUNK = 8192
"""Values that are copied before they are rounded where they lie: few enough to stay in the first-level cache."""

# A group is a slice of a row, indexed from 0: with any other index the loops are not vectorized (0.7 against 4.3 ns).


@njit(inline="always")
def rounded(t: Any, noise: Floats, i: int, mode: int, shares: float) -> Any:
    """The integer that t goes to, by the number of a mode (qsweep.rounding.modes); float32 or float64, as t is.

    The `noise` is looked at in modes that draw alone, and may be empty in others.
    """
    if mode == 0:
        return np.rint(t)
    lower = np.floor(t)
    if mode == 1:
        return lower + np.float32(noise[i] < t - lower)
    if mode == 2:
        return np.trunc(t)
    if mode == 3:
        return np.ceil(t)
    if mode == 4:
        return lower
    size = abs(t)
    whole = np.floor(size)
    rest = size - whole
    if mode == 5:
        whole = whole + np.float32(rest >= 0.5)
    else:
        whole = whole + np.float32(np.floor(np.float64(noise[i]) * shares) < np.floor(rest * shares))
    return -whole if t < 0 else whole


@compiled
def to_range(
    w: Floats, noise: Floats, per_unit: Floats, lowest: Floats, highest: Floats, zeroless: Floats, mode: int,
    shares: float,
) -> None:  # fmt: skip
    """The law of qsweep.formats.Range, in float32 as its document has it."""
    for p in range(w.shape[0]):
        if mode == 0:
            _range_row(w[p], noise, per_unit[p], lowest[p], highest[p], zeroless[p], 0, 1.0)
        elif mode == 1:
            _range_row(w[p], noise, per_unit[p], lowest[p], highest[p], zeroless[p], 1, 1.0)
        else:
            _range_row(w[p], noise, per_unit[p], lowest[p], highest[p], zeroless[p], mode, shares)


@njit(inline="always")
def _range_row(
    row: Floats, noise: Floats, per_unit: np.float32, low: np.float32, high: np.float32, zeroless: np.float32,
    mode: int, shares: float,
) -> None:  # fmt: skip
    """One row; written out for the usual modes above, as constants let the loop be vectorized."""
    for i in range(len(row)):
        x = row[i] * per_unit
        nearest = np.rint(x) + ZERO
        r = nearest
        if mode != 0:
            r = rounded(x, noise, i, mode, shares) + ZERO
            r = nearest if nearest / per_unit == row[i] else r  # a level never moves, even where x misses its integer
        row[i] = _level(r, row[i], low, high, zeroless) / per_unit


@njit(inline="always")
def _level(r: np.float32, w: np.float32, lowest: np.float32, highest: np.float32, zeroless: np.float32) -> np.float32:
    """The level of a rounded value: one step from 0 by the sign of w where 0 is none, then clipped; NaN stays."""
    sign = (ONE if w > ZERO else ZERO) - (ONE if w < ZERO else ZERO)
    r = r + (sign * zeroless if r == ZERO else ZERO)
    r = lowest if r < lowest else r
    return highest if r > highest else r


@compiled
def to_grid(
    w: Floats, noise: Floats, scale: Doubles, width: int, exact: bool, lowest: Doubles, highest: Doubles,
    overflow: int, mode: int, shares: float,
) -> None:  # fmt: skip
    """Integers times a scale: the law of qsweep.formats.Grid, each `width` values of a row under a scale of their own.

    `exact`: all scales are powers of two, so that dividing is multiplying and a value that is on the grid stays there.
    """
    for p in range(w.shape[0]):
        high = highest[p]
        for group in range(scale.shape[1]):
            s = scale[p, group]
            low = _lowest(lowest[p], high, s)
            row, drawn = w[p, group * width : (group + 1) * width], noise[group * width : (group + 1) * width]
            if exact and overflow == 0 and mode == 0:
                _grid_row(row, drawn, s, low, high, True, 0, 0, 1.0)
            elif exact and overflow == 0 and mode == 1:
                _grid_row(row, drawn, s, low, high, True, 0, 1, 1.0)
            elif overflow == 0 and mode == 0:
                _grid_row(row, drawn, s, low, high, False, 0, 0, 1.0)
            elif overflow == 0 and mode == 1:
                _grid_row(row, drawn, s, low, high, False, 0, 1, 1.0)
            else:
                _grid_row(row, drawn, s, low, high, exact, overflow, mode, shares)


@njit(inline="always")
def _grid_row(
    row: Floats, noise: Floats, scale: float, low: float, high: float, exact: bool, overflow: int, mode: int,
    shares: float,
) -> None:  # fmt: skip
    """One group, as in `_range_row`."""
    inverse = 1.0 / scale
    for i in range(len(row)):
        x = np.float64(row[i])
        t = x * inverse if exact else x / scale
        r = rounded(t, noise, i, mode, shares) + 0.0
        if not exact:
            near = np.rint(t) + 0.0
            r = near if np.float32(near * scale) == row[i] else r
        if overflow == 0:
            r = low if r < low else r
            r = high if r > high else r
        elif overflow == 1:
            r = _wrapped(r, low, high)
        row[i] = np.float32(r * scale)


@njit(inline="always")
def _lowest(lowest: float, highest: float, scale: float) -> float:
    """The lowest integer whose value float32 has: -128 of MX's int8 under 2^127 would be -2^128."""
    return -highest if lowest * scale <= -TOO_LARGE else lowest


@njit(inline="always")
def _wrapped(r: Any, lowest: float, highest: float) -> Any:
    """The lowest bits of an integer in two's complement. Exact: 2^W divides all that is too large for a float64."""
    count = highest - lowest + 1.0
    rest = r - np.floor(r / count) * count
    return rest - count if rest > highest else rest


@compiled
def to_floating(
    w: Floats, noise: Floats, scale: Doubles, width: int, exact: bool, mantissa: Integers, least: Integers,
    largest: Doubles, beyond: Doubles, smallest: Doubles, mode: int, shares: float,
) -> None:  # fmt: skip
    """Floating point under a scale: the law of qsweep.formats.Floating. `smallest`: what becomes of 0, or 0."""
    for p in range(w.shape[0]):
        m, e_min, top, over, floor = mantissa[p], least[p], largest[p], beyond[p], smallest[p]
        for group in range(scale.shape[1]):
            s = scale[p, group]
            row, drawn = w[p, group * width : (group + 1) * width], noise[group * width : (group + 1) * width]
            if exact and mode == 0:
                _float_row(row, drawn, s, m, e_min, top, over, floor, True, 0, 1.0)
            elif exact and mode == 1:
                _float_row(row, drawn, s, m, e_min, top, over, floor, True, 1, 1.0)
            elif mode == 0:
                _float_row(row, drawn, s, m, e_min, top, over, floor, False, 0, 1.0)
            elif mode == 1:
                _float_row(row, drawn, s, m, e_min, top, over, floor, False, 1, 1.0)
            else:
                _float_row(row, drawn, s, m, e_min, top, over, floor, exact, mode, shares)


@njit(inline="always")
def _float_row(
    row: Floats, noise: Floats, scale: float, mantissa: int, least: int, largest: float, beyond: float,
    smallest: float, exact: bool, mode: int, shares: float,
) -> None:  # fmt: skip
    """One group, as in `_range_row`."""
    inverse = 1.0 / scale
    for i in range(len(row)):
        x = np.float64(row[i])
        t = x * inverse if exact else x / scale
        q = _float_of(t, noise, i, mantissa, least, largest, beyond, smallest, mode, shares)
        if not exact:
            near = _float_of(t, noise, i, mantissa, least, largest, beyond, smallest, 0, shares)
            q = near if np.float32(near * scale) == row[i] else q
        row[i] = np.float32(q * scale)


@compiled
def to_shorter(w: Floats, first: int, mantissa: Integers) -> None:
    """Floating point with the exponents of float32, Inf included, to nearest: patterns cut to fewer bits."""
    for p in range(w.shape[0]):
        cut = np.int32(23 - mantissa[first + p])
        _shorter_row(w[p], cut, (np.int32(1) << cut) - np.int32(1))


@njit(inline="always")
def _shorter_row(row: Floats, cut: np.int32, mask: np.int32) -> None:
    half = mask >> np.int32(1)
    for i in range(len(row)):
        bits = pattern_of(row[i])
        even = (bits >> cut) & np.int32(1)
        shorter = np.int32(bits + half + even) & ~mask
        row[i] = float_of_pattern(shorter) if row[i] == row[i] else row[i]


@njit(inline="always")
def _float_of(
    t: Any, noise: Floats, i: int, mantissa: int, least: int, largest: float, beyond: float, smallest: float,
    mode: int, shares: float,
) -> Any:  # fmt: skip
    """The floating-point number that t goes to."""
    exponent = ((bits_of(t) >> 52) & 0x7FF) - 1023
    exponent = exponent if exponent > least else least  # min and max of integers would keep the loop from vectorizing
    exponent = exponent if exponent < FARTHEST else FARTHEST
    up = float_of_bits((mantissa - exponent + 1023) << 52)
    down = float_of_bits((exponent - mantissa + 1023) << 52)
    q = abs(rounded(t * up, noise, i, mode, shares)) * down
    over = beyond
    if mode in (2, 3, 4):
        inward = (mode == 2) | ((mode == 3) & (t < 0.0)) | ((mode == 4) & (t > 0.0))
        over = largest if inward & (abs(t) != np.inf) else beyond
    q = over if q > largest else q
    q = smallest if q == 0.0 else q
    sign = np.int64(0) if (smallest > 0.0) & (t == 0.0) else bits_of(t) & SIGN
    return float_of_bits(bits_of(q) | sign)


# --- scales -----------------------------------------------------------------------------------------------------------


@compiled
def exponent_scales(w: Floats, width: int, shift: Integers, farthest: int, unit: float, scale: Doubles) -> None:
    """The law of qsweep.rounding.scales.by_exponent: a power of two, times `unit`, for each `width` values of a row."""
    for p in range(w.shape[0]):
        for group in range(scale.shape[1]):
            largest = _largest_pattern(w[p, group * width : (group + 1) * width].view(np.int32))
            scale[p, group] = _exponent_scale(largest, shift[p], farthest) * unit


@njit(inline="always")
def _largest_pattern(patterns: Any) -> np.int32:
    """The bits of the largest magnitude: integers, since a maximum of floats is not vectorized."""
    largest = np.int32(0)
    for i in range(len(patterns)):
        magnitude = patterns[i] & np.int32(0x7FFFFFFF)
        largest = magnitude if magnitude > largest else largest
    return largest


@njit(inline="always")
def _exponent_scale(largest: np.int32, shift: int, farthest: int) -> float:
    if largest >= INFINITE:
        return np.nan
    if largest == 0:
        return 1.0
    exponent = ((bits_of(np.float64(float_of_pattern(largest))) >> 52) & 0x7FF) - 1023 + shift
    exponent = min(max(exponent, -farthest), farthest)
    power: float = float_of_bits((min(max(exponent, -1022), 1023) + 1023) << 52)
    return power


@compiled
def to_blocks(
    w: Floats, out: Floats, noise: Floats, width: int, first: int, shift: Integers, farthest: int, unit: float,
    lowest: Doubles, highest: Doubles, in_place: bool, mode: int, shares: float,
) -> None:  # fmt: skip
    """`to_grid` under `exponent_scales`, into `out`, which is `w` itself where `in_place`."""
    for p in range(w.shape[0]):
        own = first + p
        high = highest[own]
        for start in range(0, w.shape[1], width):
            largest = _largest_pattern(w[p, start : start + width].view(np.int32))
            scale = _exponent_scale(largest, shift[own], farthest) * unit
            low = _lowest(lowest[own], high, scale)
            for i in range(start, start + width, CHUNK):
                j = min(i + CHUNK, start + width)
                row, drawn = out[p, i:j], noise[i:j]
                if not in_place:
                    copy(w[p, i:j], row)
                if mode == 0 and LEAST <= scale <= 1 / LEAST:
                    _single_row(row, np.float32(1 / scale), np.float32(scale), np.float32(low), np.float32(high))
                elif mode == 0:
                    _grid_row(row, drawn, scale, low, high, True, 0, 0, 1.0)
                elif mode == 1:
                    _grid_row(row, drawn, scale, low, high, True, 0, 1, 1.0)
                else:
                    _grid_row(row, drawn, scale, low, high, True, 0, mode, shares)


@njit(inline="always")
def _single_row(row: Floats, inverse: np.float32, scale: np.float32, low: np.float32, high: np.float32) -> None:
    """`_grid_row` to nearest, in float32: exact, as the scale and its inverse are powers of two and no subnormals.

    A value that underflows on its way to an integer goes to 0 in either.
    """
    for i in range(len(row)):
        r = np.rint(row[i] * inverse) + ZERO
        r = low if r < low else r
        r = high if r > high else r
        row[i] = r * scale
