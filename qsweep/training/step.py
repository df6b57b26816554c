"""The optimizer step: gradient → update → master weight → weight → momentum, each rounded.

It goes over the stack in blocks that fit in a core's cache: many rows (trials) of a small tensor at once, a large
tensor row by row and in pieces. All operations are element by element and correctly rounded: blocks change no bit.
If a format's values share scales, blocks are whole rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qsweep.rounding import Stack
from qsweep.training.nets import Values, as_rows, lying_as, memory_order
from qsweep.training.optimizers import OptimizerStack, Rows, State, update
from qsweep.training.places import Places
from qsweep.training.roles import Noise, Quantizers, contraction_axis, place_of
from qsweep.training.why import Tally, count_clipped, count_moves
from qsweep.trial.settings import Settings

BLOCK = 128 * 1024
"""Values per block: 512 KB per tensor, so that a block and its temporaries stay in the second-level cache."""
STEP_ROLES = ("gradient", "update", "momentum", "master")
"""Roles that a parameter has in the step besides its own."""


@dataclass(frozen=True)
class _Block:
    """Some values of some trials of one parameter, and their state: (R, n), in the parameter's memory order.

    Attributes:
        like: the parameter, (P, *shape).
        first: the trial of row 0.
        columns: which values of the parameter these are.
        master: the master weights, if any.
    """

    name: str
    like: Tensor
    first: int
    columns: slice
    weight: Tensor
    state: State
    master: Tensor | None

    def rows(self, first: int = 0) -> slice:
        """The block's trials among those from the first one on."""
        return slice(self.first - first, self.first - first + len(self.weight))

    def row_of(self, values: Tensor) -> Tensor:
        """The values of a tensor (*shape) at the block's positions, (n,)."""
        order = [d - 1 for d in memory_order(self.like)[1:]]
        return values.permute(order).reshape(-1)[self.columns]

    def shaped(self, values: Tensor) -> Tensor:
        """(R, *shape), a view; only for blocks of whole rows."""
        order = memory_order(self.like)
        back = sorted(range(len(order)), key=order.__getitem__)
        return values.view(len(values), *(self.like.shape[d] for d in order[1:])).permute(back)


