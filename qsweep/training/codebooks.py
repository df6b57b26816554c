"""Codebooks of compressed weights in retraining: levels change, and each weight keeps its level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qsweep.formats import Format, KMeans, Scaled, name_of
from qsweep.formats.groups import grouping
from qsweep.formats.packing import Groups
from qsweep.training.nets import Net
from qsweep.training.roles import contraction_axis, parts_of
from qsweep.trial.settings import Settings


@dataclass
class Codebook:
    """Which values of one parameter share a level, for each trial.

    Attributes:
        levels: for each of P trials, the index of each value's level, row-major.
        decay: weight decay and L1 penalty of each trial.
    """

    levels: list[NDArray[np.int64]]
    decay: list[tuple[float, float]]

    def share(self, gradient: Tensor, values: Tensor, part: slice, scales: Tensor | None = None) -> Tensor:
        """The gradient of each value's level: the sum over all values that share it, penalties included, in float64.

        Args:
            gradient: (R, *shape) of some trials.
            values: (R, *shape), theirs.
            part: which trials these are.
            scales: (R,), the factors of their losses.

        Source: Han, Mao & Dally, Deep Compression (2016), 3.
        """
        shared = torch.empty_like(gradient)
        for row, (levels, (decay, l1)) in enumerate(zip(self.levels[part], self.decay[part], strict=True)):
            w, g = (t[row].detach().cpu().reshape(-1).double() for t in (values, gradient))
            scale = 1.0 if scales is None else float(scales[row])
            sums = np.bincount(levels, weights=(g + scale * (decay * w + l1 * torch.sign(w))).numpy())
            shared[row] = torch.from_numpy(sums[levels]).view(gradient.shape[1:]).to(shared)
        return shared

    def keep(self, indices: Sequence[int]) -> None:
        """Keep only these trials."""
        self.levels = [self.levels[i] for i in indices]
        self.decay = [self.decay[i] for i in indices]


def codebooks(net: Net, model: nn.Module, trials: Sequence[Settings]) -> dict[str, Codebook]:
    """The codebook of each parameter that stays compressed, by name. Trials compress the same parts."""
    formats = [trial.compressed for trial in trials]
    decay = [(trial.optimizer.weight_decay, trial.optimizer.l1) for trial in trials]
    return {
        name: Codebook([_levels(v, own[part].format) for v, own in zip(net.values[name], formats, strict=True)], decay)
        for name, part in parts_of(model).items()
        if part in formats[0]
    }


def _levels(values: Tensor, fmt: Format) -> NDArray[np.int64]:
    """The index of each value's level: equal values of a group share one."""
    shape = tuple(values.shape)
    numbers = groups_in(fmt, shape).numbers(shape).reshape(-1)
    patterns = values.detach().cpu().reshape(-1).numpy().view(np.uint32).astype(np.int64)
    found: NDArray[np.int64] = np.unique((numbers << 32) + patterns, return_inverse=True)[1]
    return found.reshape(-1)


def groups_in(fmt: Format, shape: Sequence[int]) -> Groups:
    """Which values of a tensor share levels or a scale in a format."""
    if not isinstance(fmt, Scaled | KMeans) or not shape:
        return Groups(format=fmt)
    found = grouping(name_of(fmt), shape, fmt.per, fmt.axis, contraction_axis(tuple(shape)))
    return Groups(found.per, found.axis, fmt)
