"""Rounding to qsweep.formats.Range, and to integers and floating point under scales; the scales of blocks."""

from __future__ import annotations

from typing import Any, NamedTuple

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
from qsweep.kernels.modes import NEAREST, STOCHASTIC, ModeNumbers, rounded

FARTHEST = 160
"""No exponent of a float32 divided by a scale is larger, except 1024 for Inf."""
INFINITE = np.int32(0x7F800000)
"""The bits of an infinite float32."""
TOO_LARGE = 2.0**128
"""The smallest power of two out of range of float32."""
SIGN = np.int64(-(2**63))
"""The sign bit of a float64."""
LEAST = 2.0**-126
"""The smallest normal float32."""
SATURATE, WRAP, UNBOUNDED = range(3)
"""What integers out of range of a grid become: the nearest end, their lowest bits, or themselves."""
CHUNK = 8192
"""How many values are copied before they are rounded in place: few enough to stay in the first-level cache."""


class Ranges(NamedTuple):
    """The parameters of qsweep.formats.Range: of P trials as arrays (P,), or of one as numbers; all float32.

    Attributes:
        per_unit: steps per 1.
        lowest, highest: the integers at the ends.
        zeroless: 1 if 0 is not a level, else 0.
    """

    per_unit: Any
    lowest: Any
    highest: Any
    zeroless: Any


class Grids(NamedTuple):
    """The parameters of qsweep.formats.Grid: of P trials as arrays (P,), or of one as numbers; the ends are float64.

    Attributes:
        lowest, highest: the integers at the ends.
        overflow: what integers out of range become, the same for all: SATURATE, WRAP, or UNBOUNDED.
    """

    lowest: Any
    highest: Any
    overflow: int


class Floatings(NamedTuple):
    """The parameters of qsweep.formats.Floating: of P trials as arrays (P,), or of one as numbers.

    Attributes:
        mantissa, least: mantissa bits and the least exponent, int64.
        largest: the largest number, float64.
        beyond: what larger numbers become, float64.
        smallest: what 0 becomes, or 0, float64.
    """

    mantissa: Any
    least: Any
    largest: Any
    beyond: Any
    smallest: Any


class Scales(NamedTuple):
    """The scales under which rows are rounded.

    Attributes:
        scale: (R, G) float64, one per group of a row.
        width: how many values a group has.
        exact: whether all are powers of two, so that division is multiplication and representable values stay.
    """

    scale: Doubles
    width: int
    exact: bool


class Blocks(NamedTuple):
    """Integers under scales that follow the exponent E of the largest magnitude of a group: 2^(E + shift) · unit.

    One group, not a grid and its exponents: each more costs a call half a microsecond.

    Attributes:
        shift: of P trials, (P,) int64.
        farthest: the largest magnitude of E + shift.
        unit: the step of the integers.
        lowest, highest: the integers at the ends, of P trials, (P,) float64. All saturate.
    """

    shift: Integers
    farthest: int
    unit: float
    lowest: Doubles
    highest: Doubles


# In all kernels `w` has rows (R, n) that are rounded in place, `noise` (n,) is empty unless the mode is stochastic, and
# `first` is the trial of row 0. A group is a slice of a row, indexed from 0: with any other index the loops are not
# vectorized (0.7 against 4.3 ns).


@compiled
def to_range(w: Floats, noise: Floats, first: int, ranges: Ranges, mode: ModeNumbers) -> None:
    """The rounding rule of qsweep.formats.Range, in float32 as in its source."""
    for p in range(w.shape[0]):
        one = _range_of(ranges, first + p)
        if mode.number == 0:
            _range_row(w[p], noise, one, NEAREST)
        elif mode.number == 1:
            _range_row(w[p], noise, one, STOCHASTIC)
        else:
            _range_row(w[p], noise, one, mode)


@njit(inline="always")
def _range_of(trials: Ranges, p: int) -> Ranges:
    """One trial's parameters."""
    per_unit, lowest, highest, zeroless = trials
    return Ranges(per_unit[p], lowest[p], highest[p], zeroless[p])


@njit(inline="always")
def _range_row(row: Floats, noise: Floats, one: Ranges, mode: ModeNumbers) -> None:
    """One row; called with constants for the common modes, so that the loop is vectorized."""
    for i in range(len(row)):
        x = row[i] * one.per_unit
        nearest = np.rint(x) + ZERO
        r = nearest
        if mode.number != 0:
            r = rounded(x, noise, i, mode) + ZERO
            is_level = nearest / one.per_unit == row[i]  # it never moves, even where x misses its integer
            r = nearest if is_level else r
        row[i] = _level(r, row[i], one) / one.per_unit


