"""The element-wise laws of training, compiled for the CPU: one pass over memory instead of up to fourteen.

The bits are those of the tensor operations that run elsewhere (tests compare them): nothing is fused, reordered or
assumed away (`fastmath` is off), and `numpy` as error model keeps IEEE division. All work in place, because a loop
whose input and output might overlap is not vectorized: 0.3 instead of 1.8 ns a value.

Arguments: rows of weights `w` and gradients `g` (R, n), contiguous float32, and columns of settings (P,), of which row
0 has number `first`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

ZERO, ONE = np.float32(0), np.float32(1)
MULTIPLIERS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
WEYL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
WORDS = 1024
"""Random words that are drawn before they become numbers: few enough to stay in the first-level cache."""
LOW_24_BITS, SHARE = np.int32(0xFFFFFF), np.float32(2.0**-24)
HASH = np.int64(2654435761)
"""2^32 ÷ the golden ratio (Knuth, The Art of Computer Programming 3, 6.4)."""
FARTHEST = 160
"""No exponent of a float32 under a scale is larger; Inf would have 1024."""
INFINITE = np.int32(0x7F800000)
"""The bits of an infinite float32."""
TOO_LARGE = 2.0**128
"""The first power of two that float32 lacks."""
SIGN = np.int64(-(2**63))
"""The sign of a float64 among its bits."""


def compiled(law: Callable[..., Any]) -> Any:
    """Compile at the first call and keep the code beside this file or in the user's cache, where one can be written."""
    try:
        return njit(law, cache=True, error_model="numpy")
    except RuntimeError:  # numba found no folder to write to
        return njit(law, error_model="numpy")


# --- rounding ---------------------------------------------------------------------------------------------------------
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
        low, high = lowest[p], highest[p]
        for group in range(scale.shape[1]):
            s = scale[p, group]
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


def _bits_of(context: Any, value: Any) -> Any:
    """The 64 bits of a float64 as an integer."""
    return types.int64(types.float64), lambda _, builder, __, given: builder.bitcast(given[0], ir.IntType(64))


def _float_of_bits(context: Any, value: Any) -> Any:
    """The float64 of 64 bits."""
    return types.float64(types.int64), lambda _, builder, __, given: builder.bitcast(given[0], ir.DoubleType())


def _float_of_pattern(context: Any, value: Any) -> Any:
    """The float32 of 32 bits."""
    return types.float32(types.int32), lambda _, builder, __, given: builder.bitcast(given[0], ir.FloatType())


bits_of: Any = intrinsic(_bits_of)
float_of_pattern: Any = intrinsic(_float_of_pattern)
float_of_bits: Any = intrinsic(_float_of_bits)


# --- scales -----------------------------------------------------------------------------------------------------------


@compiled
def exponent_scales(
    w: Floats, width: int, shift: Integers, farthest: int, magnitude: Doubles, unit: float, scale: Doubles
) -> None:
    """The law of qsweep.rounding.scales.by_exponent: a power of two, times `unit`, for each `width` values of a row."""
    for p in range(w.shape[0]):
        for group in range(scale.shape[1]):
            largest = _largest_pattern(w[p, group * width : (group + 1) * width].view(np.int32))
            scale[p, group] = _exponent_scale(largest, shift[p], farthest, magnitude[p]) * unit


@njit(inline="always")
def _largest_pattern(patterns: Any) -> np.int32:
    """The bits of the largest magnitude: integers, since a maximum of floats is not vectorized."""
    largest = np.int32(0)
    for i in range(len(patterns)):
        magnitude = patterns[i] & np.int32(0x7FFFFFFF)
        largest = magnitude if magnitude > largest else largest
    return largest


@njit(inline="always")
def _exponent_scale(largest: np.int32, shift: int, farthest: int, magnitude: float) -> float:
    if largest >= INFINITE:
        return np.nan
    if largest == 0:
        return 1.0
    exponent = ((bits_of(np.float64(float_of_pattern(largest))) >> 52) & 0x7FF) - 1023 + shift
    exponent = min(max(exponent, -farthest), farthest)
    power: float = float_of_bits((min(max(exponent, -1022), 1023) + 1023) << 52)
    return power / 2.0 if power * magnitude >= TOO_LARGE else power


