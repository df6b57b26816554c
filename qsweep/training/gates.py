"""Rounding the activations and errors at one place of a net, in one pass of some trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qsweep.rounding import Stack
from qsweep.training.nets import memory_order
from qsweep.training.roles import Noise
from qsweep.training.why import Tally, count_clipped


class Pass(NamedTuple):
    """One pass of some trials through the net: the index of the first one, their noise, the tally, and the places
    whose errors are already rounded."""

    first: int
    noise: Noise | None
    tally: Tally | None
    already_rounded: set[str]


class Gate(NamedTuple):
    """The rounding at one place in one pass.

    For a pool, also the ReLU directly before it, and the roles that both round alike: what a pool selects from rounded
    values, and the errors that it passes back, are already rounded.
    """

    place: str
    stacks: Mapping[str, Stack]
    own: Pass
    is_chain: bool
    relu: str
    repeated: frozenset[str]

    def back(self, error: Tensor, is_stacked: bool) -> Tensor:
        """The error at this place, rounded unless it already is."""
        if self.place in self.own.already_rounded:
            return error
        found = self.through("error", trials_in_front(error, is_stacked), None, in_place=self.is_chain)
        if self.repeats("error"):
            self.own.already_rounded.add(self.relu)
        return found.view(error.shape)

    def repeats(self, role: str) -> bool:
        """Whether rounding would change nothing here or at the ReLU before; counted steps round anyway."""
        return role in self.repeated and self.own.tally is None

    def through(self, role: str, values: Tensor, axis: int | None, where: str = "", in_place: bool = False) -> Tensor:
        """Values (R, *shape) of trials, rounded to the format of a role; unchanged if it has none.

        Args:
            axis: of the shape, along which groups run; None: the axis of features.
            where: which product this is for.
            in_place: whether the values may be overwritten.
        """
        stack = self.stacks.get(role)
        if stack is None:
            return values
        shape = tuple(values.shape[1:])
        first, noise, tally, _ = self.own
        name = f"{self.place} {where}".strip()
        drawn = None if noise is None else noise.of(stack, role, name, shape)
        along = features_axis(shape) if axis is None else axis
        if tally is None:
            return rounded(stack, values, drawn, first, along, in_place)
        for trial, own in enumerate(values.split(1), start=first):
            tally.add(role, trial, own.numel(), count_clipped(stack, own, trial, along))
        nonzero = values != 0
        result = rounded(stack, values, drawn, first, along, in_place)
        for row, own in enumerate(result):
            tally.add_rounded(role, name, first + row, own, nonzero[row])
        return result


def features_axis(shape: Sequence[int]) -> int:
    """The axis of features: (batch, features), (batch, channels, height, width …) or (batch, tokens, features)."""
    return 1 if len(shape) > 3 else len(shape) - 1


def rounded(
    stack: Stack, values: Tensor, noise: Tensor | None, first: int, axis: int, in_place: bool = False
) -> Tensor:
    """Values (R, *shape) rounded, in a new tensor of the same memory layout unless `in_place`.

    Args:
        noise: (*shape).
    """
    values = values.detach()
    if not stack.by_rows:
        result = values if in_place else values.clone()
        stack.round_whole(result, noise, first, axis)
        return result
    order = memory_order(values)
    rows = values.permute(order).contiguous()  # a view, unless there are gaps
    result = rows if in_place else torch.empty_like(rows)
    drawn = None if noise is None else noise.permute([d - 1 for d in order[1:]]).reshape(-1).contiguous()
    stack.round_rows(rows.flatten(1), drawn, first, None if in_place else result.flatten(1))
    return result.permute(sorted(range(len(order)), key=order.__getitem__))


# --- in functions that autograd and vmap call -------------------------------------------------------------------------


def no_view(fresh: Tensor, shape: Sequence[int]) -> Tensor:
    """A new tensor in another shape, not a view to autograd: the next layer may work in place."""
    reshaped: Tensor = torch.ops.aten._unsafe_view(fresh, shape)
    return reshaped


def trials_in_front(x: Tensor, is_stacked: bool) -> Tensor:
    return x if is_stacked else x[None]


def stacked(info: Any, x: Tensor, dim: int | None) -> Tensor:
    """The tensor of all trials, with trials in front, for a tensor inside `vmap`."""
    return x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
