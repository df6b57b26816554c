"""Rounding the values of a role when training on one example at a time: to fixed point of any width, or to float32.
Numbers are float64 that hold multiples of the role's step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from qsweep.kernels.compiled import Doubles, Floats, Integers, called
from qsweep.kernels.modes import NEAREST, STOCHASTIC, ModeNumbers, rounded

WEIGHT, BIAS, ACTIVATION, ERROR, GRADIENT, UPDATE, MASTER = (np.int64(i) for i in range(7))
"""Rows of the rules, the offsets and the counts: one per role. They are int64: for Python integers each function would
be recompiled."""
IS_FIXED, STEP, LOWEST, HIGHEST, MODE, SHARES = range(6)
"""Columns of the rules: whether a role is in fixed point (else float32), its step (else 0), the lowest and the highest
integer, the number of the rounding mode (qsweep.rounding.modes) and its shares."""
SEEN, CLIPPED, ZEROS, MOVES, STALLED = range(5)
"""Columns of the counts: rounded non-zero values, those out of range, those that became 0; non-zero updates of stored
values, and those lost to rounding."""
EXACT, WIDE = 2.0**53, 2.0**62
"""How many units a sum may reach at most in a float64, and in a 64-bit accumulator."""


@called
def unit_of(rules: Doubles, one: Any, other: Any) -> Any:
    """The unit of products of two roles, in which they are integers; Inf if one is not fixed point."""
    return rules[one, STEP] * rules[other, STEP] if rules[one, IS_FIXED] and rules[other, IS_FIXED] else np.inf


@called
def overflows(largest: float, unit: float, rules: Doubles, role: Any) -> Any:
    """Whether magnitudes have too many units for the accumulator, or too many steps for their role."""
    return np.inf > unit <= largest / WIDE or (rules[role, IS_FIXED] > 0.0 and largest >= EXACT * rules[role, STEP])


@called
def total_step(rules: Doubles) -> float:
    """The sum of all steps: no rounding moves a parameter further."""
    total = 0.0
    for rule in rules:
        total += rule[STEP]
    return total


@called
def finest_step(rules: Doubles) -> float:
    """The finest step of the parameters; Inf if all are float32."""
    finest = np.inf
    for role in (WEIGHT, BIAS, MASTER):
        finest = min(finest, rules[role, STEP]) if rules[role, IS_FIXED] else finest
    return finest


@called
def stays_on(rules: Doubles) -> Any:
    """Whether weights and biases stay representable when an update is subtracted: its step is a multiple of theirs, and
    their range is unbounded."""
    is_fixed = rules[WEIGHT, IS_FIXED] > 0.0 and rules[BIAS, IS_FIXED] > 0.0 and rules[UPDATE, IS_FIXED] > 0.0
    has_ends = min(rules[WEIGHT, HIGHEST], rules[BIAS, HIGHEST]) < np.inf
    return is_fixed and not has_ends and rules[UPDATE, STEP] >= max(rules[WEIGHT, STEP], rules[BIAS, STEP])


@called
def mode_of(rules: Doubles, role: Any) -> ModeNumbers:
    """The rounding mode of a role."""
    return ModeNumbers(int(rules[role, MODE]), rules[role, SHARES])


@called
def steps_of(value: float, rules: Doubles, role: Any) -> Any:
    """A value of a role as an integer."""
    return np.int64(value / rules[role, STEP])


@called
def round_role(values: Doubles, drawn: Floats, rules: Doubles, role: Any, counts: Integers) -> None:
    """Round the values of a role in place; count clipped values and zeros if `counts` is not empty."""
    if counts.size:
        _count(values, rules, role, counts, 1)
    mode = mode_of(rules, role)
    if not rules[role, IS_FIXED]:
        for i in range(len(values)):
            values[i] = np.float64(np.float32(values[i]))
    elif mode.number == 0:
        _fix(values, drawn, rules, role, NEAREST)
    elif mode.number == 1:
        _fix(values, drawn, rules, role, STOCHASTIC)
    else:
        _fix(values, drawn, rules, role, mode)
    if counts.size:
        _count(values, rules, role, counts, -1)


@njit(inline="always")
def _fix(values: Doubles, drawn: Floats, rules: Doubles, role: Any, mode: ModeNumbers) -> None:
    """Called with constants for the common modes above, so that the loop is vectorized."""
    step, low, high = rules[role, STEP], rules[role, LOWEST], rules[role, HIGHEST]
    inverse = 1.0 / step
    for i in range(len(values)):
        r = rounded(values[i] * inverse, drawn, i, mode) + 0.0
        r = low if r < low else r
        r = high if r > high else r
        values[i] = r * step


@called
def _count(values: Doubles, rules: Doubles, role: Any, counts: Integers, sign: int) -> None:
    """Before rounding (sign 1) count non-zero and out-of-range values; after it (-1) subtract those still non-zero."""
    low, high = rules[role, LOWEST] * rules[role, STEP], rules[role, HIGHEST] * rules[role, STEP]
    some, beyond = 0, 0
    for i in range(len(values)):
        some += values[i] != 0.0
        beyond += (values[i] < low) | (values[i] > high)
    counts[role, ZEROS] += sign * some
    if sign > 0 and rules[role, IS_FIXED]:
        counts[role, SEEN] += some
        counts[role, CLIPPED] += beyond


@called
def from_units(total: int, unit: float, drawn: Floats, i: int, rules: Doubles, role: Any) -> Any:
    """Round an accumulator's units to the format of a role."""
    if not rules[role, IS_FIXED]:
        return np.float64(np.float32(np.float64(total) * unit))
    shift, reached = 0, unit
    while reached < rules[role, STEP]:
        reached *= 2.0
        shift += 1
    whole = total >> shift
    part = np.float64(total - (whole << shift)) * (unit / reached)
    up = goes_up(whole, part, drawn, i, mode_of(rules, role))
    steps = np.float64(whole + np.int64(up)) * (reached / rules[role, STEP])
    return min(max(steps, rules[role, LOWEST]), rules[role, HIGHEST]) * rules[role, STEP]


@called
def goes_up(whole: int, part: float, drawn: Floats, i: int, mode: ModeNumbers) -> Any:
    """Whether `whole` + `part`, `part` in [0, 1), is rounded up: qsweep.kernels.modes.rounded for numbers that a
    float64 cannot hold."""
    negative, (number, shares) = whole < 0, mode
    if number == 0:
        return part > 0.5 or (part == 0.5 and whole & 1 == 1)
    if number == 1:
        return drawn[i] < part
    if number == 2:
        return negative and part > 0.0
    if number == 3:
        return part > 0.0
    if number == 4:
        return False
    if number == 5:
        return part > 0.5 or (part == 0.5 and not negative)
    if negative:  # the fraction of the magnitude is 1 - part
        return part > 0.0 and not np.floor(drawn[i] * shares) < np.floor((1.0 - part) * shares)
    return np.floor(drawn[i] * shares) < np.floor(part * shares)