@njit(inline="always")
def _level(r: np.float32, w: np.float32, one: Ranges) -> np.float32:
    """The level of a rounded value: ±1 by the sign of w instead of 0 if 0 is not a level, then clipped; NaN stays."""
    sign = (ONE if w > ZERO else ZERO) - (ONE if w < ZERO else ZERO)
    r = r + (sign * one.zeroless if r == ZERO else ZERO)
    r = one.lowest if r < one.lowest else r
    return one.highest if r > one.highest else r


@compiled
def to_grid(w: Floats, noise: Floats, first: int, scales: Scales, grids: Grids, mode: ModeNumbers) -> None:
    """Integers times a scale: the rounding rule of qsweep.formats.Grid."""
    (scale, width, exact), (lowest, highest, overflow) = scales, grids
    saturates = overflow == SATURATE
    for p in range(w.shape[0]):
        high = highest[first + p]
        for group in range(scale.shape[1]):
            s = scale[p, group]
            low = _lowest(lowest[first + p], high, s)
            row, drawn = w[p, group * width : (group + 1) * width], noise[group * width : (group + 1) * width]
            if exact and saturates and mode.number == 0:
                _grid_row(row, drawn, s, True, Grids(low, high, SATURATE), NEAREST)
            elif exact and saturates and mode.number == 1:
                _grid_row(row, drawn, s, True, Grids(low, high, SATURATE), STOCHASTIC)
            elif saturates and mode.number == 0:
                _grid_row(row, drawn, s, False, Grids(low, high, SATURATE), NEAREST)
            elif saturates and mode.number == 1:
                _grid_row(row, drawn, s, False, Grids(low, high, SATURATE), STOCHASTIC)
            else:
                _grid_row(row, drawn, s, exact, Grids(low, high, overflow), mode)


@njit(inline="always")
def _grid_row(row: Floats, noise: Floats, scale: float, exact: bool, grid: Grids, mode: ModeNumbers) -> None:
    """One group, as in `_range_row`."""
    inverse = 1.0 / scale
    for i in range(len(row)):
        x = np.float64(row[i])
        t = x * inverse if exact else x / scale
        r = rounded(t, noise, i, mode) + 0.0
        if not exact:
            near = np.rint(t) + 0.0
            r = near if np.float32(near * scale) == row[i] else r
        if grid.overflow == SATURATE:
            r = grid.lowest if r < grid.lowest else r
            r = grid.highest if r > grid.highest else r
        elif grid.overflow == WRAP:
            r = _wrapped(r, grid.lowest, grid.highest)
        row[i] = np.float32(r * scale)


@njit(inline="always")
def _lowest(lowest: float, highest: float, scale: float) -> float:
    """The lowest integer whose value is representable in float32: -128 of MX's int8 under 2^127 would be -2^128."""
    return -highest if lowest * scale <= -TOO_LARGE else lowest


@njit(inline="always")
def _wrapped(r: Any, lowest: float, highest: float) -> Any:
    """The lowest bits of an integer in two's complement. Exact: 2^W divides any integer that a float64 cannot hold."""
    count = highest - lowest + 1.0
    rest = r - np.floor(r / count) * count
    return rest - count if rest > highest else rest


@compiled
def to_floating(w: Floats, noise: Floats, first: int, scales: Scales, floatings: Floatings, mode: ModeNumbers) -> None:
    """Floating point under a scale: the rounding rule of qsweep.formats.Floating."""
    scale, width, exact = scales
    for p in range(w.shape[0]):
        one = _floating_of(floatings, first + p)
        for group in range(scale.shape[1]):
            s = scale[p, group]
            row, drawn = w[p, group * width : (group + 1) * width], noise[group * width : (group + 1) * width]
            if exact and mode.number == 0:
                _float_row(row, drawn, s, True, one, NEAREST)
            elif exact and mode.number == 1:
                _float_row(row, drawn, s, True, one, STOCHASTIC)
            elif mode.number == 0:
                _float_row(row, drawn, s, False, one, NEAREST)
            elif mode.number == 1:
                _float_row(row, drawn, s, False, one, STOCHASTIC)
            else:
                _float_row(row, drawn, s, exact, one, mode)


