"""What the kernels of single-example training work on: a chain of dense layers, and the values that pass through it.

The parameters of a trial lie in one array: of each layer a matrix (inputs + 1, outputs), whose last row are the biases,
the weights of an input that is always 1. Its values too: the inputs of each layer, and that 1 behind them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from qsweep.kernels.compiled import Doubles, Floats, Integers, called


class Batch(NamedTuple):
    """Examples, one after the other.

    Attributes:
        images: (T, features), uint8.
        starts, pixels: those of example t that may be other than 0 are pixels[starts[t]:starts[t + 1]].
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
        table: (channels, 256), what a pixel's byte is to the net.
        lr: the learning rate.
        rules: what each role rounds to (qsweep.kernels.roles).
    """

    widths: Integers
    output: int
    table: Doubles
    lr: float
    rules: Doubles


class Parameters(NamedTuple):
    """All weights and biases of a trial, and their master copies, or none."""

    weights: Doubles
    masters: Doubles


class Draws(NamedTuple):
    """Random numbers in [0, 1).

    Attributes:
        numbers: (T, values), or (values,) of one step: of each role that draws, one per parameter or per output of a
            layer.
        offsets: where those of each role begin; -1 of one that draws none.
    """

    numbers: Any
    offsets: Integers


class Results(NamedTuple):
    """What each example gave before its step, (T,): whether its label was predicted, its loss, and the prediction."""

    hits: Any
    losses: Doubles
    predicted: Any


class Room(NamedTuple):
    """What one example fills.

    Attributes:
        values, errors: of all layers one after the other.
        active: the indices of the values that are not 0.
        many: how many these are in each layer.
        reach: (layers, 2), how far parameters reach (`is_within`).
        moves: (2, parameters), updates, and what they give.
    """

    values: Doubles
    errors: Doubles
    active: Any
    many: Integers
    reach: Doubles
    moves: Doubles


LINEAR, RELU, UNGATED = range(3)
"""What follows the last layer: nothing, a ReLU, or a ReLU that lets all errors through."""


@called
def room(widths: Integers, parameters: int) -> Room:
    """Room for one example; how far parameters reach is to be looked up."""
    count = 0
    for width in widths:
        count += width + 1
    reach = np.empty((len(widths), 2))
    reach[:] = np.inf
    active, many = np.empty(count, np.uint32), np.empty(len(widths), np.int64)
    return Room(np.empty(count), np.empty(count), active, many, reach, np.empty((2, parameters)))


@called
def part(drawn: Floats, offset: int, start: int, count: int) -> Floats:
    """Some of a role's draws, where there are any."""
    return drawn[offset + start : offset + start + count] if offset >= 0 else drawn[:0]


@called
def matrix_of(parameters: Doubles, start: int, inputs: int, outputs: int) -> Doubles:
    """A layer's parameters; none where there are none."""
    rows = inputs + 1 if len(parameters) else 0
    return parameters[start : start + rows * outputs].reshape(rows, outputs)


@called
def is_within(limit: float, reach: Doubles, matrix: Doubles, master: Doubles) -> Any:
    """Whether a layer's parameters surely are below a limit.

    Args:
        reach: a bound of their magnitudes, which each step moves on, and what it was when it was last looked up: it is
            looked up again where that may help.
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
