"""Elements: the integers or floating-point numbers that the values of a stack are rounded to under scales."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from qsweep.formats import Format, Grid
from qsweep.kernels import rounding as kernels
from qsweep.rounding import laws
from qsweep.rounding.modes import Mode, noise_array

OVERFLOWS = {"saturate": kernels.SATURATE, "wrap": kernels.WRAP, "unbounded": kernels.UNBOUNDED}


class Elements:
    """Rounds rows to the elements of their formats, integers or floating point, under a scale of each group."""

    def __init__(self, formats: Sequence[Format], mode: Mode, device: torch.device, has_kernels: bool) -> None:
        self._laws: list[Any] = [fmt.law for fmt in formats]
        self._mode, self._device, self._has_kernels = mode, device, has_kernels

    @cached_property
    def numbers(self) -> tuple[Tensor, ...]:
        """What each trial's law has of its own, as columns (P, 1)."""
        found: list[tuple[Any, ...]] = []
        for law in self._laws:
            if isinstance(law, Grid):
                found.append((float(law.lowest), float(law.highest)))
            else:
                smallest = 0.0 if law.has_zero else law.smallest
                found.append((law.mantissa, law.least_exponent, law.largest, law.beyond, smallest))
        return tuple(column.to(self._device)[:, None] for column in _columns(found))

    @cached_property
    def group(self) -> Any:
        """The same for the kernels: their Grids or Floatings."""
        law, columns = self._laws[0], [column.numpy()[:, 0] for column in self.numbers]
        if isinstance(law, Grid):
            lowest, highest = columns
            return kernels.Grids(lowest, highest, OVERFLOWS[law.overflow])
        return kernels.Floatings(*columns)

    def round(self, w: Tensor, noise: Tensor | None, scale: Tensor, first: int, exact: bool) -> None:
        """Round rows (R, n) in place.

        Args:
            noise: (n,), where the mode draws.
            scale: (R, G) float64, of groups of n / G values.
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
        law, groups = self._laws[0], w.view(*scale.shape, -1)
        drawn = None if noise is None else noise.view(scale.shape[1], -1)
        columns = [column[..., None] for column in numbers]
        if isinstance(law, Grid):
            ends = columns[0], columns[1]
            groups.copy_(laws.to_grid(groups, drawn, self._mode, scale[..., None], *ends, law.overflow))
        else:
            groups.copy_(laws.to_floating(groups, drawn, self._mode, scale[..., None], *columns))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[Tensor]:
    """Columns of numbers: integers as int64, all others as float64."""
    dtypes = [torch.int64 if isinstance(value, int) else torch.float64 for value in rows[0]]
    return [torch.tensor(column, dtype=d) for column, d in zip(zip(*rows, strict=True), dtypes, strict=True)]