@njit(inline="always")
def _floating_of(trials: Floatings, p: int) -> Floatings:
    """One trial's parameters."""
    mantissa, least, largest, beyond, smallest = trials
    return Floatings(mantissa[p], least[p], largest[p], beyond[p], smallest[p])


@njit(inline="always")
def _float_row(row: Floats, noise: Floats, scale: float, exact: bool, one: Floatings, mode: ModeNumbers) -> None:
    """One group, as in `_range_row`."""
    inverse = 1.0 / scale
    for i in range(len(row)):
        x = np.float64(row[i])
        t = x * inverse if exact else x / scale
        q = _float_of(t, noise, i, one, mode)
        if not exact:
            near = _float_of(t, noise, i, one, NEAREST)
            q = near if np.float32(near * scale) == row[i] else q
        row[i] = np.float32(q * scale)


@compiled
def to_shorter(w: Floats, first: int, mantissa: Integers) -> None:
    """Floating point with the exponents of float32, Inf included, to nearest: patterns truncated to fewer bits."""
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
def _float_of(t: Any, noise: Floats, i: int, one: Floatings, mode: ModeNumbers) -> Any:
    """t rounded to a floating-point number."""
    exponent = ((bits_of(t) >> 52) & 0x7FF) - 1023
    exponent = exponent if exponent > one.least else one.least  # min and max of integers: no longer vectorized
    exponent = exponent if exponent < FARTHEST else FARTHEST
    up = float_of_bits((one.mantissa - exponent + 1023) << 52)
    down = float_of_bits((exponent - one.mantissa + 1023) << 52)
    q = abs(rounded(t * up, noise, i, mode)) * down
    over = one.beyond
    if mode.number in (2, 3, 4):
        inward = (mode.number == 2) | ((mode.number == 3) & (t < 0.0)) | ((mode.number == 4) & (t > 0.0))
        over = one.largest if inward & (abs(t) != np.inf) else one.beyond
    q = over if q > one.largest else q
    q = one.smallest if q == 0.0 else q
    sign = np.int64(0) if (one.smallest > 0.0) & (t == 0.0) else bits_of(t) & SIGN
    return float_of_bits(bits_of(q) | sign)


# --- scales -----------------------------------------------------------------------------------------------------------


@compiled
def exponent_scales(w: Floats, width: int, shift: Integers, farthest: int, unit: float, scale: Doubles) -> None:
    """As qsweep.rounding.scales.by_exponent: a power of two, times `unit`, for each `width` values of a row."""
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
def to_blocks(w: Floats, out: Floats, noise: Floats, first: int, width: int, blocks: Blocks, mode: ModeNumbers) -> None:
    """`to_grid` under `exponent_scales`, `width` values under each, into `out`, which may be `w`."""
    shift, farthest, unit, lowest, highest = blocks
    in_place = out.ctypes.data == w.ctypes.data  # `out is w` made small blocks 4 % slower
    for p in range(w.shape[0]):
        own = first + p
        high = highest[own]
        for start in range(0, w.shape[1], width):
            largest = _largest_pattern(w[p, start : start + width].view(np.int32))
            scale = _exponent_scale(largest, shift[own], farthest) * unit
            grid = Grids(_lowest(lowest[own], high, scale), high, SATURATE)
            for i in range(start, start + width, CHUNK):
                j = min(i + CHUNK, start + width)
                row, drawn = out[p, i:j], noise[i:j]
                if not in_place:
                    copy(w[p, i:j], row)
                if mode.number == 0 and LEAST <= scale <= 1 / LEAST:
                    _single_row(row, np.float32(scale), np.float32(grid.lowest), np.float32(grid.highest))
                elif mode.number == 0:
                    _grid_row(row, drawn, scale, True, grid, NEAREST)
                elif mode.number == 1:
                    _grid_row(row, drawn, scale, True, grid, STOCHASTIC)
                else:
                    _grid_row(row, drawn, scale, True, grid, mode)


@njit(inline="always")
def _single_row(row: Floats, scale: np.float32, low: np.float32, high: np.float32) -> None:
    """`_grid_row` to nearest, in float32: exact, as the scale and its inverse are powers of two, not subnormal.

    A value that underflows before rounding becomes 0 in either.
    """
    inverse = ONE / scale
    for i in range(len(row)):
        r = np.rint(row[i] * inverse) + ZERO
        r = low if r < low else r
        r = high if r > high else r
        row[i] = r * scale
