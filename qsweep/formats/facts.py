"""What follows from the codes of a format: how many numbers it has, how large, how small, under which scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qsweep.formats.elements import Grid
from qsweep.formats.family import Format
from qsweep.formats.groups import LAST, grouping
from qsweep.formats.names import name_of
from qsweep.formats.scale import Scale
from qsweep.formats.scaled import Scaled


@dataclass(frozen=True)
class Facts:
    """The facts of a format. Numbers are in units of its scale, where it has one; None is what it does not have.

    Attributes:
        bits: of one element.
        fields: what these bits are, in words.
        levels: different numbers; 0 counts once.
        normal: the smallest normal number.
        subnormal: the smallest number above 0, where that is smaller still.
        step: between neighbours, where all of them are equally far.
        nans: codes that are NaN.
    """

    name: str
    bits: int | None = None
    fields: str = ""
    levels: int | None = None
    largest: float | None = None
    lowest: float | None = None
    normal: float | None = None
    subnormal: float | None = None
    step: float | None = None
    has_inf: bool = False
    nans: int = 0
    scale: Scale | None = None

    @property
    def bits_a_value(self) -> float | None:
        """With the value's part of the scale, where a known number of values share it."""
        if self.bits is None or self.scale is None or not isinstance(self.scale.per, int):
            return self.bits
        return self.bits + self.scale.bits / self.scale.per

    @property
    def is_symmetric(self) -> bool:
        """Whether the lowest is minus the largest."""
        return self.largest is None or self.lowest is None or self.lowest == -self.largest

    @property
    def specials(self) -> str:
        """Inf and NaN, where there are codes for them."""
        return " ".join(["Inf"] * self.has_inf + ["NaN"] * (self.nans > 0))


def facts(fmt: Format) -> Facts:
    """The facts of a format, without a look at each of its numbers."""
    name, code = name_of(fmt), fmt.code
    if code is None:
        return Facts(name, step=fmt.elements.step if isinstance(fmt.elements, Grid) else None)
    return Facts(
        name,
        bits=code.bits,
        fields=code.fields,
        levels=code.levels,
        largest=code.largest,
        lowest=code.lowest,
        normal=code.normal,
        subnormal=code.subnormal,
        step=code.step,
        has_inf=code.has_inf,
        nans=code.nans,
        scale=fmt.group_scale,
    )


def stored_bits(fmt: Format, shape: Sequence[int], contraction: int = LAST) -> int | None:
    """The bits of a tensor in a format: of its values' codes, and of the scales of its groups.

    None of formats that have no code of so many bits.

    Args:
        contraction: the axis along which groups run, where the format leaves it open.

    Raises:
        ValueError: the tensor lacks the axis that the format names.
    """
    code, own, count = fmt.code, fmt.group_scale, math.prod(shape)
    if code is None:
        return None
    if own is None or not count:
        return count * code.bits
    assert isinstance(fmt, Scaled)  # noqa: S101
    groups = grouping(name_of(fmt), shape, own.per, fmt.axis, contraction)
    return count * code.bits + groups.count * own.bits + own.tensor_bits