# --- random bits ------------------------------------------------------------------------------------------------------


@compiled
def uniforms(out: Floats, key: Any) -> None:
    """Multiples of 2^-24 in [0, 1) from Philox4x64-10 (Salmon et al. 2011), as numpy's bit generator of that name.

    Args:
        out: filled from its beginning on: 8 numbers a block, two from each of its words, the low half first.
        key: two words, uint64. The counter of the first block is 1.
    """
    words = np.empty(WORDS, np.uint64)
    halves = words.view(np.int32)
    for start in range(0, len(out), 2 * WORDS):  # words first, numbers after them: only so are both loops fast
        numbers = out[start : start + 2 * WORDS]
        for block in range((len(numbers) + 7) // 8):
            _philox(words[block * 4 : block * 4 + 4], np.uint64(start // 8 + block + 1), key[0], key[1])
        for i in range(len(numbers)):
            numbers[i] = np.float32(halves[i] & LOW_24_BITS) * SHARE


@njit(inline="always")
def _philox(words: Any, counter: Any, first: Any, second: Any) -> None:
    """One block: ten rounds."""
    a, b, c, d = counter, np.uint64(0), np.uint64(0), np.uint64(0)
    for _ in range(10):
        high, low = product(MULTIPLIERS[0], a)
        high2, low2 = product(MULTIPLIERS[1], c)
        a, b, c, d = high2 ^ b ^ first, low2, high ^ d ^ second, low
        first, second = first + WEYL[0], second + WEYL[1]
    words[0], words[1], words[2], words[3] = a, b, c, d


def _product(context: Any, x: Any, y: Any) -> Any:
    """The upper and the lower 64 bits of a product of two words."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        word, wide = ir.IntType(64), ir.IntType(128)
        both = builder.mul(builder.zext(given[0], wide), builder.zext(given[1], wide))
        high = builder.trunc(builder.lshr(both, ir.Constant(wide, 64)), word)
        return context.make_tuple(builder, signature.return_type, [high, builder.trunc(both, word)])

    pair: Any = types.UniTuple(types.uint64, 2)  # type: ignore[no-untyped-call]
    return pair(types.uint64, types.uint64), code


product: Any = intrinsic(_product)


# --- activations ------------------------------------------------------------------------------------------------------


@compiled
def masked_relu(x: Floats, mask: Floats) -> None:
    """relu(mask · x): rows (P, n) under one mask (n,), in place; NaN stays."""
    for p in range(x.shape[0]):
        for i in range(len(mask)):
            masked = x[p, i] * mask[i]
            x[p, i] = ZERO if masked <= ZERO else masked


@compiled
def masked_relu_back(error: Floats, output: Floats, mask: Floats) -> None:
    """The error (P, n) of x from that of `output` = relu(mask · x), in place."""
    for p in range(error.shape[0]):
        for i in range(len(mask)):
            masked = error[p, i] * mask[i]
            error[p, i] = ZERO if output[p, i] <= ZERO else masked


# --- counting ---------------------------------------------------------------------------------------------------------


@compiled
def outside(w: Floats, low: float, high: float) -> int:
    """How many of the values (n,) lie below `low` or above `high`."""
    count = 0
    for i in range(len(w)):
        count += (w[i] < low) | (w[i] > high)
    return count


@compiled
def moves(before: Floats, after: Floats, updates: Floats) -> tuple[int, int]:
    """How many updates are not 0, and how many of them left the value alone."""
    moving, stalled = 0, 0
    for i in range(len(before)):
        moves = updates[i] != ZERO
        moving += moves
        stalled += moves & (before[i] == after[i])
    return moving, stalled


@compiled
def distinct(values: Floats, slots: Any, found: int) -> int:
    """Add values to a set by open addressing; how many are in it then, or one more than half of its slots.

    Args:
        values: (n,).
        slots: the set, int64, of 2^17 slots with -1 for an empty one; NaN counts by its bits, -0 as 0.
        found: how many are in it already.
    """
    patterns = values.view(np.uint32)
    mask = len(slots) - 1
    for i in range(len(values)):
        pattern = np.int64(patterns[i]) if values[i] != ZERO else np.int64(0)
        slot = (pattern * HASH >> 15) & mask
        while slots[slot] != pattern and slots[slot] != -1:
            slot = (slot + 1) & mask
        if slots[slot] == -1:
            slots[slot] = pattern
            found += 1
            if found > len(slots) // 2:
                break
    return found


# --- optimizers -------------------------------------------------------------------------------------------------------
# Each subtracts its update from the weights, or, where not `subtract`, leaves it in the place of the gradient.


@compiled
def sgd(w: Floats, g: Floats, first: int, subtract: bool, lr: Floats, decay: Floats) -> None:
    """The update lr · g, weight decay added to g where it is not 0."""
    for p in range(w.shape[0]):
        rate, wd = lr[first + p], decay[first + p]
        for i in range(w.shape[1]):
            _put(w, g, p, i, _decayed(w[p, i], g[p, i], wd) * rate, subtract)


@compiled
def sgd_momentum(
    w: Floats, g: Floats, velocity: Floats, first: int, subtract: bool, lr: Floats, decay: Floats, momentum: Floats
) -> None:
    """As `sgd` along the velocity v = μ·v + g, which is kept."""
    for p in range(w.shape[0]):
        rate, wd, mu = lr[first + p], decay[first + p], momentum[first + p]
        for i in range(w.shape[1]):
            velocity[p, i] = velocity[p, i] * mu + _decayed(w[p, i], g[p, i], wd)
            _put(w, g, p, i, velocity[p, i] * rate, subtract)


@compiled
def rmsprop(
    w: Floats, g: Floats, square: Floats, first: int, subtract: bool, lr: Floats, decay: Floats, kept: Floats,
    new: Floats, eps: Floats,
) -> None:  # fmt: skip
    """RMSprop, whose running `square` keeps the share `kept` and takes in the share `new`."""
    for p in range(w.shape[0]):
        rate, wd, alpha, rest, e = lr[first + p], decay[first + p], kept[first + p], new[first + p], eps[first + p]
        for i in range(w.shape[1]):
            gradient = _decayed(w[p, i], g[p, i], wd)
            square[p, i] = square[p, i] * alpha + (gradient * gradient) * rest
            _put(w, g, p, i, gradient / (np.sqrt(square[p, i]) + e) * rate, subtract)


@compiled
def adam(
    w: Floats, g: Floats, mean: Floats, square: Floats, first: int, subtract: bool, lr: Floats, decay: Floats,
    eps: Floats, kept_mean: Floats, new_mean: Floats, share_mean: Floats,
    kept_square: Floats, new_square: Floats, share_square: Floats,
) -> None:  # fmt: skip
    """Adam, whose running `mean` and `square` are divided by the `share` of them that is not the initial 0."""
    for p in range(w.shape[0]):
        rate, wd, e = lr[first + p], decay[first + p], eps[first + p]
        beta, rest, share = kept_mean[first + p], new_mean[first + p], share_mean[first + p]
        beta2, rest2, share2 = kept_square[first + p], new_square[first + p], share_square[first + p]
        for i in range(w.shape[1]):
            gradient = _decayed(w[p, i], g[p, i], wd)
            mean[p, i] = mean[p, i] * beta + gradient * rest
            square[p, i] = square[p, i] * beta2 + (gradient * gradient) * rest2
            update = mean[p, i] / share / (np.sqrt(square[p, i] / share2) + e) * rate
            _put(w, g, p, i, update, subtract)


@njit(inline="always")
def _decayed(w: np.float32, g: np.float32, decay: np.float32) -> np.float32:
    return g + w * decay if decay != ZERO else g


@njit(inline="always")
def _put(w: Floats, g: Floats, p: int, i: int, update: np.float32, subtract: bool) -> None:
    if subtract:
        w[p, i] = w[p, i] - update
    else:
        g[p, i] = update
