"""Which values share a scale: tensors split into groups, each a run of one row, and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from qsweep.formats import KMeans, Scaled, name_of
from qsweep.formats.groups import LAST, Grouping, grouping


class Layout(Grouping):
    """The groups of tensors of one shape, which leaves out the leading dimension of trials."""

    @cached_property
    def counts(self) -> Tensor:
        """How many values of the tensor each group has, (G,)."""
        last = self.row - (self.in_row - 1) * self.width
        return torch.tensor(([self.width] * (self.in_row - 1) + [last]) * self.row_count)

    def _order(self) -> list[int]:
        """The permutation that puts channels in front, or the axis of groups at the end."""
        others = [d for d in range(len(self.shape)) if d != self.axis]
        return [*others, self.axis] if isinstance(self.per, int) else [self.axis, *others]

    def _turned(self, values: Tensor) -> Tensor:
        if self.per == "tensor":
            return values
        return values.permute(0, *(d + 1 for d in self._order()))

    def rows(self, values: Tensor) -> Tensor:
        """(P, G · width), contiguous, from tensors (P, *shape). Short groups are padded with their last value."""
        lines = self._turned(values).reshape(len(values), -1, self.row)
        missing = self.in_row * self.width - self.row
        if missing:
            lines = torch.cat([lines, lines[..., LAST:].expand(-1, -1, missing)], LAST)
        return lines.reshape(len(values), -1).contiguous()

    def put(self, rows: Tensor, values: Tensor) -> None:
        """Write rows, in the order of `rows`, back into tensors (P, *shape)."""
        if rows.data_ptr() == values.data_ptr():  # `rows` is a view of `values`, rounded in place
            return
        turned = self._turned(values)
        turned.copy_(rows.view(len(values), -1, self.in_row * self.width)[..., : self.row].reshape(turned.shape))


def layout_of(fmt: Scaled | KMeans, shape: Sequence[int], contraction: int = LAST) -> Layout:
    """The groups of a tensor in a format; see `grouping`."""
    return _layout(grouping(name_of(fmt), shape, fmt.per, fmt.axis, contraction))


def channels_of(name: str, shape: Sequence[int], axis: int) -> Layout:
    """A group per index of an axis; `name` is the format's, for messages."""
    return _layout(grouping(name, shape, "channel", axis))


def _layout(own: Grouping) -> Layout:
    return Layout(own.shape, own.per, own.axis)
