"""The backward pass of one example through a chain of linear layers: errors layer by layer, and each layer's step."""

from __future__ import annotations

from typing import Any

import numpy as np

from qsweep.kernels.chain import RELU, Draws, Net, Parameters, Room, is_within, largest_of, matrix_of, part
from qsweep.kernels.compiled import Doubles, Floats, Integers, called
from qsweep.kernels.roles import (
    ACTIVATION,
    BIAS,
    ERROR,
    EXACT,
    GRADIENT,
    MASTER,
    MOVES,
    STALLED,
    STEP,
    UPDATE,
    WEIGHT,
    finest_step,
    from_units,
    overflows,
    round_role,
    stays_on,
    steps_of,
    total_step,
    unit_of,
)

ROUNDED_UP = 1.0 + 2.0**-20
"""A margin that keeps a bound valid despite its own rounding and that of roles in float32."""


@called
def errors_of(outputs: Doubles, label: int, output: int, errors: Doubles) -> float:
    """The errors at the outputs, o - y, where the ReLU passes them; returns the loss, half the sum of squares."""
    loss = 0.0
    for i in range(len(outputs)):
        error = outputs[i] - (1.0 if i == label else 0.0)
        loss += error * error / 2.0
        errors[i] = 0.0 if output == RELU and outputs[i] == 0.0 else error
    return loss


@called
def backward(net: Net, parameters: Parameters, draws: Draws, room: Room, counts: Integers) -> bool:
    """Compute errors from layer to layer and take each layer's step; returns whether nothing overflowed."""
    widths, rules, lr = net.widths, net.rules, net.lr
    (weights, masters), (numbers, offsets) = parameters, draws
    values, errors, active, many, reach, moves = room
    at, start, last = len(values) - widths[-1] - 1, len(weights), len(widths) - 2
    round_role(errors[at:-1], part(numbers, offsets[ERROR], at - widths[0] - 1, widths[-1]), rules, ERROR, counts)
    if not errors[at:-1].any():
        return True
    for layer in range(last, -1, -1):
        inputs, outputs = widths[layer], widths[layer + 1]
        before, start = at - inputs - 1, start - (inputs + 1) * outputs
        error, x, chosen = errors[at : at + outputs], values[before:at], active[before : before + many[layer]]
        matrix, master = matrix_of(weights, start, inputs, outputs), matrix_of(masters, start, inputs, outputs)
        if layer > 0:
            drawn = part(numbers, offsets[ERROR], before - widths[0] - 1, inputs)
            if not _errors_before(error, chosen[:-1], matrix, errors[before : at - 1], drawn, rules, counts):
                return False
        if not step(x, error, chosen, lr, rules, matrix, master, start, numbers, offsets, moves, reach[layer], counts):
            return False
        at = before
    return True


@called
def _errors_before(
    error: Doubles, chosen: Any, matrix: Doubles, before: Doubles, drawn: Floats, rules: Doubles, counts: Integers
) -> bool:
    """The errors of a layer's inputs, rounded, where the ReLU before it passes them; whether none overflowed."""
    unit = unit_of(rules, WEIGHT, ERROR)
    before[:] = 0.0
    for j in chosen:
        total, size = 0.0, 0.0
        for i in range(len(error)):
            product = matrix[j, i] * error[i]
            total += product
            size += abs(product)
        if overflows(size, unit, rules, ERROR):
            return False
        if not size >= EXACT * unit:
            before[j] = total
            round_role(before[j : j + 1], drawn[j : j + 1], rules, ERROR, counts)
            continue
        units = np.int64(0)
        for i in range(len(error)):
            units += steps_of(matrix[j, i], rules, WEIGHT) * steps_of(error[i], rules, ERROR)
        before[j] = from_units(units, unit, drawn, j, rules, ERROR)
    return True


# Within a layer, arguments stay positional: tuples of arrays that are unpacked for each layer of each example made a
# trial 5 to 10 % slower, as numba counts references to what it unpacks.


@called
def step(
    x: Doubles, error: Doubles, chosen: Any, lr: float, rules: Doubles, matrix: Doubles, master: Doubles, start: int,
    drawn: Any, offsets: Integers, moves: Doubles, reach: Doubles, counts: Integers,
) -> Any:  # fmt: skip
    """The step of the layer's parameters that change; returns whether nothing overflowed."""
    rows, columns = chosen[:-1], _not_zero(error)
    total = (len(rows) + 1) * len(columns)
    if total == 0:
        return True
    largest, unit = max(_greatest(x, rows), 1.0) * _greatest(error, columns), unit_of(rules, ACTIVATION, ERROR)
    furthest = (largest + rules[GRADIENT, STEP]) * lr  # of the updates: gradients are rounded first
    if overflows(largest, unit, rules, GRADIENT) or overflows(furthest, unit, rules, UPDATE):
        return False
    moved = moves[0, :total]
    own = _taken(drawn, offsets[GRADIENT], rows, columns, start, matrix)
    if largest >= EXACT * unit:
        _wide_gradients(x, error, rows, columns, moved, own, rules)
    else:
        _gradients(x, error, rows, columns, moved)
        round_role(moved, own, rules, GRADIENT, counts)
    for k in range(total):
        moved[k] *= lr
    round_role(moved, _taken(drawn, offsets[UPDATE], rows, columns, start, matrix), rules, UPDATE, counts)
    if not counts.size and not len(master) and stays_on(rules):
        _subtract_from(matrix, moved, rows, columns)
    else:
        _replace(moved, moves[1, :total], rows, columns, matrix, master, start, rules, drawn, offsets, counts)
    reach[0] = (reach[0] + furthest + total_step(rules)) * ROUNDED_UP
    limit = EXACT * finest_step(rules)
    return limit == np.inf or is_within(limit, reach, matrix, master) or largest_of(matrix) < limit


