"""The step that follows the gradients: update, subtract, quantize.

It goes over the stack in blocks that fit in a core's cache: many rows (trials) of a small tensor at once, a large
tensor row by row and in pieces. All operations are element by element and correctly rounded: blocks change no bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from qsweep.training.nets import Values, lying_as, memory_order
from qsweep.training.optimizers import Rows, Settings, direction, remembers, update
from qsweep.training.roles import contraction_axis, stacks_of
from qsweep.training.why import Tally, count_clipped, count_moves

BLOCK = 128 * 1024
"""Values a block: 512 KB a tensor, so that a block and its temporaries stay in the second-level cache."""


class Stepper:
    """Updates P trials of one stack: what they share is the optimizer, the formats' families and the rounding modes."""

    def __init__(self, trials: Sequence[Mapping[str, Any]], roles: Mapping[str, str], values: Values) -> None:
        self._trials = list(trials)
        self._roles = roles
        self._device = str(next(iter(values.values())).device)
        names = remembers(trials[0]["optimizer"])
        self._memory = {n: {name: torch.zeros_like(v) for name in names} for n, v in values.items()}
        self._prepare()

    def _prepare(self) -> None:
        self._settings = Settings([trial["optimizer"] for trial in self._trials], self._device)
        self.stacks = stacks_of(self._trials, self._device)

    def keep(self, indices: Sequence[int]) -> None:
        """Go on with these trials alone."""
        self._trials = [self._trials[i] for i in indices]
        self._memory = {
            n: {k: lying_as(m, m[list(indices)]) for k, m in own.items()} for n, own in self._memory.items()
        }
        self._prepare()

    def quantize(self, values: Values, noise: Values) -> None:
        """Quantize all weights as after a step, in place: what happens before the first forward pass."""
        for name, value in values.items():
            weights = _flat(value, value)
            for rows, columns in blocks(*weights.shape):
                self._quantize(weights[rows, columns], name, rows, columns, noise)
            self._quantize_whole(value, name, 0, noise)

    def start(self, step: int) -> None:
        """Begin a step, counted from 1."""
        self._settings.start(step)

    def update(self, values: Values, gradients: Values, noise: Values, part: slice, tally: Tally | None = None) -> None:
        """Move some trials, in place, by the gradients of them; a tally is told what that did to quantized roles."""
        for name, value in values.items():
            if tally is not None and self._roles.get(name) in self.stacks:
                self._update_watched(name, value, gradients[name], noise, part, tally)
                continue
            weights, gradient = _flat(value, value), _flat(gradients[name], value)
            memory = {key: _flat(own, value) for key, own in self._memory[name].items()}
            for own, columns in blocks(*gradient.shape):
                rows = slice(part.start + own.start, part.start + own.stop)
                w = weights[rows, columns]
                state = {key: remembered[rows, columns] for key, remembered in memory.items()}
                update(Rows(w, gradient[own, columns], state, rows.start), self._settings)
                self._quantize(w, name, rows, columns, noise)
            self._quantize_whole(value[part], name, part.start, noise)

    def _update_watched(
        self, name: str, value: Tensor, gradient: Tensor, noise: Values, part: slice, tally: Tally
    ) -> None:
        """The same step, trial by trial, with looks at the weights before the update and before the rounding."""
        role, stack = self._roles[name], self.stacks[self._roles[name]]
        for row, trial in enumerate(range(part.start, part.start + len(gradient))):
            one = slice(trial, trial + 1)
            weights = _flat(value, value)[one]
            before = weights.clone()
            state = {key: _flat(own, value)[one] for key, own in self._memory[name].items()}
            moving = Rows(weights, _flat(gradient, value)[row : row + 1], state, trial)
            update(moving, self._settings)
            clipped = count_clipped(stack, value[one], trial, contraction_axis(tuple(value.shape[1:])))
            self._quantize(weights, name, one, slice(None), noise)
            self._quantize_whole(value[one], name, trial, noise)
            moves, stalled = count_moves(before, weights, *direction(moving, self._settings))
            tally.add(role, trial, weights.numel(), clipped, moves, stalled)

    def _quantize(self, w: Tensor, name: str, rows: slice, columns: slice, noise: Values) -> None:
        """Round a block of a parameter, fresh from its update, where its values round one by one."""
        stack = self.stacks.get(self._roles.get(name, ""))
        if stack is None or stack.whole:
            return
        drawn = noise.get(name)
        stack.round_rows(w, None if drawn is None else drawn.view(-1)[columns], rows.start)

    def _quantize_whole(self, value: Tensor, name: str, first: int, noise: Values) -> None:
        """Round a parameter (R, *shape) of trials from the `first` on, where its values share scales."""
        stack = self.stacks.get(self._roles.get(name, ""))
        if stack is None or not stack.whole:
            return
        shape = tuple(value.shape[1:])
        for start in range(0, len(value), height := rows_a_block(prod(shape))):
            rows = value[start : start + height]
            stack.round_whole(rows, noise.get(name), first + start, contraction_axis(shape))


def rows_a_block(size: int) -> int:
    """Rows of so many values that go together."""
    return max(1, BLOCK // max(size, 1))


def blocks(count: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each block of a (count, size) tensor."""
    for row in range(0, count, height := rows_a_block(size)):
        for column in range(0, size, BLOCK):
            yield slice(row, min(row + height, count)), slice(column, column + BLOCK)


def _flat(value: Tensor, like: Tensor) -> Tensor:
    """(P, n) in the order in which `like` lies in memory: a view of `like` itself, and of all that lies like it."""
    return value.permute(memory_order(like)).flatten(1)
