"""Rounding a stack value by value."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from qsweep.formats import Float, Format, Grid, name_of
from qsweep.kernels import rounding as kernels
from qsweep.rounding import formulas, qtorch
from qsweep.rounding.modes import Mode, noise_array
from qsweep.rounding.way import Way

MANTISSA, LEAST_EXPONENT = 23, -126
"""Of float32."""


class OfValues(Way):
    """Each value by itself."""

    def round_whole(self, values: Tensor, noise: Tensor | None, first: int, contraction: int) -> None:
        raise TypeError(f"{name_of(self._shared)} rounds value by value: `round_rows`")

    @abstractmethod
    def _end_values(self, fmt: Any) -> tuple[float, float]:
        """The smallest and the largest value of a format; ±Inf if nothing is clipped."""

    def ends(self, trial: int) -> tuple[float, float]:
        """The smallest and the largest value of a trial's format."""
        low, high = self._ends
        return float(low[trial]), float(high[trial])

    @cached_property
    def _ends(self) -> tuple[Tensor, ...]:
        """Smallest and largest values of all trials' formats, (P,) each."""
        ends = zip(*map(self._end_values, self._formats), strict=True)
        return tuple(torch.tensor(e, dtype=torch.float32, device=self._device) for e in ends)

    def inside(self, values: Tensor, first: int, contraction: int) -> Tensor:
        ends = (column[first : first + len(values)] for column in self._ends)
        low, high = (column.view(-1, *[1] * (values.dim() - 1)) for column in ends)
        return (values >= low) & (values <= high)


class Unchanged(OfValues):
    """Float32."""

    def _round_rows(self, w: Tensor, noise: Tensor | None, first: int) -> None:
        pass

    def _end_values(self, fmt: Any) -> tuple[float, float]:
        return -math.inf, math.inf


class ToRange(OfValues):
    """To the levels of qsweep.formats.Range."""

    @cached_property
    def _columns(self) -> tuple[Tensor, ...]:
        """(P, 1) float32. Tensors, because CUDA divides by a Python number by multiplying with its reciprocal."""
        numbers = [(f.steps_per_unit, f.lowest, f.highest, not f.zero) for f in self._formats]
        return tuple(
            torch.tensor(c, dtype=torch.float32, device=self._device)[:, None] for c in zip(*numbers, strict=True)
        )

    @cached_property
    def _ranges(self) -> kernels.Ranges:
        """The same for the kernel."""
        return kernels.Ranges(*(column.numpy()[:, 0] for column in self._columns))

    def _round_rows(self, w: Tensor, noise: Tensor | None, first: int) -> None:
        if self._has_kernels:
            kernels.to_range(w.numpy(), noise_array(noise), first, self._ranges, self._mode.numbers)
        else:
            rows = slice(first, first + len(w))
            w.copy_(formulas.to_range(w, noise, self._mode, *[column[rows] for column in self._columns]))

    def _end_values(self, fmt: Any) -> tuple[float, float]:
        return fmt.lowest * fmt.step, fmt.highest * fmt.step


class ToElements(OfValues):
    """To a grid or floating point without a data-dependent scale."""

    @cached_property
    def _steps(self) -> Tensor:
        """The scale of each format: its step, (P, 1) float64."""
        steps = [f.elements.step if isinstance(f.elements, Grid) else 1.0 for f in self._formats]
        return torch.tensor(steps, dtype=torch.float64, device=self._device)[:, None]

    def _round_rows(self, w: Tensor, noise: Tensor | None, first: int) -> None:
        self._elements.round(w, noise, self._steps[first : first + len(w)], first, exact=True)

    def _end_values(self, fmt: Any) -> tuple[float, float]:
        own = fmt.elements
        if not isinstance(own, Grid):
            return -own.largest, own.largest
        return (own.lowest * own.step, own.largest) if own.overflow == "saturate" else (-math.inf, math.inf)


class ToShorter(ToElements):
    """To float32 with fewer mantissa bits, to nearest, by a kernel."""

    @staticmethod
    def fits(formats: Sequence[Format], mode: Mode) -> bool:
        """Whether all formats are float32 with fewer mantissa bits."""
        shorter: list[Any] = [f.elements for f in formats if isinstance(f, Float) and 0 < f.mantissa < MANTISSA]
        is_alike = len(shorter) == len(formats) and all(own.beyond == math.inf for own in shorter)
        return mode.number == 0 and is_alike and {own.least_exponent for own in shorter} == {LEAST_EXPONENT}

    def _round_rows(self, w: Tensor, noise: Tensor | None, first: int) -> None:
        kernels.to_shorter(w.numpy(), first, self._elements.group.mantissa)


class AsQtorch(ToElements):
    """Fixed and floating point by QPyTorch's rules."""

    @cached_property
    def _rows(self) -> qtorch.Rows:
        return qtorch.Rows(self._formats)

    def _round_rows(self, w: Tensor, noise: Tensor | None, first: int) -> None:
        self._rows.elementwise(w, noise, first)
