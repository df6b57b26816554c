"""Which values share a scale: tensors cut into groups, each a run of one row, and put together again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from qsweep.formats import KMeans, Scaled, name_of

LAST = -1


@dataclass(frozen=True)
class Layout:
    """The groups of tensors of one shape.

    Attributes:
        shape: of a tensor, without the dimension of trials in front.
        per: `tensor`, `channel`, or how many values along the axis are a group.
        axis: of the channels, or along which groups run; counted from 0.
    """

    shape: tuple[int, ...]
    per: int | str
    axis: int

    @cached_property
    def _row(self) -> int:
        """Values of what is cut into groups: the tensor, a channel, or a line along the axis."""
        if self.per == "tensor":
            return math.prod(self.shape)
        return self.shape[self.axis] if isinstance(self.per, int) else math.prod(self.shape) // self.shape[self.axis]

    @cached_property
    def width(self) -> int:
        """Values of a group; the last one of a row is filled up to it."""
        return max(1, min(self.per, self._row) if isinstance(self.per, int) else self._row)

    @cached_property
    def _in_row(self) -> int:
        return -(-self._row // self.width)

    @cached_property
    def counts(self) -> Tensor:
        """How many values of the tensor each group has, (G,)."""
        last = self._row - (self._in_row - 1) * self.width
        row = [self.width] * (self._in_row - 1) + [last]
        return torch.tensor(row * (math.prod(self.shape) // max(self._row, 1)))

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
        lines = self._turned(values).reshape(len(values), -1, self._row)
        missing = self._in_row * self.width - self._row
        if missing:
            lines = torch.cat([lines, lines[..., LAST:].expand(-1, -1, missing)], LAST)
        return lines.reshape(len(values), -1).contiguous()

    def put(self, rows: Tensor, values: Tensor) -> None:
        """Write rows, as `rows` gave them, back into tensors (P, *shape)."""
        if rows.data_ptr() == values.data_ptr():  # they lie as rows do, and were rounded where they lie
            return
        turned = self._turned(values)
        turned.copy_(rows.view(len(values), -1, self._in_row * self.width)[..., : self._row].reshape(turned.shape))


def layout_of(fmt: Scaled | KMeans, shape: Sequence[int], contraction: int = LAST) -> Layout:
    """The groups that a format makes of a tensor.

    Args:
        contraction: the axis along which a product sums, where the format leaves the axis open.

    A tensor of one axis has no other to choose: it takes that, whichever the format names.

    Raises:
        ValueError: the tensor has several axes, and lacks the one that the format names.
    """
    axis = fmt.axis if isinstance(fmt.axis, int) else contraction if isinstance(fmt.per, int) else 0
    return _layout(name_of(fmt), shape, fmt.per, axis)


def channels_of(name: str, shape: Sequence[int], axis: int) -> Layout:
    """A group for each index of an axis; errors name the format as it is called."""
    return _layout(name, shape, "channel", axis)


def _layout(name: str, shape: Sequence[int], per: int | str, axis: int) -> Layout:
    dims = tuple(shape) or (1,)
    if len(dims) == 1:  # biases beside weights: they take the axis that they have, whichever is named
        axis = 0
    if not -len(dims) <= axis < len(dims):
        raise ValueError(f"{name}: a tensor of shape {tuple(shape)} has no axis {axis}")
    return Layout(dims, per, axis % len(dims))
