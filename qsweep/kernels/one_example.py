"""Training on one example at a time: a chain of dense layers, each role in fixed point or in float32.

Numbers are float64 that hold multiples of a step. A sum of products of two fixed-point roles is exact: it is taken in
float64 where the magnitudes stay below 2^53 units, in int64 where they do not, and from 2^62 on it overflows. What is 0
(pixels, activations behind a ReLU, errors that it blocks) takes no part: its products are exactly 0.

The parameters of a trial lie in one array: of each layer a matrix (inputs + 1, outputs), whose last row are the biases,
the weights of an input that is always 1. Its values too: the inputs of each layer, and that 1 behind them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qsweep.kernels.compiled import Doubles, Floats, Integers, called, compiled
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

LINEAR, RELU, UNGATED = range(3)
"""What follows the last layer: nothing, a ReLU, or a ReLU that lets all errors through."""
DONE, NOT_FINITE, OVERFLOW = range(3)
"""How a course ends."""
ROUNDED_UP = 1.0 + 2.0**-20
"""What keeps a bound one in spite of its own rounding, and of roles in float32."""


@compiled
def train(
    images: Any, starts: Integers, pixels: Any, labels: Integers, table: Doubles, widths: Integers, output: int,
    lr: float, rules: Doubles, weights: Doubles, masters: Doubles, draws: Any, offsets: Integers, watched: int,
    hits: Any, losses: Doubles, predicted: Any, counts: Integers,
) -> tuple[int, int]:  # fmt: skip
    """Train one trial on some examples in turn, in place.

    Args:
        images: (T, features), uint8.
        starts, pixels: those of example t that may be other than 0 are pixels[starts[t]:starts[t + 1]].
        table: (channels, 256), what a pixel's byte is to the net.
        widths: of the input and of each layer.
        masters: the second copies, or empty.
        draws: (T, values), in [0, 1): of each role that draws one a parameter, or one an output of a layer.
        offsets: where those of each role begin; -1 of one that draws none.
        watched: the first of the steps that are counted.
        hits, losses, predicted: (T,), of each example before its step.

    Returns:
        How it ended (DONE, NOT_FINITE, OVERFLOW), and the step that it ended at.
    """
    values, active, many, reach = _room(widths)
    errors, moves, nothing = np.empty(len(values)), np.empty((2, len(weights))), np.empty((len(rules), 0), np.int64)
    last = len(values) - widths[-1] - 1
    for t in range(len(labels)):
        drawn = draws[t]
        told = counts if t >= watched else nothing
        many[0] = _take_pixels(images[t], pixels[starts[t] : starts[t + 1]], table, values, active)
        if not _forward(widths, output, rules, weights, masters, drawn, offsets, values, active, many, reach, told):
            return OVERFLOW, t
        predicted[t] = _first_largest(values[last:-1])
        hits[t] = predicted[t] == labels[t]
        losses[t] = _errors(values[last:-1], labels[t], output, errors[last:-1])
        if not np.isfinite(losses[t]):
            return NOT_FINITE, t
        if not _backward(
            widths, lr, rules, weights, masters, drawn, offsets, values, errors, active, many, moves, reach, told
        ):
            return OVERFLOW, t
    return DONE, len(labels)


@compiled
def evaluate(
    images: Any, starts: Integers, pixels: Any, labels: Integers, table: Doubles, widths: Integers, output: int,
    rules: Doubles, weights: Doubles, hits: Any, losses: Doubles, predicted: Any,
) -> None:  # fmt: skip
    """The same without a step; no rule draws."""
    values, active, many, reach = _room(widths)
    errors, none, nothing = np.empty(widths[-1]), np.empty(0, np.float32), np.empty((len(rules), 0), np.int64)
    offsets = np.full(len(rules), -1)
    last = len(values) - widths[-1] - 1
    for t in range(len(labels)):
        many[0] = _take_pixels(images[t], pixels[starts[t] : starts[t + 1]], table, values, active)
        _forward(widths, output, rules, weights, weights[:0], none, offsets, values, active, many, reach, nothing)
        predicted[t] = _first_largest(values[last:-1])
        hits[t] = predicted[t] == labels[t]
        losses[t] = _errors(values[last:-1], labels[t], output, errors)


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
def quantize(
    widths: Integers, rules: Doubles, copies: Doubles, drawn: Floats, offsets: Integers, weight: int, bias: int
) -> None:
    """Round all parameters in place; the roles are those of weights and of biases."""
    start, nothing = 0, np.empty((len(rules), 0), np.int64)
    for layer in range(len(widths) - 1):
        for end, role in (
            (start + widths[layer] * widths[layer + 1], weight),
            (start + (widths[layer] + 1) * widths[layer + 1], bias),
        ):
            round_role(copies[start:end], _part(drawn, offsets[role], start, end - start), rules, role, nothing)
            start = end


@called
def _room(widths: Integers) -> tuple[Doubles, Integers, Integers, Doubles]:
    """Of all layers one after the other: values, the indices of those that are not 0, how many these are, and how far
    parameters reach, which is to be looked up."""
    count = 0
    for width in widths:
        count += width + 1
    reach = np.empty((len(widths), 2))
    reach[:] = np.inf
    return np.empty(count), np.empty(count, np.uint32), np.empty(len(widths), np.int64), reach


@called
def _part(drawn: Floats, offset: int, start: int, count: int) -> Floats:
    """Some of a role's draws, where there are any."""
    return drawn[offset + start : offset + start + count] if offset >= 0 else drawn[:0]


