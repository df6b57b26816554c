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
        """Whether a value depends on others of its tensor, so that only whole tensors can be rounded."""
        return isinstance(self._way, OfGroups)

    @property
    def by_rows(self) -> bool:
        """Whether `round_rows` can round it: value by value, or a row that is a whole tensor under one scale."""
        shared = self.formats[0]
        return not self.whole or (isinstance(shared, Scaled) and shared.per == "tensor")

    @property
    def keeps_parts(self) -> bool:
        """Whether rounded values stay as they are when some of them, with zeros or without, are rounded again."""
        return self._way.keeps_parts

    def is_like(self, other: Stack) -> bool:
        """Whether both round in the same way."""
        return self.formats == other.formats and self.mode == other.mode and self.device == other.device

    @property
    def draws(self) -> int:
        """Number of uniform random numbers per value; if it is above 1, noise has it in front of the tensor's shape."""
        return self.formats[0].draws if self.mode.draws else 0

    def round_rows(self, w: Tensor, noise: Tensor | None = None, first: int = 0, out: Tensor | None = None) -> None:
        """Round values one by one, or rows that are whole tensors (see `by_rows`).

        Args:
            w: rows (R, n), float32, contiguous.
            noise: (n,) for all rows, where the mode draws.
            first: the format of row 0 among those of the stack.
            out: where the rounded values go, apart from `w`; None: they take the place of `w`.
        """
        self._way.round_rows(w, w if out is None else out, noise, first)

    def round_whole(self, values: Tensor, noise: Tensor | None = None, first: int = 0, contraction: int = LAST) -> None:
        """Round whole tensors whose values share scales, in place.

        Args:
            values: (R, *shape), float32, lying in memory in any order.
            noise: (*shape), where the mode draws.
            contraction: the axis of the shape along which groups run, where the format leaves it open.
        """
        self._way.round_whole(values, noise, first, contraction)

    def same_codes(self, before: Tensor, after: Tensor, first: int = 0, contraction: int = LAST) -> Tensor:
        """Where stored values (R, *shape) have one code before and after a step: where both round to nearest alike
        under the scales of what is stored after it. Where a scale does not drift, or a group has one value, which its
        scale follows whole: where the values are equal.
        """
        return self._way.same_codes(before, after, first, contraction)

    def inside(self, values: Tensor, first: int = 0, contraction: int = LAST) -> Tensor:
        """Where values are not clipped: between the least and the greatest value of their format, inclusive.

        Args:
            values: (R, *shape).
            first: the format of row 0 among those of the stack.
        """
        return self._way.inside(values, first, contraction)

    def ends(self, trial: int) -> tuple[float, float]:
        """The least and the greatest value of a trial's format, where values round one by one."""
        assert isinstance(self._way, OfValues)  # noqa: S101
        return self._way.ends(trial)
