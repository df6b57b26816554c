"""Rounding rows under given scales to elements: integers or floating-point numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qsweep.formats import Format, Grid
from qsweep.kernels import rounding as kernels
from qsweep.rounding import formulas
from qsweep.rounding.modes import Mode, noise_array

OVERFLOWS = {"saturate": kernels.SATURATE, "wrap": kernels.WRAP, "unbounded": kernels.UNBOUNDED}


class Elements:
    """Rounds rows to the elements of their formats, integers or floating point, under a scale per group."""

    def __init__(self, formats: Sequence[Format], mode: Mode, device: torch.device, has_kernels: bool) -> None:
        self._elements: list[Any] = [fmt.elements for fmt in formats]
        self._mode, self._device, self._has_kernels = mode, device, has_kernels

    def _columns(self) -> list[NDArray[Any]]:
        """The parameters of each trial's elements, (P,): integers as int64, all others as float64."""
        found: list[tuple[Any, ...]] = []
        for elements in self._elements:
            if isinstance(elements, Grid):
                found.append((float(elements.lowest), float(elements.highest)))
            else:
                smallest = 0.0 if elements.has_zero else elements.smallest
                found.append((elements.mantissa, elements.least_exponent, elements.largest, elements.beyond, smallest))
        dtypes = [np.int64 if isinstance(value, int) else np.float64 for value in found[0]]
        return [np.array(column, dtype) for column, dtype in zip(zip(*found, strict=True), dtypes, strict=True)]

    @cached_property
    def numbers(self) -> tuple[Tensor, ...]:
        """The same for tensor operations, as columns (P, 1)."""
        return tuple(torch.from_numpy(column)[:, None].to(self._device) for column in self._columns())

    @cached_property
    def group(self) -> Any:
        """The same for the kernels: their Grids or Floatings. Not made from tensors, which take longer to build."""
        elements, columns = self._elements[0], self._columns()
        if isinstance(elements, Grid):
            lowest, highest = columns
            return kernels.Grids(lowest, highest, OVERFLOWS[elements.overflow])
        return kernels.Floatings(*columns)

    def round(self, w: Tensor, noise: Tensor | None, scale: Tensor, first: int, exact: bool) -> None:
        """Round rows (R, n) in place.

        Args:
            noise: (n,), if the mode is stochastic.
            scale: (R, G) float64; a group has n / G values.
            first: the format of row 0.
            exact: whether each scale is a power of two.
        """
        if self._has_kernels:
            round_rows = kernels.to_grid if isinstance(self.group, kernels.Grids) else kernels.to_floating
            scales = kernels.Scales(scale.numpy(), w.shape[1] // scale.shape[1], exact)
            round_rows(w.numpy(), noise_array(noise), first, scales, self.group, self._mode.numbers)
        else:
            rows = slice(first, first + len(w))
            self._eager(w, noise, scale, [column[rows] for column in self.numbers])

    def _eager(self, w: Tensor, noise: Tensor | None, scale: Tensor, numbers: Sequence[Tensor]) -> None:
        elements, groups = self._elements[0], w.view(*scale.shape, -1)
        drawn = None if noise is None else noise.view(scale.shape[1], -1)
        columns = [column[..., None] for column in numbers]
        if isinstance(elements, Grid):
            ends = columns[0], columns[1]
            groups.copy_(formulas.to_grid(groups, drawn, self._mode, scale[..., None], *ends, elements.overflow))
        else:
            groups.copy_(formulas.to_floating(groups, drawn, self._mode, scale[..., None], *columns))
