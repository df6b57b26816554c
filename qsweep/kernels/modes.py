"""Rounding to an integer, by mode. The formulas are written once, for one number in a kernel and for whole tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from qsweep.kernels.compiled import Floats


class ModeNumbers(NamedTuple):
    """A rounding mode as numbers.

    Attributes:
        number: which one (qsweep.rounding.modes.NUMBERS, or LIMITED for stochasticN).
        shares: 2^N of stochasticN, else 1.
    """

    number: int
    shares: float


NEAREST, STOCHASTIC = ModeNumbers(0, 1.0), ModeNumbers(1, 1.0)
"""The common modes. Kernels have separate loops for them, as a loop with a constant mode can be vectorized."""

Operation = Callable[..., Any]


def rounding(
    to_even: Operation, floor: Operation, ceil: Operation, trunc: Operation, as_float: Operation, signed: Operation,
    drawn: Operation,
) -> Operation:  # fmt: skip
    """The function that rounds numbers or tensors to integers, in operations on either.

    Not by `numba.extending.overload`, as in `optimizers`: loops that call overloaded functions are not vectorized.

    Args:
        to_even: the nearest integer, a tie to the even one.
        as_float: 1 or 0 for a condition, to be added to floats of either width.
        signed: a magnitude with the sign of a number. The sign of 0 is undefined, as all callers overwrite it.
        drawn: the random number of value `i` in `noise`.
    """

    def rounded(t: Any, noise: Any, i: Any, mode: ModeNumbers) -> Any:
        """t rounded to an integer, in its dtype, float32 or float64; only stochastic modes read noise, in [0, 1)."""
        if mode.number == 0:
            return to_even(t)
        if mode.number == 1:
            lower = floor(t)
            return lower + as_float(drawn(noise, i) < t - lower)
        if mode.number == 2:
            return trunc(t)
        if mode.number == 3:
            return ceil(t)
        if mode.number == 4:
            return floor(t)
        size = abs(t)
        whole = floor(size)
        rest = size - whole
        if mode.number == 5:
            whole = whole + as_float(rest >= 0.5)
        else:
            whole = whole + as_float(floor(drawn(noise, i) * mode.shares) < floor(rest * mode.shares))
        return signed(whole, t)

    return rounded


@njit(inline="always")
def _signed(size: Any, t: Any) -> Any:
    return -size if t < 0 else size


@njit(inline="always")
def _drawn(noise: Floats, i: int) -> Any:
    return noise[i]


rounded: Any = njit(rounding(np.rint, np.floor, np.ceil, np.trunc, np.float32, _signed, _drawn), inline="always")
"""For kernels: t is a number, the noise an array, which may be empty if the mode is not stochastic."""
