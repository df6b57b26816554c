"""Which values share a scale: tensors cut into groups, each a run of one row, and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from qsweep.formats import KMeans, Scaled, name_of
from qsweep.formats.groups import LAST, Grouping, grouping


class Layout(Grouping):
    """The groups of tensors of one shape, without the dimension of trials in front, as tensors have them."""

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
        """(P, G · width), contiguous, from tensors (P, *shape). What fills a group up is its last value once more."""
        lines = self._turned(values).reshape(len(values), -1, self.row)
        missing = self.in_row * self.width - self.row
        if missing:
            lines = torch.cat([lines, lines[..., LAST:].expand(-1, -1, missing)], LAST)
        return lines.reshape(len(values), -1).contiguous()

    def put(self, rows: Tensor, values: Tensor) -> None:
        """Write rows, as `rows` gave them, back into tensors (P, *shape)."""
        if rows.data_ptr() == values.data_ptr():  # they lie as rows do, and were rounded where they lie
            return
        turned = self._turned(values)
        turned.copy_(rows.view(len(values), -1, self.in_row * self.width)[..., : self.row].reshape(turned.shape))


def layout_of(fmt: Scaled | KMeans, shape: Sequence[int], contraction: int = LAST) -> Layout:
    """The groups that a format makes of a tensor, as `grouping` has them."""
    return _layout(grouping(name_of(fmt), shape, fmt.per, fmt.axis, contraction))


def channels_of(name: str, shape: Sequence[int], axis: int) -> Layout:
    """A group for each index of an axis; errors name the format as it is called."""
    return _layout(grouping(name, shape, "channel", axis))


def _layout(own: Grouping) -> Layout:
    return Layout(own.shape, own.per, own.axis)
