"""The data of single-example training: a chain of linear layers, and the values that pass through it.

The parameters of a trial are one array: for each layer a matrix (inputs + 1, outputs), whose last row is the biases,
the weights of an input that is always 1. So are its values: the inputs of each layer, followed by that 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from qsweep.kernels.compiled import Doubles, Floats, Integers, called


class Batch(NamedTuple):
    """Examples, in order.

    Attributes:
        images: (T, features), uint8.
        starts, pixels: the pixels of example t that may be non-zero are pixels[starts[t]:starts[t + 1]].
        labels: (T,).
    """

    images: Any
    starts: Integers
    pixels: Any
    labels: Integers


class Net(NamedTuple):
    """A net and how it trains.

    Attributes:
        widths: of the input and of each layer.
        output: what follows the last layer (LINEAR, RELU, UNGATED).
        table: (channels, 256), the net's input for a pixel's byte.
        lr: the learning rate.
        rules: how each role is rounded (qsweep.kernels.roles).
    """

    widths: Integers
    output: int
    table: Doubles
    lr: float
    rules: Doubles


class Parameters(NamedTuple):
    """All weights and biases of a trial, and their master weights, if any."""

    weights: Doubles
    masters: Doubles


class Draws(NamedTuple):
    """Random numbers in [0, 1).

    Attributes:
        numbers: (T, values), or (values,) of one step: for each stochastic role, one per parameter or per output of a
            layer.
        offsets: where those of each role begin; -1 if it draws none.
    """

    numbers: Any
    offsets: Integers


class Results(NamedTuple):
    """Results of each example before its step, (T,): whether its label was predicted, its loss, and the prediction."""

    hits: Any
    losses: Doubles
    predicted: Any


class Room(NamedTuple):
    """Buffers for one example.

    Attributes:
        values, errors: of all layers in order.
        active: the indices of the values that are not 0.
        many: how many active values each layer has.
        reach: (layers, 2), bounds of parameters (`is_within`).
        moves: (2, parameters), updates, and the updated parameters.
    """

    values: Doubles
    errors: Doubles
    active: Any
    many: Integers
    reach: Doubles
    moves: Doubles


LINEAR, RELU, UNGATED = range(3)
"""What follows the last layer: nothing, a ReLU, or a ReLU that passes all errors backward."""


@called
def room(widths: Integers, parameters: int) -> Room:
    """Buffers for one example, with the bounds of parameters not yet computed."""
    count = 0
    for width in widths:
        count += width + 1
    reach = np.empty((len(widths), 2))
    reach[:] = np.inf
    active, many = np.empty(count, np.uint32), np.empty(len(widths), np.int64)
    return Room(np.empty(count), np.empty(count), active, many, reach, np.empty((2, parameters)))


@called
def part(drawn: Floats, offset: int, start: int, count: int) -> Floats:
    """A slice of a role's random numbers, if it has any."""
    return drawn[offset + start : offset + start + count] if offset >= 0 else drawn[:0]


@called
def matrix_of(parameters: Doubles, start: int, inputs: int, outputs: int) -> Doubles:
    """A layer's parameters as a matrix; empty if `parameters` is."""
    rows = inputs + 1 if len(parameters) else 0
    return parameters[start : start + rows * outputs].reshape(rows, outputs)


@called
def is_within(limit: float, reach: Doubles, matrix: Doubles, master: Doubles) -> Any:
    """Whether a layer's parameters are known to be below a limit.

    Args:
        reach: a bound of their magnitudes, which each step raises, and the bound when it was last computed; it is
            recomputed when that may help.
    """
    if reach[0] >= limit and not reach[0] < 2.0 * reach[1]:
        reach[:] = max(largest_of(matrix), largest_of(master))
    return reach[0] < limit


@called
def largest_of(matrix: Doubles) -> float:
    """The largest magnitude; NaN stays."""
    largest = 0.0
    for row in matrix:
        for value in row:
            largest = abs(value) if not abs(value) <= largest else largest
    return largest
