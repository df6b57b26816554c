"""Why a trial stops learning: fractions and counts for its quantized roles, over the whole net.

Counted on few steps, the last of each epoch and powers of two, because counting costs a part of a step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qsweep.kernels import counting as kernels
from qsweep.rounding import Stack
from qsweep.training.histograms import Histogram, histogram
from qsweep.trial.roles import KEPT, STORED

SLOTS = 1 << 17
"""Slots of the set that counts distinct values; if more than half are used, values are sorted instead."""

Row = dict[str, float | int | None]


def is_watched(step: int, is_last: bool) -> bool:
    """Whether a step, counted from 1, is watched: steps 2, 4, 8 … and the last of an epoch.

    Not the first: if the weights were not quantized before it, rounding changes them, not the update.
    """
    return is_last or (step > 1 and step & (step - 1) == 0)


COUNTS = ("seen", "clipped", "nonzero", "lost", "moves", "stalled")
FEWER_SLOTS = 1 << 15
"""Slots of the set of values of a role that is not stored; if more than half are used, no count is reported."""


class Tally:
    """Effects of rounding in the watched steps of an epoch, for each of P trials, by role."""

    def __init__(self, count: int, roles: Iterable[str], kept: Collection[str] = KEPT, bins: int = 0) -> None:
        """
        Args:
            kept: the roles among them whose rounded values are stored.
            bins: of histograms of the last step's values; 0: none.
        """
        self.counts = {role: torch.zeros(len(COUNTS), count, dtype=torch.int64) for role in roles}
        self.is_last = False
        """Whether this is the last step of the epoch, whose distinct values are counted."""
        self._sets: dict[tuple[str, int], tuple[Any, int]] = {}
        self._kept = kept
        self._bins = bins
        self.histograms: list[dict[str, Histogram]] = [{} for _ in range(count)]
        """For each trial, by place and role: all rounded values except weights, biases and norms."""

    def add(self, role: str, trial: int, seen: int, clipped: int) -> None:
        """Count values of one trial that are rounded, and those that are out of range of the format."""
        self.counts[role][:2, trial] += torch.tensor([seen, clipped])

    def add_rounded(self, role: str, place: str, trial: int, values: Tensor, nonzero: Tensor) -> None:
        """Count rounded values that are not stored: how many became 0, and how many are distinct.

        Args:
            nonzero: which of them were not 0 before.
        """
        if role not in self._kept:
            lost = nonzero & (values == 0)
            self.counts[role][2:4, trial] += torch.stack([nonzero.sum(), lost.sum()]).cpu()
        if self._bins and self.is_last and role not in STORED and bool(values.isfinite().all()):
            self.histograms[trial][f"{place}.{role}"] = {"role": role, **histogram(values, self._bins)}
        if not self.is_last or role in self._kept:
            return
        slots, found = self._sets.get((role, trial)) or (np.full(FEWER_SLOTS, -1, dtype=np.int64), 0)
        if found <= FEWER_SLOTS // 2:
            found = kernels.distinct(_in_memory_order(values).cpu().numpy(), slots, found)
        self._sets[role, trial] = slots, found

    def add_moves(self, role: str, trial: int, moves: int, stalled: int) -> None:
        """Count non-zero updates of stored values, and those that did not change the value's code."""
        self.counts[role][4:, trial] += torch.tensor([moves, stalled])

    def keep(self, indices: list[int]) -> None:
        """Keep only these trials."""
        self.counts = {role: counts[:, indices] for role, counts in self.counts.items()}
        self.histograms = [self.histograms[i] for i in indices]
        self._sets = {(role, indices.index(i)): s for (role, i), s in self._sets.items() if i in indices}

    def rows(self) -> list[Row]:
        """For each trial: the fraction of values that were clipped; for stored values, the fraction of non-zero updates
        that changed no code; for others, the fraction of non-zero values that became 0, and the number of distinct
        values in the last step."""
        rows: list[Row] = [{} for _ in range(max((c.shape[1] for c in self.counts.values()), default=0))]
        for role, counts in self.counts.items():
            for trial, (row, (seen, clipped, nonzero, lost, moves, stalled)) in enumerate(
                zip(rows, counts.t().tolist(), strict=True)
            ):
                row[f"{role}_clipped"] = clipped / seen if seen else None
                if role in self._kept:
                    row[f"{role}_stalled"] = stalled / moves if moves else None
                else:
                    row[f"{role}_zero"] = lost / nonzero if nonzero else None
                    row[f"{role}_levels"] = self._levels(role, trial)
        return rows

    def _levels(self, role: str, trial: int) -> int | None:
        _, found = self._sets.get((role, trial), (None, 0))
        return int(found) if 0 < found <= FEWER_SLOTS // 2 else None


def count_clipped(stack: Stack, value: Tensor, trial: int, contraction: int) -> int:
    """How many updated values of one trial's parameter (1, *shape) are out of range of its format."""
    if stack.whole or value.device.type != "cpu":
        return int((~stack.inside(value, trial, contraction)).sum())
    return int(kernels.outside(_in_memory_order(value[0]).numpy(), *stack.ends(trial)))


def count_moves(
    stack: Stack, before: Tensor, after: Tensor, updates: Tensor, trial: int, contraction: int
) -> tuple[int, int]:
    """For one trial's parameter (1, *shape): non-zero updates, and how many of them did not change the stored code.
    Under a scale that drifts, stored values change even if the update was lost."""
    if before.device.type == "cpu" and not stack.formats[trial].drifts:
        moving, stalled = kernels.moves(*(_in_memory_order(t[0]).numpy() for t in (before, after, updates)))
        return int(moving), int(stalled)
    moves = updates != 0
    return int(moves.sum()), int((moves & stack.same_codes(before, after, trial, contraction)).sum())


def levels(values: Mapping[str, Tensor], roles: Mapping[str, str], quantized: Iterable[str], count: int) -> list[Row]:
    """For each trial: the fraction of values that are 0 and the number of distinct values, by role.

    Args:
        values: parameters by name, each (P, *shape).
        roles: the role of each parameter that has one.
        quantized: the roles to count.
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
    """The number of distinct values; -0 is 0."""
    slots, found = np.full(SLOTS, -1, dtype=np.int64), 0
    for tensor in tensors:
        found = kernels.distinct(_in_memory_order(tensor).cpu().numpy(), slots, found)
        if found > SLOTS // 2:
            return len(torch.cat([t.reshape(-1) for t in tensors]).unique())
    return int(found)


def _in_memory_order(tensor: Tensor) -> Tensor:
    """The values in memory order."""
    return tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True)).reshape(-1)
