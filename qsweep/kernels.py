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
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]

ZERO, ONE = np.float32(0), np.float32(1)


def compiled(law: Callable[..., None]) -> Any:
    """Compile at the first call and keep the code beside this file or in the user's cache, where one can be written."""
    try:
        return njit(law, cache=True, error_model="numpy")
    except RuntimeError:  # numba found no folder to write to
        return njit(law, error_model="numpy")


@compiled
def range_nearest(w: Floats, first: int, per_unit: Floats, lowest: Floats, highest: Floats, zeroless: Floats) -> None:
    """Round to the levels of qsweep.formats.Range, ties to even. The settings are those of qsweep.rounding.Ranges."""
    for p in range(w.shape[0]):
        s, low, high, move = per_unit[first + p], lowest[first + p], highest[first + p], zeroless[first + p]
        for i in range(w.shape[1]):
            r = np.rint(w[p, i] * s) + ZERO
            w[p, i] = _level(r, w[p, i], low, high, move) / s


@compiled
def range_stochastic(
    w: Floats, noise: Floats, first: int, per_unit: Floats, lowest: Floats, highest: Floats, zeroless: Floats
) -> None:
    """As `range_nearest`, but to a neighbour, up if the row's share of the `noise` (n,) is below the distance."""
    for p in range(w.shape[0]):
        s, low, high, move = per_unit[first + p], lowest[first + p], highest[first + p], zeroless[first + p]
        for i in range(w.shape[1]):
            x = w[p, i] * s
            lower = np.floor(x)
            r = lower + (ONE if noise[i] < x - lower else ZERO)
            nearest = np.rint(x) + ZERO
            r = nearest if nearest / s == w[p, i] else r  # a level never moves, even where x misses its integer
            w[p, i] = _level(r, w[p, i], low, high, move) / s


@njit(inline="always")
def _level(r: np.float32, w: np.float32, lowest: np.float32, highest: np.float32, zeroless: np.float32) -> np.float32:
    """The level of a rounded value: one step from 0 by the sign of w where 0 is none, then clipped; NaN stays."""
    sign = (ONE if w > ZERO else ZERO) - (ONE if w < ZERO else ZERO)
    r = r + (sign * zeroless if r == ZERO else ZERO)
    r = lowest if r < lowest else r
    return highest if r > highest else r


@compiled
def sgd(w: Floats, g: Floats, first: int, lr: Floats, decay: Floats) -> None:
    """Subtract lr · g, weight decay added to g where it is not 0."""
    for p in range(w.shape[0]):
        rate, wd = lr[first + p], decay[first + p]
        for i in range(w.shape[1]):
            w[p, i] = w[p, i] - _decayed(w[p, i], g[p, i], wd) * rate


@compiled
def sgd_momentum(
    w: Floats, g: Floats, velocity: Floats, first: int, lr: Floats, decay: Floats, momentum: Floats
) -> None:
    """As `sgd` along the velocity v = μ·v + g, which is kept."""
    for p in range(w.shape[0]):
        rate, wd, mu = lr[first + p], decay[first + p], momentum[first + p]
        for i in range(w.shape[1]):
            velocity[p, i] = velocity[p, i] * mu + _decayed(w[p, i], g[p, i], wd)
            w[p, i] = w[p, i] - velocity[p, i] * rate


@compiled
def rmsprop(
    w: Floats, g: Floats, square: Floats, first: int, lr: Floats, decay: Floats, kept: Floats, new: Floats, eps: Floats
) -> None:
    """RMSprop, whose running `square` keeps the share `kept` and takes in the share `new`."""
    for p in range(w.shape[0]):
        rate, wd, alpha, rest, e = lr[first + p], decay[first + p], kept[first + p], new[first + p], eps[first + p]
        for i in range(w.shape[1]):
            gradient = _decayed(w[p, i], g[p, i], wd)
            square[p, i] = square[p, i] * alpha + (gradient * gradient) * rest
            w[p, i] = w[p, i] - gradient / (np.sqrt(square[p, i]) + e) * rate


@compiled
def adam(
    w: Floats, g: Floats, mean: Floats, square: Floats, first: int, lr: Floats, decay: Floats, eps: Floats,
    kept_mean: Floats, new_mean: Floats, share_mean: Floats,
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
            w[p, i] = w[p, i] - mean[p, i] / share / (np.sqrt(square[p, i] / share2) + e) * rate


@njit(inline="always")
def _decayed(w: np.float32, g: np.float32, decay: np.float32) -> np.float32:
    return g + w * decay if decay != ZERO else g