@called
def _matrix(parameters: Doubles, start: int, inputs: int, outputs: int) -> Doubles:
    """A layer's parameters; none where there are none."""
    rows = inputs + 1 if len(parameters) else 0
    return parameters[start : start + rows * outputs].reshape(rows, outputs)


# --- forward ----------------------------------------------------------------------------------------------------------


@called
def _take_pixels(image: Any, pixels: Any, table: Doubles, values: Doubles, active: Any) -> int:
    """The values of some pixels; the indices of those that are not 0, and of the 1 behind them; how many these are."""
    count, size = 0, len(image) // len(table)
    for i in pixels:
        values[i] = table[i // size, image[i]] if len(table) > 1 else table[0, image[i]]
        active[count] = i  # overwritten by the next one where it is 0: no branch to guess
        count += values[i] != 0.0
    active[count], values[len(image)] = len(image), 1.0
    return count + 1


@called
def _forward(
    widths: Integers, output: int, rules: Doubles, weights: Doubles, masters: Doubles, drawn: Any, offsets: Integers,
    values: Doubles, active: Any, many: Integers, reach: Doubles, counts: Integers,
) -> bool:  # fmt: skip
    """Whether no sum overflowed."""
    at, start, last = 0, 0, len(widths) - 2
    for layer in range(last + 1):
        inputs, outputs = widths[layer], widths[layer + 1]
        matrix, master = _matrix(weights, start, inputs, outputs), _matrix(masters, start, inputs, outputs)
        x, chosen = values[at : at + inputs + 1], active[at : at + many[layer]]
        at, start = at + inputs + 1, start + matrix.size
        out, own = values[at : at + outputs], _part(drawn, offsets[ACTIVATION], at - widths[0] - 1, outputs)
        limit = EXACT / 2.0 * unit_of(rules, ACTIVATION, WEIGHT) / _sum(x, chosen)
        if _is_within(limit, reach[layer], matrix, master):
            _products(x, chosen, matrix, out)
            round_role(out, own, rules, ACTIVATION, counts)
        elif not _wide_products(x, chosen, matrix, out, own, rules, counts):
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
    """Of the magnitudes of some values."""
    total = 0.0
    for j in chosen:
        total += abs(x[j])
    return total


@called
def _is_within(limit: float, reach: Doubles, matrix: Doubles, master: Doubles) -> Any:
    """Whether a layer's parameters surely are below a limit.

    Args:
        reach: a bound of their magnitudes, which each step moves on, and what it was when it was last looked up: it is
            looked up again where that may help.
    """
    if reach[0] >= limit and not reach[0] < 2.0 * reach[1]:
        reach[:] = max(_largest(matrix), _largest(master))
    return reach[0] < limit


@called
def _largest(matrix: Doubles) -> float:
    """The largest magnitude; NaN stays."""
    largest = 0.0
    for row in matrix:
        for value in row:
            largest = abs(value) if not abs(value) <= largest else largest
    return largest


@called
def _products(x: Doubles, chosen: Any, matrix: Doubles, out: Doubles) -> None:
    """A layer's sums of products, in the order of its inputs; four at a time, as a loop over outputs has its price."""
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
    """The same where a float64 may not hold the sums, rounded; whether none overflowed."""
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
def _first_largest(outputs: Doubles) -> int:
    best = 0
    for i in range(1, len(outputs)):
        best = i if outputs[i] > outputs[best] else best
    return best


@called
def _errors(outputs: Doubles, label: int, output: int, errors: Doubles) -> float:
    """The errors at the outputs, o - y, where the ReLU lets them through; and the loss, half the sum of squares."""
    loss = 0.0
    for i in range(len(outputs)):
        error = outputs[i] - (1.0 if i == label else 0.0)
        loss += error * error / 2.0
        errors[i] = 0.0 if output == RELU and outputs[i] == 0.0 else error
    return loss


# --- back -------------------------------------------------------------------------------------------------------------


@called
def _backward(
    widths: Integers, lr: float, rules: Doubles, weights: Doubles, masters: Doubles, drawn: Any, offsets: Integers,
    values: Doubles, errors: Doubles, active: Any, many: Integers, moves: Doubles, reach: Doubles, counts: Integers,
) -> bool:  # fmt: skip
    """Errors from layer to layer, and each layer's step; whether nothing overflowed."""
    at, start, last = len(values) - widths[-1] - 1, len(weights), len(widths) - 2
    own = _part(drawn, offsets[ERROR], at - widths[0] - 1, widths[-1])
    round_role(errors[at:-1], own, rules, ERROR, counts)
    if not errors[at:-1].any():
        return True
    for layer in range(last, -1, -1):
        inputs, outputs = widths[layer], widths[layer + 1]
        before, start = at - inputs - 1, start - (inputs + 1) * outputs
        error, x, chosen = errors[at : at + outputs], values[before:at], active[before : before + many[layer]]
        matrix, master = _matrix(weights, start, inputs, outputs), _matrix(masters, start, inputs, outputs)
        if layer > 0:
            own = _part(drawn, offsets[ERROR], before - widths[0] - 1, inputs)
            if not _errors_before(error, chosen[:-1], matrix, errors[before : at - 1], own, rules, counts):
                return False
        if not _step(x, error, chosen, lr, rules, matrix, master, start, drawn, offsets, moves, reach[layer], counts):
            return False
        at = before
    return True


@called
def _errors_before(
    error: Doubles, chosen: Any, matrix: Doubles, before: Doubles, drawn: Floats, rules: Doubles, counts: Integers
) -> bool:
    """The errors of a layer's inputs, rounded, where the ReLU before it was open; whether none overflowed."""
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
            round_role(before[j : j + 1], _part(drawn, min(len(drawn) - 1, 0), j, 1), rules, ERROR, counts)
            continue
        units = np.int64(0)
        for i in range(len(error)):
            units += steps_of(matrix[j, i], rules, WEIGHT) * steps_of(error[i], rules, ERROR)
        before[j] = from_units(units, unit, drawn, j, rules, ERROR)
    return True


@called
def _step(
    x: Doubles, error: Doubles, chosen: Any, lr: float, rules: Doubles, matrix: Doubles, master: Doubles, start: int,
    drawn: Any, offsets: Integers, moves: Doubles, reach: Doubles, counts: Integers,
) -> Any:  # fmt: skip
    """The step of a layer's parameters where it moves them; whether nothing overflowed."""
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
    return limit == np.inf or _is_within(limit, reach, matrix, master) or _largest(matrix) < limit


@called
def _not_zero(error: Doubles) -> Any:
    found, count = np.empty(len(error), np.uint32), 0
    for i in range(len(error)):
        found[count] = i
        count += error[i] != 0.0
    return found[:count]


@called
def _greatest(values: Doubles, chosen: Any) -> float:
    """The largest magnitude of some values."""
    greatest = 0.0
    for i in chosen:
        greatest = max(greatest, abs(values[i]))
    return greatest


# What moves lies output by output, an output's weights in the order of their rows; all biases come last.


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
    """The same where a float64 may not hold them, rounded."""
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
    """A role's draws of what moves, where there are any."""
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
    """Subtract from the master, or from weights and biases, and round what that gives."""
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
    """The parameters that move."""
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
    """Put what was moved into its place, and count the moves."""
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
