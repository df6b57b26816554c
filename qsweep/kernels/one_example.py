"""Training on one example at a time: a chain of dense layers, each role in fixed point or in float32.

Numbers are float64 that hold multiples of a step. A sum of products of two fixed-point roles is exact: it is taken in
float64 where the magnitudes stay below 2^53 units, in int64 where they do not, and from 2^62 on it overflows. What is 0
(pixels, activations behind a ReLU, errors that it blocks) takes no part: its products are exactly 0.

`chain` has what these kernels work on, `chain_forward` and `chain_back` an example's way through the net and back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qsweep.kernels.chain import Batch, Draws, Net, Parameters, Results, part, room
from qsweep.kernels.chain_back import backward, errors_of
from qsweep.kernels.chain_forward import first_largest, forward, take_pixels
from qsweep.kernels.compiled import Doubles, Integers, compiled
from qsweep.kernels.roles import round_role

DONE, NOT_FINITE, OVERFLOW = range(3)
"""How a course ends."""


@compiled
def train(
    batch: Batch, net: Net, parameters: Parameters, draws: Draws, watched: int, results: Results, counts: Integers
) -> tuple[int, int]:
    """Train one trial on some examples in turn, in place.

    Args:
        watched: the first of the steps that are counted.

    Returns:
        How it ended (DONE, NOT_FINITE, OVERFLOW), and the step that it ended at.
    """
    own, nothing = room(net.widths, len(parameters.weights)), np.empty((len(net.rules), 0), np.int64)
    last = len(own.values) - net.widths[-1] - 1
    # Taken out once, as each time costs.
    images, starts, all_pixels, labels = batch
    hits, losses, predicted = results
    values, active, many, table, output = own.values, own.active, own.many, net.table, net.output
    numbers, offsets = draws
    outputs, errors = own.values[last:-1], own.errors[last:-1]
    for t in range(len(labels)):
        drawn, label = Draws(numbers[t], offsets), labels[t]
        told = counts if t >= watched else nothing
        pixels = all_pixels[starts[t] : starts[t + 1]]
        many[0] = take_pixels(images[t], pixels, table, values, active)
        if not forward(net, parameters, drawn, own, told):
            return OVERFLOW, t
        predicted[t] = first_largest(outputs)
        hits[t] = predicted[t] == label
        losses[t] = errors_of(outputs, label, output, errors)
        if not np.isfinite(losses[t]):
            return NOT_FINITE, t
        if not backward(net, parameters, drawn, own, told):
            return OVERFLOW, t
    return DONE, len(labels)


@compiled
def evaluate(batch: Batch, net: Net, weights: Doubles, results: Results) -> None:
    """The same without a step; no rule draws."""
    own, nothing = room(net.widths, 0), np.empty((len(net.rules), 0), np.int64)
    parameters, drawn = Parameters(weights, weights[:0]), Draws(np.empty(0, np.float32), np.full(len(net.rules), -1))
    last = len(own.values) - net.widths[-1] - 1
    outputs, errors = own.values[last:-1], own.errors[last:-1]
    for t in range(len(batch.labels)):
        pixels = batch.pixels[batch.starts[t] : batch.starts[t + 1]]
        own.many[0] = take_pixels(batch.images[t], pixels, net.table, own.values, own.active)
        forward(net, parameters, drawn, own, nothing)
        results.predicted[t] = first_largest(outputs)
        results.hits[t] = results.predicted[t] == batch.labels[t]
        results.losses[t] = errors_of(outputs, batch.labels[t], net.output, errors)


@compiled
def find_pixels(images: Any, is_dense: bool, starts: Integers, pixels: Any) -> None:
    """The pixels of each image that are not 0, or all of them: what `train` takes."""
    count = 0
    for t in range(len(images)):
        starts[t] = count
        for i in range(images.shape[1]):
            pixels[count] = i
            count += is_dense or images[t, i] != 0
    starts[len(images)] = count


@compiled
def quantize(widths: Integers, rules: Doubles, copies: Doubles, draws: Draws, weight: int, bias: int) -> None:
    """Round all parameters in place; the roles are those of weights and of biases."""
    start, nothing = 0, np.empty((len(rules), 0), np.int64)
    numbers, offsets = draws
    for layer in range(len(widths) - 1):
        for end, role in (
            (start + widths[layer] * widths[layer + 1], weight),
            (start + (widths[layer] + 1) * widths[layer + 1], bias),
        ):
            round_role(copies[start:end], part(numbers, offsets[role], start, end - start), rules, role, nothing)
            start = end