class Stepper:
    """Updates P trials of one stack, which share the optimizer, the formats' families and the rounding modes."""

    def __init__(
        self,
        trials: Sequence[Settings],
        places: Places,
        values: Values,
        unpenalized: Collection[str] = (),
    ) -> None:
        """`unpenalized`: the parameters whose gradients already include weight decay and the L1 penalty."""
        self._trials = list(trials)
        self._unpenalized = frozenset(unpenalized)
        self._places = places
        self._roles = places.parameters
        self._device = str(next(iter(values.values())).device)
        names = trials[0].optimizer.memory
        self._memory = {n: {name: torch.zeros_like(v) for name in names} for n, v in values.items()}
        self._names = tuple(values)
        self._prepare()
        self._cut: dict[tuple[str, int, int, bool], list[_Block]] = {}
        self.masters = {n: value.clone() for n, value in values.items() if self._has_master(n)}
        """Master weights by parameter, if trials have them."""

    def _prepare(self) -> None:
        own = [trial.optimizer for trial in self._trials]
        self._optimizers = self._bare = OptimizerStack(own, self._device)
        if self._unpenalized:
            self._bare = OptimizerStack([replace(o, weight_decay=0.0, l1=0.0) for o in own], self._device)
        layers = [self._places.layers(trial) for trial in self._trials]
        self.quantizers = Quantizers(self._trials, layers, self._device)
        self._stacks = {name: self._stacks_of(name) for name in self._names}
        scales = [trial.loss_scale for trial in self._trials]
        self._scales = torch.tensor(scales, device=self._device)[:, None] if set(scales) != {1.0} else None

    def _has_master(self, name: str) -> bool:
        """Whether master weights are kept: if named, and not a float32 copy of float32 weights."""
        if not self._is_quantizable(name) or not self.quantizers.names("master", place_of(name)):
            return False
        return bool(self._stacks[name].keys() & {self._roles[name], "master"})

    def _is_quantizable(self, name: str) -> bool:
        """Whether it can be quantized; for a norm in float32 its whole step is in float32."""
        own = self._roles.get(name)
        return own is not None and (own != "norm" or self.quantizers.of("norm", place_of(name)) is not None)

    def _stacks_of(self, name: str) -> dict[str, Stack]:
        """The formats of a parameter in the step, by role."""
        if not self._is_quantizable(name):
            return {}
        own, place = self._roles[name], place_of(name)
        stored = own if self.quantizers.at(own, place) == "outputs" else ""
        found = {role: self.quantizers.of(role, place) for role in (stored, *STEP_ROLES)}
        return {role: stack for role, stack in found.items() if stack is not None}

    def keep(self, indices: Sequence[int]) -> None:
        """Keep only these trials."""
        self._trials = [self._trials[i] for i in indices]
        self._memory = {n: _kept(own, indices) for n, own in self._memory.items()}
        self.masters = _kept(self.masters, indices)
        self._cut.clear()
        self._prepare()

    def quantize(self, values: Values, noise: Noise) -> None:
        """Quantize all weights in place as after a step, before the first forward pass."""
        for name, value in values.items():
            for block in self._blocks(name, value, slice(0, len(value)), is_watched=False):
                self._store(block, noise, None)

    def scales(self, part: slice) -> Tensor | None:
        """Loss scales of some trials, (P,), by which the step divides their gradients."""
        return None if self._scales is None else self._scales[part, 0]

    def start(self, step: int) -> None:
        """Begin a step, counted from 1."""
        for optimizers in dict.fromkeys((self._optimizers, self._bare)):
            optimizers.start(step)

    def update(self, values: Values, gradients: Values, noise: Noise, part: slice, tally: Tally | None = None) -> None:
        """Update some trials in place by their gradients; a tally counts the effects of rounding."""
        for name, value in values.items():
            moved = as_rows(gradients[name], value)
            is_watched = tally is not None and bool(self._stacks[name])
            for block in self._blocks(name, value, part, is_watched):
                own = moved[block.rows(part.start), block.columns]
                self._move(block, own, noise, tally if is_watched else None)

    def _blocks(self, name: str, value: Tensor, part: slice, is_watched: bool) -> list[_Block]:
        """The blocks of a parameter; cached, as making a hundred views per step is slow."""
        wanted = name, part.start, part.stop, is_watched
        found = self._cut.get(wanted)
        if not found or found[0].like is not value:
            found = self._cut[wanted] = list(self._made(name, value, part, is_watched))
        return found

    def _made(self, name: str, value: Tensor, part: slice, is_watched: bool) -> Iterator[_Block]:
        """Views in the parameter's memory order; trial by trial if it is watched."""
        is_whole = is_watched or any(stack.whole for stack in self._stacks[name].values())
        weights = as_rows(value, value)
        memory = {key: as_rows(own, value) for key, own in self._memory[name].items()}
        master = as_rows(self.masters[name], value) if name in self.masters else None
        for own, columns in blocks(part.stop - part.start, weights.shape[1], is_whole, is_watched):
            rows = slice(part.start + own.start, part.start + own.stop)
            state = {key: remembered[rows, columns] for key, remembered in memory.items()}
            second = None if master is None else master[rows, columns]
            yield _Block(name, value, rows.start, columns, weights[rows, columns], state, second)

    def _move(self, block: _Block, gradient: Tensor, noise: Noise, tally: Tally | None) -> None:
        """The whole step of one block; its gradient (R, n) is overwritten."""
        self._round(block, "gradient", gradient, noise, tally)
        if self._scales is not None:
            gradient.div_(self._scales[block.rows()])
        copy = block.weight if block.master is None else block.master
        moving = Rows(copy, gradient, block.state, block.first)
        is_apart = tally is not None or "update" in self._stacks[block.name]
        before = [copy.clone(), block.weight.clone()] if tally is not None else []
        optimizers = self._bare if block.name in self._unpenalized else self._optimizers
        update(moving, optimizers, subtract=not is_apart)
        if is_apart:
            self._round(block, "update", gradient, noise, tally)
            copy.sub_(gradient)
        self._store(block, noise, tally)
        for key, remembered in block.state.items():
            self._round(block, "momentum", remembered, noise, tally, key)
        if tally is not None:
            self._count_moves(block, before, gradient, tally)

    def _store(self, block: _Block, noise: Noise, tally: Tally | None) -> None:
        """Round the updated master weights, if any, and from them the weights."""
        if block.master is not None:
            self._round(block, "master", block.master, noise, tally)
        if own := self._roles.get(block.name):
            self._round(block, own, block.weight, noise, tally, source=block.master)

    def _round(
        self,
        block: _Block,
        role: str,
        values: Tensor,
        noise: Noise,
        tally: Tally | None,
        key: str = "",
        source: Tensor | None = None,
    ) -> None:
        """Round a block of one role in place, or from a source; `key` distinguishes an optimizer's state tensors."""
        stack = self._stacks[block.name].get(role)
        if source is not None and (stack is None or tally is not None or not stack.by_rows):
            values.copy_(source)
            source = None
        if stack is None:
            return
        shape = tuple(block.like.shape[1:])
        drawn = noise.of(stack, role, f"{block.name} {key}".strip(), shape)
        axis = contraction_axis(shape)
        nonzero = values != 0 if tally is not None else None
        if tally is not None:
            tally.add(role, block.first, values.numel(), count_clipped(stack, block.shaped(values), block.first, axis))
        if stack.by_rows:
            own = None if drawn is None else block.row_of(drawn)
            stack.round_rows(values if source is None else source, own, block.first, None if source is None else values)
        else:
            stack.round_whole(block.shaped(values), drawn, block.first, axis)
        if tally is not None and nonzero is not None:
            tally.add_rounded(role, f"{block.name} {key}".strip(), block.first, values, nonzero)

    def _count_moves(self, block: _Block, before: Sequence[Tensor], updates: Tensor, tally: Tally) -> None:
        """Count the updates that did not change the stored codes."""
        stacks, own = self._stacks[block.name], self._roles[block.name]
        copies = {own: (before[1], block.weight)}
        if block.master is not None:
            copies["master"] = before[0], block.master
        axis = contraction_axis(tuple(block.like.shape[1:]))
        for role in stacks.keys() & copies.keys():
            old, new, moved = (block.shaped(values) for values in (*copies[role], updates))
            tally.add_moves(role, block.first, *count_moves(stacks[role], old, new, moved, block.first, axis))


def rows_per_block(size: int) -> int:
    """How many rows of `size` values form a block."""
    return max(1, BLOCK // max(size, 1))


def blocks(count: int, size: int, is_whole: bool, is_single: bool) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each block of a (count, size) tensor: of whole rows, or a single row each, where asked."""
    height, width = 1 if is_single else rows_per_block(size), max(size, 1) if is_whole else BLOCK
    for row in range(0, count, height):
        for column in range(0, size, width):
            yield slice(row, min(row + height, count)), slice(column, column + width)


def _kept(values: Values, indices: Sequence[int]) -> Values:
    return {name: lying_as(value, value[list(indices)]) for name, value in values.items()}
