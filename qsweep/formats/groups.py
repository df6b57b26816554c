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
        shape: of a tensor, one dimension at least.
        per: `tensor`, `channel`, or how many values along the axis are a group.
        axis: of the channels, or along which groups run; counted from 0.
    """

    shape: tuple[int, ...]
    per: int | str
    axis: int

    @cached_property
    def row(self) -> int:
        """Values of what is cut into groups: the tensor, a channel, or a line along the axis."""
        if self.per == "tensor":
            return math.prod(self.shape)
        return self.shape[self.axis] if isinstance(self.per, int) else math.prod(self.shape) // self.shape[self.axis]

    @cached_property
    def width(self) -> int:
        """Values of a group; the last one of a row may have fewer."""
        return max(1, min(self.per, self.row) if isinstance(self.per, int) else self.row)

    @cached_property
    def in_row(self) -> int:
        """Groups of a row."""
        return -(-self.row // self.width)

    @cached_property
    def row_count(self) -> int:
        return math.prod(self.shape) // max(self.row, 1)

    @property
    def count(self) -> int:
        """Groups of a tensor."""
        return self.row_count * self.in_row


def grouping(name: str, shape: Sequence[int], per: int | str, axis: int | str, contraction: int = LAST) -> Grouping:
    """The groups that a format makes of a tensor.

    Args:
        name: of the format, for errors.
        axis: as the format names it, `auto` where it leaves it open.
        contraction: the axis along which a product sums, along which groups run where the axis is open.

    A tensor of one axis has no other to choose: it takes that, whichever the format names.

    Raises:
        BadValueError: the tensor has several axes, and lacks the one that the format names.
    """
    dims = tuple(shape) or (1,)
    if not isinstance(axis, int):
        axis = contraction if isinstance(per, int) else 0
    if len(dims) == 1:  # biases beside weights: they take the axis that they have, whichever is named
        axis = 0
    if not -len(dims) <= axis < len(dims):
        raise BadValueError(f"{name}: a tensor of shape {tuple(shape)} has no axis {axis}")
    return Grouping(dims, per, axis % len(dims))
