"""Training on one example at a time: a chain of linear layers, each role in fixed point or in float32.

Numbers are float64 that hold multiples of a step. A sum of products of two fixed-point roles is exact: it is computed
in float64 while magnitudes stay below 2^53 units, otherwise in int64, and it overflows from 2^62 on. Zeros (pixels,
activations after a ReLU, errors that it blocks) are skipped: their products are exactly 0. An error is the gradient of
the loss by a layer's output, its grad_output.

`chain` has the data types, `chain_forward` and `chain_back` the forward and the backward pass.
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
"""How training ends."""


@compiled
def train(
    batch: Batch, net: Net, parameters: Parameters, draws: Draws, watched: int, results: Results, counts: Integers
) -> tuple[int, int]:
    """Train one trial on examples one by one, in place.

    Args:
        watched: the first of the steps that are counted.

    Returns:
        How it ended (DONE, NOT_FINITE, OVERFLOW), and at which step.
    """
    own, nothing = room(net.widths, len(parameters.weights)), np.empty((len(net.rules), 0), np.int64)
    last = len(own.values) - net.widths[-1] - 1
    # Unpacked once: each attribute access in the loop costs time.
    images, starts, all_pixels, labels = batch
    hits, losses, predicted = results
    values, active, many, table, output = own.values, own.active, own.many, net.table, net.output
    numbers, offsets = draws
    outputs, errors = own.values[last:-1], own.errors[last:-1]
    for t in range(len(labels)):
        drawn, label = Draws(numbers[t], offsets), labels[t]
        own_counts = counts if t >= watched else nothing
        pixels = all_pixels[starts[t] : starts[t + 1]]
        many[0] = take_pixels(images[t], pixels, table, values, active)
        if not forward(net, parameters, drawn, own, own_counts):
            return OVERFLOW, t
        predicted[t] = first_largest(outputs)
        hits[t] = predicted[t] == label
        losses[t] = errors_of(outputs, label, output, errors)
        if not np.isfinite(losses[t]):
            return NOT_FINITE, t
        if not backward(net, parameters, drawn, own, own_counts):
            return OVERFLOW, t
    return DONE, len(labels)


@compiled
def evaluate(batch: Batch, net: Net, weights: Doubles, results: Results) -> None:
    """The forward pass alone, for each example; no rule is stochastic."""
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
    """The non-zero pixels of each image, or all of them, as `train` takes them."""
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
