"""The optimizers. Each subtracts its update from the weights or, where not `subtract`, leaves it in the gradients.

Arguments: rows of weights `w` and gradients `g` (R, n), contiguous float32, and columns of settings (P,), of which row
0 has number `first`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from qsweep.kernels.compiled import ZERO, Floats, compiled


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
