"""Which values share a scale: the arithmetic of groups, each a run of one row of a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from qsweep.parameter import BadValueError

LAST = -1


@dataclass(frozen=True)
class Grouping:
    """The groups of tensors of one shape.

    Attributes:
        shape: of a tensor, at least one dimension.
        per: `tensor`, `channel`, or how many values along the axis form a group.
        axis: of the channels, or along which groups run; counted from 0.
    """

    shape: tuple[int, ...]
    per: int | str
    axis: int

    @cached_property
    def row(self) -> int:
        """How many values a row has, which is split into groups: the tensor, a channel, or a line along the axis."""
        if self.per == "tensor":
            return math.prod(self.shape)
        return self.shape[self.axis] if isinstance(self.per, int) else math.prod(self.shape) // self.shape[self.axis]

    @cached_property
    def width(self) -> int:
        """Values per group; the last group of a row may have fewer."""
        return max(1, min(self.per, self.row) if isinstance(self.per, int) else self.row)

    @cached_property
    def in_row(self) -> int:
        """Groups per row."""
        return -(-self.row // self.width)

    @cached_property
    def row_count(self) -> int:
        return math.prod(self.shape) // max(self.row, 1)

    @property
    def count(self) -> int:
        """Groups per tensor."""
        return self.row_count * self.in_row


def grouping(name: str, shape: Sequence[int], per: int | str, axis: int | str, contraction: int = LAST) -> Grouping:
    """The groups of a tensor in a format.

    Args:
        name: the format's, for errors.
        axis: the format's; `auto` if it does not set one.
        contraction: the axis along which a matrix product sums; groups run along it if `axis` is `auto`.

    A vector has only one axis, which is used whatever the format sets.

    Raises:
        BadValueError: the tensor has several axes, but not the format's.
    """
    dims = tuple(shape) or (1,)
    if not isinstance(axis, int):
        axis = contraction if isinstance(per, int) else 0
    if len(dims) == 1:  # biases beside weights: they have only one axis
        axis = 0
    if not -len(dims) <= axis < len(dims):
        raise BadValueError(f"{name}: a tensor of shape {tuple(shape)} has no axis {axis}")
    return Grouping(dims, per, axis % len(dims))