@called
def _not_zero(error: Doubles) -> Any:
    found, count = np.empty(len(error), np.uint32), 0
    for i in range(len(error)):
        found[count] = i
        count += error[i] != 0.0
    return found[:count]


@called
def _greatest(values: Doubles, chosen: Any) -> float:
    """The largest magnitude of the chosen values."""
    greatest = 0.0
    for i in chosen:
        greatest = max(greatest, abs(values[i]))
    return greatest


# Parameters that change are stored output by output, an output's weights in the order of their rows; biases come last.


@called
def _gradients(x: Doubles, error: Doubles, rows: Any, columns: Any, moved: Doubles) -> None:
    """Products of inputs and errors."""
    count, biases = len(rows), len(rows) * len(columns)
    for c in range(len(columns)):
        own = error[columns[c]]
        for k in range(count):
            moved[c * count + k] = x[rows[k]] * own
        moved[biases + c] = own


@called
def _wide_gradients(
    x: Doubles, error: Doubles, rows: Any, columns: Any, moved: Doubles, drawn: Floats, rules: Doubles
) -> None:
    """The same if a float64 may not hold them, rounded."""
    unit, at = unit_of(rules, ACTIVATION, ERROR), 0
    for column in columns:
        own = steps_of(error[column], rules, ERROR)
        for row in rows:
            moved[at] = from_units(steps_of(x[row], rules, ACTIVATION) * own, unit, drawn, at, rules, GRADIENT)
            at += 1
    for column in columns:
        units = steps_of(error[column], rules, ERROR) * steps_of(1.0, rules, ACTIVATION)
        moved[at] = from_units(units, unit, drawn, at, rules, GRADIENT)
        at += 1


@called
def _taken(drawn: Floats, offset: int, rows: Any, columns: Any, start: int, matrix: Doubles) -> Floats:
    """A role's random numbers for the parameters that change, if it has any."""
    if offset < 0:
        return drawn[:0]
    (last, outputs), at = matrix.shape, 0
    found = np.empty((len(rows) + 1) * len(columns), np.float32)
    for column in columns:
        for row in rows:
            found[at] = drawn[offset + start + row * outputs + column]
            at += 1
    for column in columns:
        found[at] = drawn[offset + start + (last - 1) * outputs + column]
        at += 1
    return found


@called
def _subtract_from(matrix: Doubles, moved: Doubles, rows: Any, columns: Any) -> None:
    count, biases, last = len(rows), len(rows) * len(columns), len(matrix) - 1
    for c in range(len(columns)):
        column = columns[c]
        for k in range(count):
            matrix[rows[k], column] -= moved[c * count + k]
        matrix[last, column] -= moved[biases + c]


@called
def _replace(
    moved: Doubles, after: Doubles, rows: Any, columns: Any, matrix: Doubles, master: Doubles, start: int,
    rules: Doubles, drawn: Any, offsets: Integers, counts: Integers,
) -> None:  # fmt: skip
    """Subtract the updates from the master weights, or from weights and biases, and round the result."""
    copies = master if len(master) else matrix
    _take(copies, rows, columns, after)
    for k in range(len(moved)):
        after[k] -= moved[k]
    if len(master):
        round_role(after, _taken(drawn, offsets[MASTER], rows, columns, start, matrix), rules, MASTER, counts)
        _put(after, moved, master, rows, columns, MASTER, MASTER, counts)
    biases = len(rows) * len(columns)
    own = _taken(drawn, offsets[WEIGHT], rows, columns, start, matrix)
    round_role(after[:biases], own, rules, WEIGHT, counts)
    own = _taken(drawn, offsets[BIAS], rows, columns, start, matrix)
    round_role(after[biases:], own[min(biases, len(own)) :], rules, BIAS, counts)
    _put(after, moved, matrix, rows, columns, WEIGHT, BIAS, counts)


@called
def _take(copies: Doubles, rows: Any, columns: Any, values: Doubles) -> None:
    """Gather the parameters that change."""
    count, biases, last = len(rows), len(rows) * len(columns), len(copies) - 1
    for c in range(len(columns)):
        column = columns[c]
        for k in range(count):
            values[c * count + k] = copies[rows[k], column]
        values[biases + c] = copies[last, column]


@called
def _put(
    after: Doubles,
    moved: Doubles,
    copies: Doubles,
    rows: Any,
    columns: Any,
    weight: Any,
    bias: Any,
    counts: Integers,
) -> None:
    """Write the changed parameters back, and count the changes."""
    count, biases, last = len(rows), len(rows) * len(columns), len(copies) - 1
    if counts.size:
        before = np.empty(len(after))
        _take(copies, rows, columns, before)
        _count_moves(before[:biases], after[:biases], moved[:biases], weight, counts)
        _count_moves(before[biases:], after[biases:], moved[biases:], bias, counts)
    for c in range(len(columns)):
        column = columns[c]
        for k in range(count):
            copies[rows[k], column] = after[c * count + k]
        copies[last, column] = after[biases + c]


@called
def _count_moves(before: Doubles, after: Doubles, moved: Doubles, role: Any, counts: Integers) -> None:
    moves, stalled = 0, 0
    for k in range(len(moved)):
        moves += moved[k] != 0.0
        stalled += (moved[k] != 0.0) & (before[k] == after[k])
    counts[role, MOVES] += moves
    counts[role, STALLED] += stalled
