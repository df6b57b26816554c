"""A stack of formats: the values of P trials rounded together, each row in its own format.

The trials share the family, the rounding mode and all parameters that are not declared `stacks`. On a CPU the kernels
round in place; elsewhere tensor operations do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qsweep.formats import Format, Scaled
from qsweep.formats.groups import LAST
from qsweep.rounding.by_group import OfGroups
from qsweep.rounding.by_value import OfValues
from qsweep.rounding.modes import Mode
from qsweep.rounding.ways import way_of


class Stack:
    """P formats of one family with one rounding mode."""

    def __init__(self, formats: Sequence[Format], rounding: str = "nearest", device: str = "cpu") -> None:
        self.formats = list(formats)
        self.mode = Mode(rounding)
        self.device = torch.device(device)
        self._way = way_of(self.formats, self.mode, self.device, has_kernels=self.device.type == "cpu")

    @property
    def whole(self) -> bool:
        """Whether the result of a value depends on others of its tensor, so that only whole tensors can be rounded."""
        return isinstance(self._way, OfGroups)

    @property
    def by_rows(self) -> bool:
        """Whether `round_rows` applies: values round one by one, or each row is a whole tensor under one scale."""
        shared = self.formats[0]
        return not self.whole or (isinstance(shared, Scaled) and shared.per == "tensor")

    @property
    def keeps_parts(self) -> bool:
        """Whether rounding a subset of rounded values again, with zeros or without, leaves them unchanged."""
        return self._way.keeps_parts

    def is_like(self, other: Stack) -> bool:
        """Whether both round in the same way."""
        return self.formats == other.formats and self.mode == other.mode and self.device == other.device

    @property
    def draws(self) -> int:
        """Number of uniform random numbers per value; above 1, it is the first dimension of noise."""
        return self.formats[0].draws if self.mode.draws else 0

    def round_rows(self, w: Tensor, noise: Tensor | None = None, first: int = 0, out: Tensor | None = None) -> None:
        """Round values one by one, or rows that are whole tensors (see `by_rows`).

        Args:
            w: rows (R, n), float32, contiguous.
            noise: (n,) for all rows, if the mode is stochastic.
            first: the format of row 0 among those of the stack.
            out: the result; in place if None.
        """
        self._way.round_rows(w, w if out is None else out, noise, first)

    def round_whole(self, values: Tensor, noise: Tensor | None = None, first: int = 0, contraction: int = LAST) -> None:
        """Round whole tensors whose values share scales, in place.

        Args:
            values: (R, *shape), float32, in any memory layout.
            noise: (*shape), if the mode is stochastic.
            contraction: the axis of the shape along which groups run, if the format does not set it.
        """
        self._way.round_whole(values, noise, first, contraction)

    def same_codes(self, before: Tensor, after: Tensor, first: int = 0, contraction: int = LAST) -> Tensor:
        """Where stored values (R, *shape) have the same code before and after a step: both round to the same nearest
        element under the scales after the step. If the scale does not drift, or a group has a single value, which
        determines its scale, the values themselves are compared.
        """
        return self._way.same_codes(before, after, first, contraction)

    def inside(self, values: Tensor, first: int = 0, contraction: int = LAST) -> Tensor:
        """Where values are not clipped: between the smallest and the largest value of their format, inclusive.

        Args:
            values: (R, *shape).
            first: the format of row 0 among those of the stack.
        """
        return self._way.inside(values, first, contraction)

    def ends(self, trial: int) -> tuple[float, float]:
        """The smallest and the largest value of a trial's format, for formats that round values one by one."""
        assert isinstance(self._way, OfValues)  # noqa: S101
        return self._way.ends(trial)
