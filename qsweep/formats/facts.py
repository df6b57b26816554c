"""Facts that follow from the codes of a format: how many numbers it has, their range, their scale."""

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
    """The facts of a format. Numbers are in units of its scale, if it has one; None is what it does not have.

    Attributes:
        bits: of one element.
        fields: a description of these bits.
        levels: how many distinct numbers; 0 counts once.
        normal: the smallest normal number.
        subnormal: the smallest subnormal number above 0.
        step: between neighbours, if evenly spaced.
        nans: how many codes are NaN.
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
    def bits_per_value(self) -> float | None:
        """Including the value's part of the scale, if a known number of values share it."""
        if self.bits is None or self.scale is None or not isinstance(self.scale.per, int):
            return self.bits
        return self.bits + self.scale.bits / self.scale.per

    @property
    def is_symmetric(self) -> bool:
        """Whether the lowest number is minus the largest."""
        return self.largest is None or self.lowest is None or self.lowest == -self.largest

    @property
    def specials(self) -> str:
        """Inf and NaN, as far as there are codes for them."""
        return " ".join(["Inf"] * self.has_inf + ["NaN"] * (self.nans > 0))


def facts(fmt: Format) -> Facts:
    """The facts of a format, without listing its numbers."""
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
    """The bits of a tensor in a format: the codes of its values and the scales of its groups.

    None for formats without a code of a fixed length.

    Args:
        contraction: the axis along which groups run, if the format does not set it.

    Raises:
        ValueError: the tensor does not have the format's axis.
    """
    code, own, count = fmt.code, fmt.group_scale, math.prod(shape)
    if code is None:
        return None
    if own is None or not count:
        return count * code.bits
    assert isinstance(fmt, Scaled)  # noqa: S101
    groups = grouping(name_of(fmt), shape, own.per, fmt.axis, contraction)
    return count * code.bits + groups.count * own.bits + own.tensor_bits
