"""Activation functions, forward and backward."""

from __future__ import annotations

from qsweep.kernels.compiled import ZERO, Flags, Floats, compiled


@compiled
def masked_relu(x: Floats, mask: Floats) -> None:
    """relu(mask · x): rows (P, n) under one mask (n,), in place; NaN stays."""
    for p in range(x.shape[0]):
        for i in range(len(mask)):
            masked = x[p, i] * mask[i]
            x[p, i] = ZERO if masked <= ZERO else masked


@compiled
def masked_relu_back(error: Floats, output: Floats, mask: Floats) -> None:
    """Turn the error (P, n) of `output` = relu(mask · x) into that of x, in place. An error is a grad_output."""
    for p in range(error.shape[0]):
        for i in range(len(mask)):
            masked = error[p, i] * mask[i]
            error[p, i] = ZERO if output[p, i] <= ZERO else masked


@compiled
def relu(x: Floats, passing: Flags) -> None:
    """max(x, 0) of values (n,), in place, and where errors pass backward: not where x <= 0; NaN stays."""
    for i in range(len(x)):
        passing[i] = not x[i] <= ZERO
        x[i] = ZERO if x[i] < ZERO else x[i]


@compiled
def relu_back(error: Floats, passing: Flags) -> None:
    """Turn the error (n,) of a ReLU's output into that of its input, in place."""
    for i in range(len(error)):
        error[i] = error[i] if passing[i] else ZERO
