"""Why a trial stops learning: shares and counts of its quantized roles, over the whole net.

Taken on few steps, the last of each epoch and those that are powers of two, because a look costs a part of a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from qsweep import kernels
from qsweep.rounding import Stack
from qsweep.spec import KEPT

SLOTS = 1 << 17
"""Of the set in which different values are counted; beyond half of it they are sorted instead."""

Row = dict[str, float | int | None]


def is_watched(step: int, is_last: bool) -> bool:
    """Whether a step, counted from 1, is looked at: steps 2, 4, 8 … and the last of an epoch.

    Not the first: where the weights are not quantized before it, it is the rounding that moves them, not the update.
    """
    return is_last or (step > 1 and step & (step - 1) == 0)


COUNTS = ("seen", "clipped", "zeros", "moves", "stalled")


class Tally:
    """What the watched steps of an epoch did to each of P trials, by role."""

    def __init__(self, count: int, roles: Iterable[str]) -> None:
        self.counts = {role: torch.zeros(len(COUNTS), count, dtype=torch.int64) for role in roles}

    def add(self, role: str, trial: int, seen: int, clipped: int) -> None:
        """Values of one trial that are rounded, and how many of them lie beyond the ends of the format."""
        self.counts[role][:2, trial] += torch.tensor([seen, clipped])

    def add_zeros(self, role: str, trial: int, zeros: int) -> None:
        """How many of these values are 0 once they are rounded."""
        self.counts[role][2, trial] += zeros

    def add_moves(self, role: str, trial: int, moves: int, stalled: int) -> None:
        """Updates other than 0 of values that are kept, and how many of them left the value as it was."""
        self.counts[role][3:, trial] += torch.tensor([moves, stalled])

    def keep(self, indices: list[int]) -> None:
        """Go on with these trials alone."""
        self.counts = {role: counts[:, indices] for role, counts in self.counts.items()}

    def rows(self) -> list[Row]:
        """Of each trial: the share of values that were clipped; of what is kept, the share of updates other than 0 that
        moved nothing; of what flows through a step, the share of values that became 0."""
        rows: list[Row] = [{} for _ in range(max((c.shape[1] for c in self.counts.values()), default=0))]
        for role, counts in self.counts.items():
            for row, (seen, clipped, zeros, moves, stalled) in zip(rows, counts.t().tolist(), strict=True):
                row[f"{role}_clipped"] = clipped / seen if seen else None
                if role in KEPT:
                    row[f"{role}_stalled"] = stalled / moves if moves else None
                else:
                    row[f"{role}_zero"] = zeros / seen if seen else None
        return rows


def count_clipped(stack: Stack, value: Tensor, trial: int, contraction: int) -> int:
    """How many updated values of one trial's parameter (1, *shape) lie beyond the ends of its format."""
    if stack.whole or value.device.type != "cpu":
        return int((~stack.inside(value, trial, contraction)).sum())
    return int(kernels.outside(_lying(value[0]).numpy(), *stack.ends(trial)))


def count_moves(before: Tensor, after: Tensor, updates: Tensor) -> tuple[int, int]:
    """Of one trial's parameter (1, n): updates that are not 0, and how many of them left the stored value as it was."""
    if before.device.type == "cpu":
        moving, stalled = kernels.moves(*(t[0].numpy() for t in (before, after, updates)))
        return int(moving), int(stalled)
    moving = updates != 0
    return int(moving.sum()), int((moving & (before == after)).sum())


def levels(values: Mapping[str, Tensor], roles: Mapping[str, str], quantized: Iterable[str], count: int) -> list[Row]:
    """Of each trial: the share of values that are 0 and how many different values there are, by role.

    Args:
        values: parameters by name, each (P, *shape).
        roles: the role of each parameter that has one.
        quantized: the roles to look at.
    """
    rows: list[Row] = [{} for _ in range(count)]
    for role in quantized:
        own = [value for name, value in values.items() if roles.get(name) == role]
        for trial, row in enumerate(rows if own else []):  # a net need not have biases
            tensors = [value[trial] for value in own]
            zeros = sum(t.numel() - int(torch.count_nonzero(t)) for t in tensors)
            row[f"{role}_zero"] = zeros / sum(t.numel() for t in tensors)
            row[f"{role}_levels"] = different(tensors)
    return rows


def different(tensors: Sequence[Tensor]) -> int:
    """How many different values there are; -0 is 0."""
    slots, found = np.full(SLOTS, -1, dtype=np.int64), 0
    for tensor in tensors:
        found = kernels.distinct(_lying(tensor).cpu().numpy(), slots, found)
        if found > SLOTS // 2:
            return len(torch.cat([t.reshape(-1) for t in tensors]).unique())
    return int(found)


def _lying(tensor: Tensor) -> Tensor:
    """The values in the order in which they lie in memory."""
    return tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True)).reshape(-1)
