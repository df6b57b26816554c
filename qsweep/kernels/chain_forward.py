"""The forward pass of one example through a chain of linear layers: from its pixels to the outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from qsweep.kernels.chain import LINEAR, Draws, Net, Parameters, Room, is_within, matrix_of, part
from qsweep.kernels.compiled import Doubles, Floats, Integers, called
from qsweep.kernels.roles import ACTIVATION, EXACT, WEIGHT, from_units, overflows, round_role, steps_of, unit_of


@called
def take_pixels(image: Any, pixels: Any, table: Doubles, values: Doubles, active: Any) -> int:
    """Write the values of pixels, and the indices of non-zero ones and of the 1 after them; how many indices."""
    count, size = 0, len(image) // len(table)
    for i in pixels:
        values[i] = table[i // size, image[i]] if len(table) > 1 else table[0, image[i]]
        active[count] = i  # overwritten by the next one if it is 0: no branch to mispredict
        count += values[i] != 0.0
    active[count], values[len(image)] = len(image), 1.0
    return count + 1


@called
def forward(net: Net, parameters: Parameters, draws: Draws, room: Room, counts: Integers) -> bool:
    """Compute all layers; returns whether no sum overflowed."""
    widths, rules = net.widths, net.rules
    (weights, masters), (numbers, offsets) = parameters, draws
    values, active, many, reach, output = room.values, room.active, room.many, room.reach, net.output
    at, start, last = 0, 0, len(widths) - 2
    for layer in range(last + 1):
        inputs, outputs = widths[layer], widths[layer + 1]
        matrix, master = matrix_of(weights, start, inputs, outputs), matrix_of(masters, start, inputs, outputs)
        x, chosen = values[at : at + inputs + 1], active[at : at + many[layer]]
        at, start = at + inputs + 1, start + matrix.size
        out, drawn = values[at : at + outputs], part(numbers, offsets[ACTIVATION], at - widths[0] - 1, outputs)
        limit = EXACT / 2.0 * unit_of(rules, ACTIVATION, WEIGHT) / _sum(x, chosen)
        if is_within(limit, reach[layer], matrix, master):
            _products(x, chosen, matrix, out)
            round_role(out, drawn, rules, ACTIVATION, counts)
        elif not _wide_products(x, chosen, matrix, out, drawn, rules, counts):
            return False
        if layer < last or output != LINEAR:
            for i in range(outputs):
                out[i] = 0.0 if out[i] < 0.0 else out[i]
        count = 0
        for i in range(outputs):
            active[at + count] = i
            count += out[i] != 0.0
        active[at + count], values[at + outputs] = outputs, 1.0
        many[layer + 1] = count + 1
    return True


@called
def _sum(x: Doubles, chosen: Any) -> float:
    """The sum of the chosen magnitudes."""
    total = 0.0
    for j in chosen:
        total += abs(x[j])
    return total


@called
def _products(x: Doubles, chosen: Any, matrix: Doubles, out: Doubles) -> None:
    """A layer's sums of products, in the order of its inputs; four at a time, as a loop over outputs has overhead."""
    out[:] = 0.0
    whole = len(chosen) // 4 * 4
    for k in range(0, whole, 4):
        a, b, c, d = chosen[k], chosen[k + 1], chosen[k + 2], chosen[k + 3]
        first, second, third, fourth = matrix[a], matrix[b], matrix[c], matrix[d]
        for i in range(len(out)):
            out[i] = (((out[i] + x[a] * first[i]) + x[b] * second[i]) + x[c] * third[i]) + x[d] * fourth[i]
    for j in chosen[whole:]:
        row = matrix[j]
        for i in range(len(out)):
            out[i] += x[j] * row[i]


@called
def _wide_products(
    x: Doubles, chosen: Any, matrix: Doubles, out: Doubles, drawn: Floats, rules: Doubles, counts: Integers
) -> bool:
    """The same if a float64 may not hold the sums, rounded; returns whether none overflowed."""
    _products(x, chosen, matrix, out)
    unit = unit_of(rules, ACTIVATION, WEIGHT)
    largest = 0.0
    for i in range(len(out)):
        size = 0.0
        for j in chosen:
            size += abs(x[j] * matrix[j, i])
        largest = max(largest, size)
    if overflows(largest, unit, rules, ACTIVATION):
        return False
    if not largest >= EXACT * unit:
        round_role(out, drawn, rules, ACTIVATION, counts)
        return True
    for i in range(len(out)):
        total = np.int64(matrix[len(matrix) - 1, i] / unit)
        for j in chosen[:-1]:
            total += steps_of(x[j], rules, ACTIVATION) * steps_of(matrix[j, i], rules, WEIGHT)
        out[i] = from_units(total, unit, drawn, i, rules, ACTIVATION)
    return True


@called
def first_largest(outputs: Doubles) -> int:
    best = 0
    for i in range(1, len(outputs)):
        best = i if outputs[i] > outputs[best] else best
    return best
